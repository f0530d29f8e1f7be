# SPDX-License-Identifier: Apache-2.0
"""More bitmaps than there may be."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(1,))
i.extensions[-1] = i.extensions[-1][:8] + (65536).to_bytes(4, "big") + i.extensions[-1][12:]
i.finish()
i.save()
