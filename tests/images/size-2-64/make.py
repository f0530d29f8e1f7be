# SPDX-License-Identifier: Apache-2.0
"""A disk of 2^64 - 1 bytes."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(24, 18446744073709551615, "Q")
i.save()
