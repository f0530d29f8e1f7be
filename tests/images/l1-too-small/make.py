# SPDX-License-Identifier: Apache-2.0
"""The disk is larger than the L1 can map."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(24, 1099511627776, "Q")
i.save()
