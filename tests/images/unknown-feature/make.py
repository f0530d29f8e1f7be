# SPDX-License-Identifier: Apache-2.0
"""An unknown incompatible feature, no name for it."""
from qcow2 import Image

i = Image(incompatible=1 << 40)
i.finish().save()
