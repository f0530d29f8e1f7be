# SPDX-License-Identifier: Apache-2.0
"""A bitmaps extension that announces none."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(1,))
i.extensions[-1] = i.extensions[-1][:8] + bytes(4) + i.extensions[-1][12:]
i.finish().save()
