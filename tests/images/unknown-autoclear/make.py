# SPDX-License-Identifier: Apache-2.0
"""Unknown compatible and autoclear features do not matter to a reader."""
from qcow2 import Image

i = Image(compatible=1 << 40, autoclear=1 << 41)
for n in range(4):
    i.write(n)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
