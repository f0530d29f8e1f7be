# SPDX-License-Identifier: Apache-2.0
"""A data cluster that is the header, by a compressed entry; nobody decodes that."""
from qcow2 import COMPRESSED, Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(i.l2(9), COMPRESSED | 4)
i.save()
