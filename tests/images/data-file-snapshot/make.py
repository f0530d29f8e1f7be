# SPDX-License-Identifier: Apache-2.0
"""A snapshot although there is an external data file."""
from qcow2 import COPIED, DATA_FILE, DATA_FILE_NAME, Image

i = Image(incompatible=DATA_FILE)
i.extend(DATA_FILE_NAME, b"data")
open("data", "wb").write(bytes(64 * 512))
i.set(0, COPIED)
i.snapshot()
i.finish().save()
