# SPDX-License-Identifier: Apache-2.0
"""The corrupt bit is set: may be read."""
from qcow2 import CORRUPT, Image

i = Image(incompatible=CORRUPT)
for n in range(4):
    i.write(n)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
