# SPDX-License-Identifier: Apache-2.0
"""crypt_method 2 with a LUKS header extension."""
from qcow2 import CRYPTO, Image

i = Image()
luks = i.new(2, b"LUKS\xba\xbe\0\x01")
i.extend(CRYPTO, luks.to_bytes(8, "big") + (1024).to_bytes(8, "big"))
i.finish()
i.put(32, 2, "I")
i.save()
