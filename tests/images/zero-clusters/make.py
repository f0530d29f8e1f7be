# SPDX-License-Identifier: Apache-2.0
"""Zero clusters with a host cluster and without, over a backing file; what is not allocated comes from there."""
from qcow2 import BACKING_FORMAT, COPIED, Image, ZERO, pattern

backing = pattern(77, 64 * 512)
open("base", "wb").write(backing)
i = Image()
i.backing = b"base"
i.extend(BACKING_FORMAT, b"raw")
i.write(0, flags=COPIED | ZERO)
i.set(1, ZERO)
i.write(2)
i.finish().save()
zero = bytes(512)
i.content({n: {0: zero, 1: zero, 2: None}.get(n, backing[n * 512 : n * 512 + 512]) for n in range(64)})
