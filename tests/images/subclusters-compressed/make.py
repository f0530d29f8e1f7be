# SPDX-License-Identifier: Apache-2.0
"""A compressed cluster with a bitmap."""
from qcow2 import EXTENDED_L2, Image

i = Image(bits=14, incompatible=EXTENDED_L2)
i.write_compressed(0)
i.finish()
i.put(i.l2(0) + 8, 1)
i.save()
