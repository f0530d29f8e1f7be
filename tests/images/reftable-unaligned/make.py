# SPDX-License-Identifier: Apache-2.0
"""The refcount table is not at the start of a cluster."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(48, 520, "Q")
i.save()
