#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Slack: bytes that no disk shows never reach an output. A marker is planted behind a compressed cluster, beyond the end of a
shrunk disk, in a shorter backing file's tail and in a freed cluster; every way out is searched for it, raw and after inflating."""
import os
import struct
import zlib

import qemu
from qemu import Wrong, qemu_img, qemu_io, qsnap

MARK = b"NEVER-SHOW-THIS-NEVER-SHOW-THIS-"
CLUSTER = 65536
WAYS = [["-O", "raw"], ["-O", "qcow2"], ["-O", "qcow2", "-c"], ["-O", "qcow2", "-c", "--recompress"], ["-O", "qcow2", "-S", "0"],
        ["-O", "qcow2", "-o", "cluster_size=2M"], ["-O", "qcow2", "-o", "extended_l2=on"], ["-O", "qcow2", "--threads", "0"],
        ["-O", "qcow2", "-c", "-o", "compression_type=zstd"], ["-O", "qcow2", "--keep-snapshots"]]


def path(name):
    return os.path.join(qemu.TMP, name)


def entries(data):
    """(file position of the entry, its value) of all active L2 entries."""
    l1_size, l1_at = struct.unpack_from(">IQ", data, 36)
    for i in range(l1_size):
        table = struct.unpack_from(">Q", data, l1_at + 8 * i)[0] & 0x00FFFFFFFFFFFE00
        for j in range(CLUSTER // 8 if table else 0):
            value = struct.unpack_from(">Q", data, table + 8 * j)[0]
            if value:
                yield table + 8 * j, value


def standard(data):
    """True when `entries` understands the image: clusters of 64 KiB, no extended L2, deflate."""
    incompatible = struct.unpack_from(">Q", data, 72)[0] if struct.unpack_from(">I", data, 4)[0] == 3 else 0
    return struct.unpack_from(">I", data, 20)[0] == 16 and not incompatible


def search(out, output):
    with open(out, "rb") as file:
        data = file.read()
    if MARK[:16] in data:
        raise Wrong(f"the marker is in the output at byte {data.index(MARK[:16])}")
    if output == "qcow2":
        flat = path("flat.raw")
        qemu_img("convert", "-f", "qcow2", "-O", "raw", out, flat)
        with open(flat, "rb") as file:
            if MARK[:16] in file.read():
                raise Wrong("the disk in the output shows the marker")
        for offset, value in entries(data) if standard(data) else ():
            if value >> 62 & 1:
                host, count = value & ((1 << 54) - 1), (value >> 54) & 0xFF
                stream = data[host:host + (count + 1) * 512 - host % 512]
                try:
                    whole = zlib.decompressobj(-15).decompress(stream)
                except zlib.error:
                    continue
                if MARK[:16] in whole:
                    raise Wrong(f"the compressed cluster of the entry at {offset} holds the marker")


def all_ways(source, options=()):
    for way in WAYS:
        out = path("out")
        qemu.remove(out)
        try:
            qsnap("convert", "-f", "qcow2", *options, *way, source, out)
            search(out, way[1])
            if "--keep-snapshots" not in way:  # which a pipe does not take
                piped = qsnap("convert", "-f", "qcow2", *options, *way, source, "-", binary=True)
                with open(path("piped"), "wb") as file:
                    file.write(piped.out)
                search(path("piped"), way[1])
        except Wrong as why:
            raise Wrong(f"convert {' '.join([*options, *way])}: {why}") from None


def behind_a_compressed_cluster():
    source = path("compressed.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", source, "1M")
    text = path("text")
    with open(text, "wb") as file:
        file.write(b"".join(b"%d lines\n" % n for n in range(9000))[:CLUSTER])
    qemu_io(source, [f"write -c -s {text} {n * CLUSTER} {CLUSTER}" for n in (0, 3, 5)])
    with open(source, "r+b") as file:
        data = bytearray(file.read())
        data += bytes(-len(data) % CLUSTER)
        planted = 0
        for _, value in list(entries(data)):
            host, count = value & ((1 << 54) - 1), (value >> 54) & 0xFF
            end = (host // 512 + count + 1) * 512
            stream = zlib.decompressobj(-15)
            stream.decompress(bytes(data[host:end]))
            tail = end - len(stream.unused_data)
            used = [v & ((1 << 54) - 1) for _, v in entries(data)]
            room = min([h for h in used if h >= tail] + [end]) - tail
            if room >= 16:
                data[tail:tail + room] = (MARK * 20)[:room]
                planted += 1
        file.seek(0)
        file.write(data)
    if not planted:
        raise SystemExit("no room for a marker: the test is void")
    all_ways(source)


def beyond_a_shrunk_end():
    """The disk ends in the middle of a cluster that has more."""
    source = path("shrunk.qcow2")
    for kind in ("write", "write -c"):
        qemu.remove(source)
        qemu_img("create", "-q", "-f", "qcow2", source, "1M")
        marks = path("marks")
        with open(marks, "wb") as file:
            file.write(b"A" * 4096 + MARK * (CLUSTER // len(MARK)))
        qemu_io(source, [f"{kind} -s {marks} {n * CLUSTER} {CLUSTER}" for n in (0, 2)])
        with open(source, "r+b") as file:
            file.seek(24)
            file.write(struct.pack(">Q", 2 * CLUSTER + 4096))  # the size field alone: the cluster stays as it is
        qemu_io(source, [f"write -P 66 0 {CLUSTER}"])
        all_ways(source)


def in_a_shorter_backing_file():
    """The top is longer than its backing file, whose last cluster has bytes behind its end; and below it lies a longer one."""
    base, middle, top = path("base.qcow2"), path("middle.qcow2"), path("top.qcow2")
    marks = path("marks")
    with open(marks, "wb") as file:
        file.write(MARK * (CLUSTER // len(MARK)))
    qemu_img("create", "-q", "-f", "qcow2", base, "1M")
    qemu_io(base, [f"write -s {marks} {3 * CLUSTER} {CLUSTER}", f"write -c -s {marks} {6 * CLUSTER} {CLUSTER}", "write -P 67 0 64k"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", middle, str(3 * CLUSTER + 0))
    qemu_img("create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", top, "1M")
    qemu_io(top, ["write -P 68 64k 64k"])
    all_ways(top)


def in_a_smaller_snapshot():
    """An internal snapshot of a disk that grew later, and one of a disk that was larger."""
    source, marks = path("grown.qcow2"), path("marks")
    with open(marks, "wb") as file:
        file.write(MARK * (CLUSTER // len(MARK)))
    qemu_img("create", "-q", "-f", "qcow2", source, "1M")
    qemu_io(source, ["write -P 69 0 128k"])
    qemu_img("snapshot", "-c", "small", source)
    qemu_img("resize", "-q", source, "2M")
    qemu_io(source, [f"write -s {marks} {20 * CLUSTER} {CLUSTER}", f"write -s {marks} {4 * CLUSTER} {CLUSTER}"])
    for way in WAYS[:-1]:  # --keep-snapshots is about the other snapshots
        out = path("out")
        qemu.remove(out)
        qsnap("convert", "-f", "qcow2", "-l", "small", *way, source, out)
        search(out, way[1])
        info = qsnap("info", "--output=json", "-f", way[1], out).json()
        if info["virtual-size"] != 1 << 20:
            raise Wrong(f"{info['virtual-size']} bytes, not the snapshot's 1 MiB")


def in_freed_clusters():
    source, marks = path("freed.qcow2"), path("marks")
    with open(marks, "wb") as file:
        file.write(MARK * (4 * CLUSTER // len(MARK)))
    qemu_img("create", "-q", "-f", "qcow2", source, "1M")
    qemu_io(source, [f"write -s {marks} 0 {4 * CLUSTER}", "write -P 70 256k 64k", "discard 0 128k", "write -z -u 128k 64k", "write -P 1 192k 64k"])
    all_ways(source)


report = qemu.Report()
for test in (behind_a_compressed_cluster, beyond_a_shrunk_end, in_a_shorter_backing_file, in_a_smaller_snapshot, in_freed_clusters):
    report.test("hidden bytes stay hidden: " + test.__name__.replace("_", " "), test)
report.finish()
