# SPDX-License-Identifier: Apache-2.0
"""A sparse file of 2 TiB; every L2 entry leads to another megabyte of it, so that a count each needs memory elsewhere."""
import struct

from qcow2 import COPIED, Image

i = Image(bits=12)
i.finish()
i.put(24, 8 << 30)
i.put(36, 1 << 12, "I")
at = 1 << 20
i.put(40, at)
with open("image", "wb") as out:
    out.write(i.data())
    out.seek(at)
    out.write(b"".join(struct.pack(">Q", COPIED | (2 << 20) + (n << 12)) for n in range(1 << 8)))
    out.seek(2 << 20)
    for n in range(1 << 8):
        out.write(b"".join(struct.pack(">Q", COPIED | (16 << 20) + ((n << 9 | k) << 24)) for k in range(512)))
    out.truncate(1 << 41)
