# SPDX-License-Identifier: Apache-2.0
"""A disk of nearly 2^63 bytes."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(24, 9223372036854775296, "Q")
i.save()
