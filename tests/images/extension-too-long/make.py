# SPDX-License-Identifier: Apache-2.0
"""A header extension that goes over the end of the header cluster."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(112, 0x12345678, "I")
i.put(116, 4096, "I")
i.save()
