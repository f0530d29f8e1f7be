# SPDX-License-Identifier: Apache-2.0
"""header_length 120: eight bytes of header that nobody knows, zero."""
from qcow2 import Image

i = Image()
i.header_length = 120
for n in range(4):
    i.write(n)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
