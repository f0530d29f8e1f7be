# SPDX-License-Identifier: Apache-2.0
"""Refcounts of clusters behind the end of the file do not matter."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.set_refcount(100, 5)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
