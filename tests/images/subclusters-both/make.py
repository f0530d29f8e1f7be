# SPDX-License-Identifier: Apache-2.0
"""A subcluster that is data and zero at once."""
from qcow2 import EXTENDED_L2, Image

i = Image(bits=14, incompatible=EXTENDED_L2)
i.write(0)
i.write(1)
i.finish()
i.put(i.l2(0) + 8, 1 << 32 | 1)
i.save()
