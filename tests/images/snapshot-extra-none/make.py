# SPDX-License-Identifier: Apache-2.0
"""Version 3 with a snapshot entry without extra data."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.snapshot(extra=0)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
