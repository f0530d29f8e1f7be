# SPDX-License-Identifier: Apache-2.0
"""A chain of 202 images is too deep."""
from qcow2 import BACKING_FORMAT, Image

for n in range(201, -1, -1):
    i = Image()
    if n < 201:
        i.backing = b"b%d" % (n + 1)
        i.extend(BACKING_FORMAT, b"qcow2")
    i.finish().save("b%d" % n if n else "image")
