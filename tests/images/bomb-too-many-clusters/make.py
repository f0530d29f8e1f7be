# SPDX-License-Identifier: Apache-2.0
"""A sparse file of 2 TiB with clusters of 512 bytes: more host clusters than a check counts."""
import os

from qcow2 import Image

i = Image()
i.finish().save()
os.truncate("image", 1 << 41)
