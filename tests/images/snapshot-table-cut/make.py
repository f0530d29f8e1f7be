# SPDX-License-Identifier: Apache-2.0
"""The snapshot table goes over the end of the file."""
from qcow2 import Image

i = Image()
for n in range(4):
    i.write(n)
i.snapshot(name=b"n" * 400)
i.finish()
i.save(length=len(i.data()) - 300)
