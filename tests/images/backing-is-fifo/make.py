# SPDX-License-Identifier: Apache-2.0
"""The backing file is a FIFO: nobody may wait for it."""
import os

from qcow2 import BACKING_FORMAT, Image

os.mkfifo("pipe")
i = Image()
i.backing = b"pipe"
i.extend(BACKING_FORMAT, b"raw")
i.write(0)
i.finish().save()
