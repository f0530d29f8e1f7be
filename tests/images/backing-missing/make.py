# SPDX-License-Identifier: Apache-2.0
"""The backing file does not exist."""
from qcow2 import BACKING_FORMAT, Image

i = Image()
i.backing = b"nowhere"
i.extend(BACKING_FORMAT, b"raw")
i.write(0)
i.finish().save()
