# SPDX-License-Identifier: Apache-2.0
"""An L1 of 2^31 entries: nothing may be allocated for it."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(36, 2147483648, "I")
i.save()
