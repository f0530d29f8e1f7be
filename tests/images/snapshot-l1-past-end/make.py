# SPDX-License-Identifier: Apache-2.0
"""The L1 table of a snapshot lies behind the end of the file."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.snapshot()
i.finish()
i.put(i.snapshot_table, 1 << 40)
i.save()
