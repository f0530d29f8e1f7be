# SPDX-License-Identifier: Apache-2.0
"""Two clusters that nobody uses have refcounts, one in use has too high a one."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.new(2)
i.set_refcount(9, 1)
i.set_refcount(10, 7)
i.set_refcount(0, 3)
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
