# SPDX-License-Identifier: Apache-2.0
"""Extended L2: data, zeros and what is in the backing file within one cluster."""
from qcow2 import BACKING_FORMAT, EXTENDED_L2, Image, pattern

i = Image(bits=14, incompatible=EXTENDED_L2)
i.backing = b"base"
i.extend(BACKING_FORMAT, b"raw")
backing = pattern(9, 1 << 14)
open("base", "wb").write(backing)
i.write(0, bitmap=0xFF << 32 + 8 | 0xFF)
i.write(1, bitmap=0xFFFFFFFF << 32)
i.set(2, 0, 0xFFFFFFFF << 32)
i.finish().save()
own = pattern(0, 1 << 14)
i.content({0: own[: 8 * 512] + bytes(8 * 512) + backing[16 * 512 :]})
