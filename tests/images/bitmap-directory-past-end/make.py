# SPDX-License-Identifier: Apache-2.0
"""The bitmap directory lies behind the end of the file."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(1,))
i.extensions[-1] = i.extensions[-1][:24] + (1 << 40).to_bytes(8, "big")
i.finish().save()
