# SPDX-License-Identifier: Apache-2.0
"""Version 2: a header of 72 bytes."""
from qcow2 import Image

i = Image(version=2)
for n in range(4):
    i.write(n)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
