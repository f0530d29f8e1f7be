# SPDX-License-Identifier: Apache-2.0
"""The external data file does not exist."""
from qcow2 import COPIED, DATA_FILE, DATA_FILE_NAME, Image

i = Image(incompatible=DATA_FILE)
i.extend(DATA_FILE_NAME, b"nowhere")
i.set(0, COPIED)
i.finish().save()
