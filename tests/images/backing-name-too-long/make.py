# SPDX-License-Identifier: Apache-2.0
"""A backing file name of 1024 bytes."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(8, 200)
i.put(16, 1024, "I")
i.save()
