# SPDX-License-Identifier: Apache-2.0
"""Version 4."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(4, 4, "I")
i.save()
