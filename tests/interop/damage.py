# SPDX-License-Identifier: Apache-2.0
"""Images of all kinds with random damage in their tables, for what judges and repairs them."""
import os
import random
import struct

import qemu
from qemu import qemu_img, qemu_io

BITMAPS, EXTENDED_L2, OFFSET = 0x23852875, 16, 0xFFFFFFFFFFFE00
WRITES = ["write -P 1 0 300k", "write -P 2 1M 128k", "write -z 2M 200k", "write -P 3 3000k 64k", "discard 64k 64k"]
COMPRESSED = ["write -c -P 5 512k 64k", "write -c -P 6 640k 64k", "write -c -P 6 704k 64k"]
# options, size, writes, snapshots, bitmaps
IMAGES = [
    ("cluster_size=4k", "4M", WRITES, 2, 0),
    ("cluster_size=64k", "4M", WRITES + COMPRESSED, 1, 2),
    ("cluster_size=512,refcount_bits=1", "2M", WRITES[:2], 0, 1),
    ("cluster_size=4k,refcount_bits=64", "4M", WRITES, 1, 0),
    ("cluster_size=16k,extended_l2=on", "4M", WRITES + ["write 10k 1k", "write 900k 2k"], 1, 0),
    ("cluster_size=4k,refcount_bits=8", "4M", WRITES[1:] + ["write -c -P %d %dk 4k" % (n, 4 * n) for n in range(90)], 0, 0),
    ("cluster_size=2k,compat=0.10", "4M", WRITES, 2, 0),
    ("cluster_size=4k,refcount_bits=2", "4M", WRITES, 1, 0),
    ("cluster_size=1k,refcount_bits=32,preallocation=metadata", "2M", WRITES[:2], 0, 0),
    ("cluster_size=2M", "16M", WRITES, 0, 0),
    ("cluster_size=8k,data_file=DATA", "4M", WRITES, 0, 0),
]


def be64(data, at):
    return struct.unpack_from(">Q", data, at)[0] if at + 8 <= len(data) else 0


def be32(data, at):
    return struct.unpack_from(">I", data, at)[0] if at + 4 <= len(data) else 0


def make(number):
    options, size, writes, snapshots, bitmaps = IMAGES[number]
    path = os.path.join(qemu.TMP, "made")
    qemu.remove(path)
    options = options.replace("DATA", os.path.join(qemu.TMP, "data"))
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, size)
    qemu_io(path, writes)
    for n in range(snapshots):
        qemu_img("snapshot", "-c", f"s{n}", path)
        qemu_io(path, [f"write -P {n + 7} {n * 300}k 100k"])
    for n in range(bitmaps):
        qemu_img("bitmap", "--add", "-g", f"{4 << 4 * n}k", path, f"b{n}")
        qemu_io(path, ["write 100k 200k"])
    with open(path, "rb") as file:
        return file.read()


def l1_places(data, cluster, l1, entries, step, rng):
    for n in range(min(entries, 40)):
        yield l1 + 8 * n
        table = be64(data, l1 + 8 * n) & OFFSET
        for at in range(table, table + cluster if table else 0, step):
            if be64(data, at) or rng.random() < 0.02:
                yield at
            if step == 16 and (be64(data, at + 8) or rng.random() < 0.02):
                yield at + 8


def bitmap_places(data, cluster):
    at = be32(data, 100)
    while at + 8 < cluster and be32(data, at):
        kind, length = be32(data, at), be32(data, at + 4)
        if kind == BITMAPS:
            directory = be64(data, at + 24)
            yield from range(directory, directory + be64(data, at + 16), 8)
            yield from [be64(data, directory)] * 8
        at += 8 + -(-length // 8) * 8


def places(data, rng):
    """Where 8 bytes may be damaged: every table of the image, few of them in entries that are 0."""
    cluster = 1 << be32(data, 20)
    v3 = be32(data, 4) >= 3
    step = 16 if v3 and be64(data, 72) & EXTENDED_L2 else 8
    yield from l1_places(data, cluster, be64(data, 40), be32(data, 36), step, rng)
    for n in range(4):
        yield be64(data, 48) + 8 * n
        block = be64(data, be64(data, 48) + 8 * n)
        yield from range(block, block + min(cluster, 400) if block else 0, 8)
    at = be64(data, 64)
    for _ in range(be32(data, 60)):
        yield from [at] * 3
        yield from l1_places(data, cluster, be64(data, at), be32(data, at + 8), step, rng)
        ident, name = struct.unpack_from(">HH", data, at + 12)
        at += -(-(40 + be32(data, at + 36) + ident + name) // 8) * 8
    if v3:
        yield from bitmap_places(data, cluster)


def damaged(value, rng, cluster, length, others):
    return rng.choice([
        value ^ 1 << rng.randrange(64),
        value ^ 1 << rng.randrange(64),
        rng.choice(others),
        0,
        rng.getrandbits(64),
        1 << 63 | rng.randrange(length // cluster + 3) * cluster,
        1 << 62 | rng.randrange(length + cluster) | rng.randrange(4) << 63 - cluster.bit_length() + 8,
        value & ~OFFSET | rng.randrange(length + 2 * cluster) & ~511,
    ]) & 2**64 - 1


def damage(data, rng):
    data = bytearray(data)
    cluster = 1 << be32(data, 20)
    all_places = [at for at in places(data, rng) if at + 8 <= len(data)]
    others = [be64(data, at) for at in all_places]
    for _ in range(rng.choice([1, 1, 2, 3, 6])):
        at = rng.choice(all_places)
        struct.pack_into(">Q", data, at, damaged(be64(data, at), rng, cluster, len(data), others))
    if rng.random() < 0.05:
        del data[rng.randrange(max(cluster, len(data) // 2), len(data)):]
    return bytes(data)


def lines(text):
    """Findings only. One of qemu-img's warnings has no end of line."""
    text = text.replace("Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.", "")
    skip = ("Use qemu-img amend", "to create a clean", "qcow2: ", "qemu-img: ", "qsnap: ", "You can force")
    return [line for line in text.splitlines() if not line.startswith(skip)]
