# SPDX-License-Identifier: Apache-2.0
"""COPIED is set on a cluster that a snapshot shares: the next write would change the snapshot."""
from qcow2 import COPIED, Image

i = Image()
for n in range(4):
    i.write(n)
i.snapshot()
i.finish()
i.put(i.l2(2), i.get(i.l2(2)) | COPIED)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
