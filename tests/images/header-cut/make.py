# SPDX-License-Identifier: Apache-2.0
"""A file that ends within the header."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.save(length=60)
