# SPDX-License-Identifier: Apache-2.0
"""An unknown incompatible feature; the table names it."""
from qcow2 import FEATURE_NAMES, Image

i = Image(incompatible=1 << 40)
i.extend(FEATURE_NAMES, bytes([0, 40]) + b"time travel".ljust(46, b"\0"))
i.finish().save()
