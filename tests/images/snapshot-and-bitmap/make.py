# SPDX-License-Identifier: Apache-2.0
"""A sound image with a snapshot and a bitmap."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.write(1)
i.snapshot()
i.bitmap(entries=(None,))
i.finish().save()
