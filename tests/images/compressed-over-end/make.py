# SPDX-License-Identifier: Apache-2.0
"""A compressed cluster whose last sector is behind the end of the file: sectors are counted whole."""
from qcow2 import Image, pattern

i = Image(bits=12)
i.write(1)
i.write_compressed(0)
i.finish()
n = len(i.compress(pattern(0, 4096)))
i.save(length=len(i.data()) - 4096 + n)
i.content({0: None, 1: None})
