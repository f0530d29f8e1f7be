# SPDX-License-Identifier: Apache-2.0
"""The snapshot table is overwritten."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.snapshot()
i.finish()
i.put(i.snapshot_table, b"\xa5" * 300)
i.save()
