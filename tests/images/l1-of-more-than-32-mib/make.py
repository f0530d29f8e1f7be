# SPDX-License-Identifier: Apache-2.0
"""An L1 of 32 MiB and 8 bytes."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(36, 4194305, "I")
i.save()
