# SPDX-License-Identifier: Apache-2.0
"""The L1 table of a snapshot has 2^32 - 1 entries; reading the snapshot is refused."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.snapshot()
i.finish()
i.put(i.snapshot_table + 8, 0xFFFFFFFF, "I")
i.save()
