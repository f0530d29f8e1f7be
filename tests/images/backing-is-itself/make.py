# SPDX-License-Identifier: Apache-2.0
"""An image that names itself as its backing file."""
from qcow2 import BACKING_FORMAT, Image

i = Image()
i.backing = b"image"
i.extend(BACKING_FORMAT, b"qcow2")
i.write(0)
i.finish().save()
