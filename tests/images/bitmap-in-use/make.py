# SPDX-License-Identifier: Apache-2.0
"""A bitmap that was in use when its writer died."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(flags=3, entries=(1,))
i.finish().save()
