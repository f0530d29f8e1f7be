# SPDX-License-Identifier: Apache-2.0
"""A file that ends after the header."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.save(length=512)
