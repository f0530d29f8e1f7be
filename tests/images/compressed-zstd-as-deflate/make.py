# SPDX-License-Identifier: Apache-2.0
"""zstd is announced, the stream is deflate."""
from qcow2 import COMPRESSION, Image

i = Image(bits=12, incompatible=COMPRESSION)
i.write_compressed(0)
i.finish()
i.put(104, 1, "B")
i.save()
