# SPDX-License-Identifier: Apache-2.0
"""The stream of a compressed cluster gives half a cluster."""
from qcow2 import Image

i = Image(bits=12)
i.write_compressed(0, data=b"x" * 2048)
i.write(1)
i.finish().save()
