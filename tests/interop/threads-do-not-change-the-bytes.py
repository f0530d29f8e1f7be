#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 240
"""The same source gives the same file, whatever the number of threads, and the same again in the next run."""
import hashlib
import os

import qemu
from qemu import Wrong, qsnap

WAYS = [["-O", "raw"], ["-O", "qcow2"], ["-O", "qcow2", "-c"], ["-O", "qcow2", "-c", "-o", "compression_type=zstd,cluster_size=4096"],
        ["-O", "qcow2", "-c", "--recompress"], ["-O", "qcow2", "-o", "extended_l2=on,cluster_size=32768"],
        ["-O", "qcow2", "-o", "cluster_size=512,preallocation=metadata"]]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def one(seed):
    image = qemu.image(seed)
    out = os.path.join(image.folder, "out")
    for way in WAYS:
        seen = {}
        for threads in (0, 1, 2, 8, 2):
            qemu.remove(out)
            qsnap("convert", "-f", "qcow2", "--threads", threads, *way, image.path, out)
            seen.setdefault(digest(out), threads)
        if len(seen) > 1:
            raise Wrong(f"{image}\nconvert {' '.join(way)}: other bytes with {' and '.join(map(str, seen.values()))} threads")


def large():
    """Enough for all threads to be busy: a file system's worth of files of this machine."""
    path, out = os.path.join(qemu.TMP, "large.raw"), os.path.join(qemu.TMP, "large.out")
    with open(path, "wb") as file:
        for name in sorted(os.listdir("/usr/bin")):
            full = os.path.join("/usr/bin", name)
            if os.path.isfile(full) and file.tell() < 48 << 20:
                with open(full, "rb") as part:
                    file.write(part.read(4 << 20))
                file.seek(-(-file.tell() // 4096) * 4096 + 65536)
        file.truncate(64 << 20)
    for way in WAYS[1:5]:
        seen = set()
        for threads in (0, 2, 8):
            qemu.remove(out)
            qsnap("convert", "-f", "raw", "--threads", threads, *way, path, out)
            seen.add(digest(out))
        if len(seen) > 1:
            raise Wrong(f"convert {' '.join(way)}: the bytes depend on the number of threads")


report = qemu.Report()
report.test("threads do not change the bytes, 64 MiB of files", large)
report.seeds(12, "threads do not change the bytes,", one)
report.finish()
