# SPDX-License-Identifier: Apache-2.0
"""Version 2 has no zero flag; bit 0 of an L2 entry is set."""
from qcow2 import Image, ZERO

i = Image(version=2)
for n in range(4):
    i.write(n)
i.finish()
i.put(i.l2(1), i.get(i.l2(1)) | ZERO)
i.save()
