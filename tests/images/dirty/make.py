# SPDX-License-Identifier: Apache-2.0
"""The dirty bit is set, refcounts are all right."""
from qcow2 import DIRTY, Image

i = Image(incompatible=DIRTY, compatible=1)
for n in range(4):
    i.write(n)
i.finish()
i.content({0: None, 1: None, 2: None, 3: None})
i.save()
