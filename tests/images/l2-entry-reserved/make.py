# SPDX-License-Identifier: Apache-2.0
"""Reserved bits in an L2 entry."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(i.l2(1), i.get(i.l2(1)) | 0x10 | 1 << 58)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
