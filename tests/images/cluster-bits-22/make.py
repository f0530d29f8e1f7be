# SPDX-License-Identifier: Apache-2.0
"""Clusters of 4 MiB."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(20, 22, "I")
i.save()
