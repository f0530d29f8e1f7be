# SPDX-License-Identifier: Apache-2.0
"""An external data file: guest offset is host offset there."""
from qcow2 import COPIED, DATA_FILE, DATA_FILE_NAME, Image, pattern

i = Image(incompatible=DATA_FILE)
i.extend(DATA_FILE_NAME, b"data")
i.set(0, COPIED)
i.set(1, COPIED | 512)
open("data", "wb").write(pattern(0, 512) + pattern(1, 512) + b"not allocated")
i.finish().save()
i.content({0: None, 1: None})
