# SPDX-License-Identifier: Apache-2.0
"""One snapshot more than there may be, all of them in the table, each of an empty disk of no size."""
import struct

from qcow2 import Image

i = Image(bits=16, order=5)
for n in range(4):
    i.write(n)
l1 = i.new()
i.refer(l1, 65536)  # they share it; the one that is left out gives its reference up
for n in range(65537):
    ident = b"%05d" % n
    data = struct.pack(">QIHHIIQII", l1, 1, len(ident), 0, 0, 0, 0, 0, 24) + struct.pack(">QQQ", 0, 0, 2**64 - 1) + ident
    i.snapshots.append(data.ljust(-(-len(data) // 8) * 8, b"\0"))
i.finish().save()
