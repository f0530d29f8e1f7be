# SPDX-License-Identifier: Apache-2.0
"""A refcount block in the middle of a cluster: no refcount is known."""
from qcow2 import Image

i = Image(bits=12)
for n in range(4):
    i.write(n)
i.finish()
i.put(i.reftable, i.refblock + 512)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
