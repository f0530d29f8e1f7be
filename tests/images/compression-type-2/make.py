# SPDX-License-Identifier: Apache-2.0
"""A compression type that nobody knows."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(72, 8)
i.put(104, 2, "B")
i.save()
