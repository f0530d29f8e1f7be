# SPDX-License-Identifier: Apache-2.0
"""A chain of 200 images is not."""
from qcow2 import BACKING_FORMAT, Image

for n in range(199, -1, -1):
    i = Image()
    if n < 199:
        i.backing = b"b%d" % (n + 1)
        i.extend(BACKING_FORMAT, b"qcow2")
    if n == 199:
        i.write(5)
    i.finish().save("b%d" % n if n else "image")
i.content({5: None})
