# SPDX-License-Identifier: Apache-2.0
"""Foreign bytes behind the stream, in its last sector, are not part of it."""
from qcow2 import Image, pattern

i = Image(bits=12)
host = i.write_compressed(0)
i.write(1)
i.finish()
n = len(i.compress(pattern(0, 4096)))
i.put(host + n, b"FOREIGN" * ((-n % 512) // 7))
i.content({0: None, 1: None})
i.save()
