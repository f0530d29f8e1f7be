# SPDX-License-Identifier: Apache-2.0
"""A refcount table near 2^64."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(48, 18446744073709551104, "Q")
i.save()
