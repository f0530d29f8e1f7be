# SPDX-License-Identifier: Apache-2.0
"""COPIED is set on a compressed cluster."""
from qcow2 import COPIED, Image

i = Image(bits=12)
host = i.write_compressed(0)
i.write(1)
i.finish()
i.put(i.l2(0), i.get(i.l2(0)) | COPIED)
i.content({0: None, 1: None})
i.save()
