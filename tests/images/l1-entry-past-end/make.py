# SPDX-License-Identifier: Apache-2.0
"""An L1 entry that leads far behind the end of the file."""
from qcow2 import COPIED, Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(i.l1, COPIED | 1 << 40)
i.save()
