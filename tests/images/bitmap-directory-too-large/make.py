# SPDX-License-Identifier: Apache-2.0
"""A bitmap directory of 2^63 bytes."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(1,))
i.extensions[-1] = i.extensions[-1][:16] + (1 << 63).to_bytes(8, "big") + i.extensions[-1][24:]
i.finish()
i.save()
