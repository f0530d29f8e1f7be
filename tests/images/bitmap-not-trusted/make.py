# SPDX-License-Identifier: Apache-2.0
"""The autoclear bit is gone: the bitmaps mean nothing any more, and their clusters are leaks."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(None,))
i.features[2] = 0
i.finish().save()
