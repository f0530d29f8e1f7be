# SPDX-License-Identifier: Apache-2.0
"""The snapshot is of a smaller disk: it is read at its own size."""
from qcow2 import Image

i = Image(clusters=64)
for n in range(40):
    i.write(n)
i.snapshot(size=20 * 512)
i.finish()
i.content({n: None for n in range(20)}, size=20 * 512)
i.save()
