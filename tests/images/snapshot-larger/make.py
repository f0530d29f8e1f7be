# SPDX-License-Identifier: Apache-2.0
"""The snapshot is of a larger disk than the active one."""
from qcow2 import Image

i = Image(clusters=64)
for n in range(40):
    i.write(n)
i.snapshot()
i.content({n: None for n in range(40)})
i.size = 10 * 512
i.finish()
i.save()
