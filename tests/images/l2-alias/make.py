# SPDX-License-Identifier: Apache-2.0
"""Two L1 entries lead to one L2 table."""
from qcow2 import Image

i = Image(clusters=128)
for n in range(4):
    i.write(n)
i.finish()
i.put(i.l1 + 8, i.get(i.l1))
i.save()
