# SPDX-License-Identifier: Apache-2.0
"""The bitmaps extension is there twice."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(1,))
i.extensions.append(i.extensions[-1])
i.finish()
i.save()
