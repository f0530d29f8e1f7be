# SPDX-License-Identifier: Apache-2.0
"""header_length 104: no compression type."""
from qcow2 import Image

i = Image()
i.header_length = 104
for n in range(4):
    i.write(n)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
