# SPDX-License-Identifier: Apache-2.0
"""The bitmap directory is overwritten."""
from qcow2 import Image

i = Image(bits=12, clusters=64)
i.write(0)
i.bitmap(entries=(1,))
i.finish()
i.put(i.directory, b"\xa5" * 200)
i.save()
