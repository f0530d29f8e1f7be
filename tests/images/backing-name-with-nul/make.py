# SPDX-License-Identifier: Apache-2.0
"""A backing file name with a NUL in it."""
from qcow2 import BACKING_FORMAT, Image

i = Image()
i.backing = b"ba\0se"
i.extend(BACKING_FORMAT, b"raw")
open("ba", "wb").write(bytes(512))
i.write(0)
i.finish().save()
