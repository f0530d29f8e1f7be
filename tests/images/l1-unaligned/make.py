# SPDX-License-Identifier: Apache-2.0
"""The L1 table is not at the start of a cluster."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(40, 1544, "Q")
i.save()
