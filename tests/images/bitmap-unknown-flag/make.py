# SPDX-License-Identifier: Apache-2.0
"""A bitmap with a flag that nobody knows."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(1,))
i.finish()
i.put(i.directory + 12, 0x80, "I")
i.save()
