# SPDX-License-Identifier: Apache-2.0
"""A header longer than the cluster."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(100, 4294967288, "I")
i.save()
