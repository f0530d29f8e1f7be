# SPDX-License-Identifier: Apache-2.0
"""Clusters of 256 bytes."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(20, 8, "I")
i.save()
