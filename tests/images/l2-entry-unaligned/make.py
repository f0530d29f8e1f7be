# SPDX-License-Identifier: Apache-2.0
"""A data cluster and a zero cluster that begin in the middle of a host cluster."""
from qcow2 import Image, ZERO

i = Image(bits=12)
for n in range(4):
    i.write(n)
i.finish()
i.put(i.l2(1), i.get(i.l2(1)) + 512)
i.put(i.l2(2), (i.get(i.l2(2)) + 512) | ZERO)
i.save()
