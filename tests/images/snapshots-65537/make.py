# SPDX-License-Identifier: Apache-2.0
"""More snapshots than there may be."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(60, 65537, "I")
i.save()
