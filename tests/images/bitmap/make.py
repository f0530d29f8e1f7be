# SPDX-License-Identifier: Apache-2.0
"""A bitmap with data, ones and zeros."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(None,))
i.finish().save()
