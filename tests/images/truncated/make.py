# SPDX-License-Identifier: Apache-2.0
"""The file was cut: half of its data clusters are missing."""
from qcow2 import Image

i = Image()
for n in range(20):
    i.write(n)
i.finish().save(length=15 * 512)
