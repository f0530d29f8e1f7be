# SPDX-License-Identifier: Apache-2.0
"""A snapshot table within a cluster."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(60, 1, "I")
i.put(64, 520)
i.save()
