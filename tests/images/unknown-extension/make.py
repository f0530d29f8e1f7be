# SPDX-License-Identifier: Apache-2.0
"""A header extension that nobody knows is left alone."""
from qcow2 import Image

i = Image()
i.extend(0x12345678, b"some data")
for n in range(4):
    i.write(n)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
