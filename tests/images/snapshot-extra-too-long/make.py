# SPDX-License-Identifier: Apache-2.0
"""A snapshot entry with 1025 bytes of extra data."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.snapshot(extra=1025)
i.finish().save()
