# SPDX-License-Identifier: Apache-2.0
"""COPIED is not set where the refcount is one: harmless."""
from qcow2 import Image, OFFSET

i = Image()
for n in range(4):
    i.write(n, flags=0)
i.finish()
i.put(i.l1, i.get(i.l1) & OFFSET)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
