# SPDX-License-Identifier: Apache-2.0
"""The L1 table of a snapshot is not at the start of a cluster."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.snapshot()
i.finish()
i.put(i.snapshot_table, 0x1234)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
