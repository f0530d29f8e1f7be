# SPDX-License-Identifier: Apache-2.0
"""A bitmap whose name is empty."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(1,))
i.finish()
i.put(i.directory + 18, 0, "H")
i.save()
