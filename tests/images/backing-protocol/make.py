# SPDX-License-Identifier: Apache-2.0
"""The backing file name has a protocol."""
from qcow2 import BACKING_FORMAT, Image

i = Image()
i.backing = b"http://localhost:1/x"
i.extend(BACKING_FORMAT, b"raw")
i.write(0)
i.finish().save()
