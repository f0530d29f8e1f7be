# SPDX-License-Identifier: Apache-2.0
"""Refcounts of 128 bits."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.finish()
i.put(96, 7, "I")
i.save()
