# SPDX-License-Identifier: Apache-2.0
"""A refcount table of more than 8 MiB."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(56, 16385, "I")
i.save()
