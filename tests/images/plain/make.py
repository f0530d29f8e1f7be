# SPDX-License-Identifier: Apache-2.0
"""Nothing is wrong: version 3, 512-byte clusters, four of 64 clusters in use."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
