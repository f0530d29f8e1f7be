# SPDX-License-Identifier: Apache-2.0
"""The backing format is one that is not done here."""
from qcow2 import BACKING_FORMAT, Image

i = Image()
i.backing = b"base"
open("base", "wb").write(bytes(512))
i.extend(BACKING_FORMAT, b"vmdk")
i.write(0)
i.finish().save()
