# SPDX-License-Identifier: Apache-2.0
"""A header too short for version 3."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(100, 96, "I")
i.save()
