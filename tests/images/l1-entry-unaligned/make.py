# SPDX-License-Identifier: Apache-2.0
"""An L1 entry that leads to the middle of a cluster."""
from qcow2 import Image

i = Image(bits=12)
for n in range(4):
    i.write(n, bytes(4096))
i.finish()
i.put(i.l1, i.get(i.l1) + 512)
i.save()
