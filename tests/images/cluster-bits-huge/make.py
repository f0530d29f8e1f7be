# SPDX-License-Identifier: Apache-2.0
"""cluster_bits of 2^32 - 1 must not become a shift."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(20, 4294967295, "I")
i.save()
