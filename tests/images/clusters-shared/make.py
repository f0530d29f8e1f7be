# SPDX-License-Identifier: Apache-2.0
"""Two guest clusters in one host cluster."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(i.l2(1), i.get(i.l2(0)))
i.save()
