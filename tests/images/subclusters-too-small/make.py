# SPDX-License-Identifier: Apache-2.0
"""Extended L2 with clusters of 512 bytes."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(72, 16)
i.save()
