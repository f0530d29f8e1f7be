# SPDX-License-Identifier: Apache-2.0
"""A cluster in use has refcount 0: it would be given away."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.set_refcount(6, 0)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
