# SPDX-License-Identifier: Apache-2.0
"""65536 snapshots that share one L1 table."""
import struct

from qcow2 import Image

i = Image()
for n in range(64):
    i.write(n)
i.finish()
l1 = i.new(1, i.clusters[i.l1 // 512])
data = bytearray(i.data())
entry = struct.pack(">QIHHIIQII", l1, 64, 1, 1, 0, 0, 0, 0, 16) + struct.pack(">QQ", 0, i.size) + b"1s"
struct.pack_into(">IQ", data, 60, 65536, len(data))
open("image", "wb").write(data + entry.ljust(64, b"\0") * 65536)
