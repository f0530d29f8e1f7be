# SPDX-License-Identifier: Apache-2.0
"""Host clusters in reverse order: fragmented, nothing else."""
from qcow2 import Image

i = Image()
for n in (3, 2, 1, 0):
    i.write(n)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
