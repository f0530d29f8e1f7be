# SPDX-License-Identifier: Apache-2.0
"""A compressed cluster behind the end of the file."""
from qcow2 import Image

i = Image(bits=12)
host = i.write_compressed(0)
i.write(1)
i.finish()
i.put(i.l2(0), i.compressed_entry(1 << 30, 100))
i.save()
