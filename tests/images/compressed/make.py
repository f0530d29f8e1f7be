# SPDX-License-Identifier: Apache-2.0
"""Two compressed clusters that share a host cluster, one that goes over the end of its own."""
from qcow2 import Image, pattern

i = Image(bits=12)
a, b = (i.compress(pattern(n, 4096)) for n in (0, 1))
host = i.new(1, a + b)
i.set(0, i.compressed_entry(host, len(a)))
i.set(1, i.compressed_entry(host + len(a), len(b)))
i.refer(host)
i.write(2)
random = bytes((n * n * 7 + n // 3) % 256 for n in range(4096))
stream = i.compress(random)
host = i.new(2)
i.put(host + 4000, stream)
i.set(3, i.compressed_entry(host + 4000, len(stream)))
i.finish().save()
i.content({0: None, 1: None, 2: None, 3: random})
