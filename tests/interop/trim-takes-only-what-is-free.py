#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 300
"""Images that qemu-io has written to, discarded from, and whose snapshots qemu-img deleted, with bytes put into all that is free:
after trim every state and bitmap is as before, qemu-img's check finds nothing, and the file takes less."""
import json
import os
import random
import shutil

import qemu
from qemu import Wrong, qemu_img, qemu_io, qsnap

FOLDER = os.path.join(qemu.TMP, "trim")
IMAGE = os.path.join(FOLDER, "disk.qcow2")
FLAT = os.path.join(FOLDER, "flat.raw")


def flat(snapshot=None):
    qemu_img("convert", *(["-l", snapshot] if snapshot else []), "-f", "qcow2", "-O", "raw", IMAGE, FLAT)
    with open(FLAT, "rb") as file:
        return file.read()


def states():
    info = qemu_img("info", "--output=json", IMAGE).json()
    names = [None] + [s["name"] for s in info.get("snapshots", [])]
    return {name: flat(name) for name in names}, info.get("format-specific", {}).get("data", {}).get("bitmaps")


def write_some(rng, size, cluster):
    commands = []
    for _ in range(rng.randrange(4, 14)):
        at = rng.randrange(size // 512) * 512
        length = min(rng.randrange(1, 12 * cluster // 512 + 2) * 512, size - at)
        commands.append(rng.choice((f"write -P {rng.randrange(1, 256)} {at} {length}", f"discard {at} {length}", f"write -z -u {at} {length}")))
    qemu_io(IMAGE, commands)


def waste(rng, cluster):
    """Bytes behind the end, free clusters filled as a host without holes would have left them, and leaks as after a crash."""
    with open(IMAGE, "r+b") as file:
        def number(at, length=8):
            file.seek(at)
            return int.from_bytes(file.read(length), "big")
        block = number(number(48))
        clusters = (os.path.getsize(IMAGE) + cluster - 1) // cluster
        per_block = cluster // 2
        leaked = 0
        for i in range(min(clusters, per_block)):
            if number(block + 2 * i, 2) != 0:
                continue
            file.seek(i * cluster)
            file.write(rng.randbytes(cluster))
            if rng.randrange(4) == 0:
                file.seek(block + 2 * i)
                file.write(b"\0\1")
                leaked += 1
        file.seek(clusters * cluster)
        file.write(rng.randbytes(rng.randrange(1, 5 * cluster)))
        return leaked


def one(seed):
    rng = random.Random(seed)
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)
    cluster = rng.choice((4096, 65536))
    size = rng.randrange(20, 100) * cluster
    extended = cluster > 4096 and rng.randrange(2) == 0
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster},extended_l2={'on' if extended else 'off'}", IMAGE, size)
    named = []
    if rng.randrange(2):
        qemu_img("bitmap", "--add", IMAGE, "changes")
    for step in range(rng.randrange(2, 7)):
        write_some(rng, size, cluster)
        if rng.randrange(2):
            named.append(f"s{step}")
            qemu_img("snapshot", "-c", named[-1], IMAGE)
        elif named:
            qemu_img("snapshot", "-d", named.pop(rng.randrange(len(named))), IMAGE)
    before = states()
    leaked = waste(rng, cluster)
    os.sync()
    length, taken = os.stat(IMAGE).st_size, os.stat(IMAGE).st_blocks
    told = json.loads(qsnap("trim", "--output=json", IMAGE).out)
    if told["leaked-bytes-freed"] != leaked * cluster:
        raise Wrong(f"{leaked} clusters of {cluster} bytes were leaked, and it says {told}")
    if told["bytes-truncated"] != length - os.stat(IMAGE).st_size or told["bytes-truncated"] == 0:
        raise Wrong(f"the file was {length} bytes long, is {os.stat(IMAGE).st_size}, and it says {told}")
    if os.stat(IMAGE).st_blocks > taken - told["bytes-punched"] // 512:
        raise Wrong(f"the file took {taken} blocks, takes {os.stat(IMAGE).st_blocks}, and it says {told}")
    qemu_img("check", "-q", IMAGE)
    qsnap("check", "-q", IMAGE)
    after = states()
    for name, want in before[0].items():
        if after[0].get(name) != want:
            raise Wrong(f"the state {name or 'active'} is not what it was")
    if after[1] != before[1]:
        raise Wrong(f"bitmaps: {after[1]} instead of {before[1]}")
    # what was given back can be used again
    write_some(rng, size, cluster)
    qemu_img("check", "-q", IMAGE)


report = qemu.Report()
report.seeds(15, "trim", one)
report.finish()
