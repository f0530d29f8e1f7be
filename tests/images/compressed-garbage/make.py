# SPDX-License-Identifier: Apache-2.0
"""The stream of a compressed cluster is no deflate data."""
from qcow2 import Image

i = Image(bits=12)
host = i.write_compressed(0)
i.write(1)
i.finish()
i.put(host, b"\xff" * 64)
i.save()
