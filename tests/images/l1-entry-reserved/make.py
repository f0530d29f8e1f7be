# SPDX-License-Identifier: Apache-2.0
"""Reserved bits in an L1 entry."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(i.l1, i.get(i.l1) | 0x11 | 1 << 60)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
