# SPDX-License-Identifier: Apache-2.0
"""Two images that name each other; the second through another name."""
import os

from qcow2 import BACKING_FORMAT, Image

for name, other in (("image", b"./b"), ("b", b"c")):
    i = Image()
    i.backing = other
    i.extend(BACKING_FORMAT, b"qcow2")
    i.write(0)
    i.finish().save(name)
os.link("image", "c")
