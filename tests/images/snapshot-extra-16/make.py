# SPDX-License-Identifier: Apache-2.0
"""A snapshot entry with 16 bytes of extra data: no instruction count."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.snapshot(extra=16)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
