# SPDX-License-Identifier: Apache-2.0
"""A backing file name that lies behind the header cluster."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(8, 1 << 20)
i.put(16, 10, "I")
i.save()
