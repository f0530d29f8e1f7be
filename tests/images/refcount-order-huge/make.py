# SPDX-License-Identifier: Apache-2.0
"""refcount_order of 2^31 must not become a shift."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(96, 2147483648, "I")
i.save()
