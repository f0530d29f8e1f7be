# SPDX-License-Identifier: Apache-2.0
"""The backing file ends in the middle of a cluster: zeros from there on."""
from qcow2 import BACKING_FORMAT, Image

open("base", "wb").write(b"b" * 700)
i = Image()
i.backing = b"base"
i.extend(BACKING_FORMAT, b"raw")
i.write(3)
i.finish().save()
i.content({0: b"b" * 512, 1: b"b" * 188, 3: None})
