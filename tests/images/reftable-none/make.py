# SPDX-License-Identifier: Apache-2.0
"""No refcount table."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(56, 0, "I")
i.save()
