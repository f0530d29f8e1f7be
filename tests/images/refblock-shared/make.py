# SPDX-License-Identifier: Apache-2.0
"""Two entries of the refcount table lead to one block."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(i.reftable + 8, i.refblock)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
