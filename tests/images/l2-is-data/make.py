# SPDX-License-Identifier: Apache-2.0
"""A data cluster that is the L2 table itself."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(i.l2(9), i.get(i.l1))
i.save()
