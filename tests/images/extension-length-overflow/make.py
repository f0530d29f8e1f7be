# SPDX-License-Identifier: Apache-2.0
"""A header extension of 2^32 - 1 bytes."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(112, 0x12345678, "I")
i.put(116, 0xFFFFFFFF, "I")
i.save()
