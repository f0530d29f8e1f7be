# SPDX-License-Identifier: Apache-2.0
"""A snapshot table far behind the end of the file."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(60, 3, "I")
i.put(64, 1 << 40)
i.save()
