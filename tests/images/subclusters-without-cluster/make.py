# SPDX-License-Identifier: Apache-2.0
"""A subcluster is data, but there is no host cluster."""
from qcow2 import EXTENDED_L2, Image

i = Image(bits=14, incompatible=EXTENDED_L2)
i.write(0)
i.write(1)
i.finish()
i.put(i.l2(5) + 8, 4)
i.save()
