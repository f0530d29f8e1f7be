# SPDX-License-Identifier: Apache-2.0
"""A snapshot whose name has control characters and is no UTF-8."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.snapshot(name=b"\x1b[2J\xff\n")
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
