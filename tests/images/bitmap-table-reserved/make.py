# SPDX-License-Identifier: Apache-2.0
"""Reserved bits in an entry of a bitmap table."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(1 << 60,))
i.finish().save()
