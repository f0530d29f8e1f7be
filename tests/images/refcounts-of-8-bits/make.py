# SPDX-License-Identifier: Apache-2.0
"""Refcounts of another width."""
from qcow2 import Image

i = Image(order=3)
for n in range(4):
    i.write(n)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
