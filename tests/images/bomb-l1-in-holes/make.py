# SPDX-License-Identifier: Apache-2.0
"""A sparse file of 1 TiB; four million L1 entries lead to different L2 tables in its holes."""
import struct

from qcow2 import COPIED, Image

i = Image(bits=16)
i.finish()
i.put(24, 1 << 46)
i.put(36, 1 << 18, "I")
i.put(40, 1 << 20)
with open("image", "wb") as out:
    out.write(i.data())
    out.seek(1 << 20)
    for n in range(0, 1 << 18, 4096):
        out.write(b"".join(struct.pack(">Q", COPIED | (1 << 30) + ((n + k) << 18)) for k in range(4096)))
    out.truncate(1 << 40)
