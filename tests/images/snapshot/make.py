# SPDX-License-Identifier: Apache-2.0
"""A snapshot, and a cluster written since."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.snapshot()
i.own(1)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
