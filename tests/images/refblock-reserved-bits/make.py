# SPDX-License-Identifier: Apache-2.0
"""Reserved bits in an entry of the refcount table."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(i.reftable, i.refblock | 1)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
