# SPDX-License-Identifier: Apache-2.0
"""A refcount block behind the end of the file."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(i.reftable, 1 << 40)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
