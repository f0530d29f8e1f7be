# SPDX-License-Identifier: Apache-2.0
"""crypt_method 1."""
from qcow2 import Image

i = Image()
i.finish()
i.put(32, 1, "I")
i.save()
