# SPDX-License-Identifier: Apache-2.0
"""The file ends within its last cluster, as images do."""
from qcow2 import Image, pattern

i = Image()
for n in range(4):
    i.write(n)
i.finish().save(length=9 * 512 - 100)
i.content({0: None, 1: None, 2: None, 3: pattern(3, 412)})
