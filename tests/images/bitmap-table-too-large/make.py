# SPDX-License-Identifier: Apache-2.0
"""A bitmap table of 2^32 - 1 entries: nothing may be allocated for it."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(1,))
i.finish()
i.put(i.directory + 8, 0xFFFFFFFF, "I")
i.save()
