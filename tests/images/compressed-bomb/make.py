# SPDX-License-Identifier: Apache-2.0
"""The stream of a compressed cluster would give 4 MiB; a cluster is 4 KiB."""
from qcow2 import Image

i = Image(bits=12)
i.write_compressed(0, stream=i.compress(bytes(4 << 20))[:4090])
i.write(1)
i.finish()
i.content({1: None})
i.save()
