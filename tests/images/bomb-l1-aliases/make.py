# SPDX-License-Identifier: Apache-2.0
"""An L1 of 32 MiB, each of its four million entries leading to one full L2 table."""
import struct

from qcow2 import Image

i = Image()
for n in range(64):
    i.write(n)
i.finish()
at = len(i.data())
i.put(24, (4 << 20) * 64 * 512)
i.put(36, 4 << 20, "I")
i.put(40, at)
with open("image", "wb") as out:
    out.write(i.data())
    out.write(struct.pack(">Q", i.get(i.l1)) * (4 << 20))
