#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 240
"""Images patched in one field: what qemu-img converts, qsnap converts to the same bytes; what it refuses, qsnap refuses
(FORMAT.md §3.7, §4.1, §5, §8, §9). Where we differ on purpose the row says so: `differs` is what qsnap must do.

usage: odd-images-are-judged-alike.py      QSNAP=path of qsnap (default build/qsnap)
"""
import os
import struct
import subprocess
import sys
import tempfile

QSNAP = os.path.abspath(os.environ.get("QSNAP", "build/qsnap"))
BITMAPS = struct.pack(">I", 0x23852875)
OFFSET = 0x00FFFFFFFFFFFE00
FORMATS = {"B": 1, "H": 2, "I": 4, "Q": 8}


def get(data, at, kind="Q"):
    return struct.unpack_from(">" + kind, data, at)[0]


def put(data, at, kind, value):
    struct.pack_into(">" + kind, data, at, value)


class Image:
    """A small image as bytes, and where its parts are."""

    made = {}

    def __init__(self, options, compressed):
        self.data = bytearray(self.make(options, compressed))
        self.l1 = get(self.data, 40)
        self.l2 = get(self.data, self.l1) & OFFSET
        self.entry = get(self.data, self.l2)
        self.snapshots = get(self.data, 64)
        at = self.data.find(BITMAPS, 72, 1 << get(self.data, 20, "I"))
        if at > 0:
            self.bitmaps = at + 8
            self.directory = get(self.data, at + 24)
            self.table = get(self.data, self.directory)

    @classmethod
    def make(cls, options, compressed):
        key = (options, compressed)
        if key not in cls.made:
            if os.path.exists("made"):
                os.unlink("made")
            run("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", options] if options else []), "made", "4M")
            run("qemu-io", "-f", "qcow2", "-c", "write %s -P 7 0 64k" % compressed, "made")
            run("qemu-img", "snapshot", "-c", "first", "made")
            run("qemu-img", "snapshot", "-c", "second", "made")
            if "compat=0.10" not in options:
                run("qemu-img", "bitmap", "--add", "made", "b0")
            with open("made", "rb") as image:
                cls.made[key] = image.read()
        return cls.made[key]


def run(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def row(name, *patches, options="", compressed="", differs=None):
    """A patch is (place, offset, kind, value); value may be a function of the old value."""
    return (name, patches, options, compressed, differs)


def header(name, at, kind, value, **more):
    return row("header: " + name, ("header", at, kind, value), **more)


def entry(name, value, **more):
    return row("L2 entry: " + name, ("l2", 0, "Q", value), **more)


EXT = "extended_l2=on"
ROWS = [
    row("nothing"),
    header("version 1", 4, "I", 1),
    header("version 4", 4, "I", 4),
    header("cluster_bits 8", 20, "I", 8),
    header("cluster_bits 22", 20, "I", 22),
    header("backing name at the cluster's end, empty", 8, "Q", 65536),
    header("backing name behind the first cluster", 8, "Q", 65537),
    row("header: backing name over the end", ("header", 8, "Q", 65535), ("header", 16, "I", 2)),
    row("header: backing name of 1024 bytes", ("header", 8, "Q", 1000), ("header", 16, "I", 1024)),
    header("length of no backing name", 16, "I", 2000),
    header("odd size", 24, "Q", (4 << 20) + 1),
    header("odd size, just below", 24, "Q", (4 << 20) - 1),
    header("size beyond the L1 table", 24, "Q", (512 << 20) + 1),
    header("size as large as the L1 table allows", 24, "Q", 512 << 20),
    header("smaller size", 24, "Q", 65536 - 512),
    row("header: size 0", ("header", 24, "Q", 0), ("header", 88, "Q", 0)),
    header("unknown encryption", 32, "I", 3),
    header("more L1 entries than a file has", 36, "I", 4 << 20),
    header("too many L1 entries", 36, "I", (4 << 20) + 1),
    header("no L1 entries", 36, "I", 0),
    header("L1 unaligned", 40, "Q", 0x30200),
    header("L1 past the end of the file", 40, "Q", 1 << 40, differs="refuse"),
    header("L1 at 2^63", 40, "Q", 1 << 63),
    header("refcount table at 0", 48, "Q", 0),
    header("refcount table unaligned", 48, "Q", 0x10200),
    header("refcount table past the end of the file", 48, "Q", 1 << 40),
    header("no refcount table", 56, "I", 0),
    header("refcount table of 8 MiB", 56, "I", 128),
    header("refcount table of more", 56, "I", 129),
    header("no snapshots", 60, "I", 0),
    header("too many snapshots", 60, "I", 65537),
    header("snapshot table unaligned", 64, "Q", lambda old: old + 8),
    header("dirty", 72, "Q", 1),
    header("corrupt", 72, "Q", 2),
    header("unknown incompatible feature", 72, "Q", 1 << 20),
    header("unknown compatible feature", 80, "Q", 1 << 20),
    header("unknown autoclear feature", 88, "Q", 1 << 20),
    header("refcount_order 7", 96, "I", 7),
    header("refcount_order 6", 96, "I", 6),
    header("header_length 96", 100, "I", 96),
    header("header_length 105", 100, "I", 105, differs="refuse"),
    header("header_length 65536", 100, "I", 65536),
    header("header_length 65544", 100, "I", 65544),
    header("zstd without its bit", 104, "B", 1),
    header("compression bit without zstd", 72, "Q", 8),
    row("header: unknown compression", ("header", 72, "Q", 8), ("header", 104, "B", 2)),
    header("bytes behind the compression type", 105, "I", 77),
    header("extended L2 with clusters of 8 KiB", 72, "Q", 16, options="cluster_size=8k"),
    header("first extension too long", 116, "I", 65536),
    entry("reserved bits", lambda old: old | 0x3F000000000001FE),
    entry("not copied", lambda old: old & ~(1 << 63)),
    entry("copied", lambda old: old | 1 << 63),
    entry("zero", 1),
    entry("zero with its cluster", lambda old: old | 1),
    entry("zero, unaligned", lambda old: (old | 1) + 512),
    entry("unaligned", lambda old: old + 512),
    entry("past the end of the file", 1 << 40),
    entry("highest offset", 0x00FFFFFFFFFF0000),
    entry("zero in version 2", 1, options="compat=0.10"),
    entry("zero with its cluster in version 2", lambda old: old | 1, options="compat=0.10"),
    entry("copied alone", 1 << 63),
    entry("extended, bit 0", lambda old: old | 1, options=EXT),
    row("L2 entry: data and zero", ("l2", 8, "Q", 1 << 32 | 1), options=EXT),
    row("L2 entry: data without a cluster", ("l2", 0, "Q", 0), ("l2", 8, "Q", 1), options=EXT),
    row("L2 entry: zeros without a cluster", ("l2", 0, "Q", 0), ("l2", 8, "Q", 0xFFFFFFFF << 32), options=EXT),
    row("L2 entry: cluster without data", ("l2", 8, "Q", 0), options=EXT),
    row("L2 entry: half data, half zeros", ("l2", 8, "Q", 0xFFFF0000 << 32 | 0xFFFF), options=EXT),
    entry("compressed", lambda old: old, compressed="-c"),
    entry("compressed and copied", lambda old: old | 1 << 63, compressed="-c"),
    entry("compressed, all sectors", lambda old: old | 0xFF << 54, compressed="-c"),
    entry("compressed, past the end", 1 << 62 | 1 << 40, compressed="-c"),
    entry("compressed, beginning amid the stream", lambda old: old + 20, compressed="-c"),
    row("L2 entry: compressed, with a bitmap", ("l2", 8, "Q", 2**64 - 1), options=EXT, compressed="-c"),
    row("L2 entry: compressed with zstd", options="compression_type=zstd", compressed="-c"),
    row("L1 entry: reserved bits", ("l1", 0, "Q", lambda old: old | 0x7F000000000001FF)),
    row("L1 entry: unaligned", ("l1", 0, "Q", lambda old: old + 512)),
    row("L1 entry: past the end of the file", ("l1", 0, "Q", 1 << 40), differs="refuse"),
    row("snapshot: no extra data", ("snapshots", 36, "I", 0)),
    row("snapshot: too much extra data", ("snapshots", 36, "I", 1025)),
    row("snapshot: unaligned L1, not used", ("snapshots", 0, "Q", 0x1234)),
    row("bitmaps: none", ("bitmaps", 0, "I", 0)),
    row("bitmaps: one more", ("bitmaps", 0, "I", 2)),
    row("bitmaps: reserved field", ("bitmaps", 4, "I", 1)),
    row("bitmaps: directory too large", ("bitmaps", 8, "Q", (64 << 20) + 1)),
    row("bitmaps: directory too small", ("bitmaps", 8, "Q", 24)),
    row("bitmaps: directory unaligned", ("bitmaps", 16, "Q", 0x1008)),
    row("bitmaps: directory at 0", ("bitmaps", 16, "Q", 0)),
    row("bitmaps: broken, but not vouched for", ("bitmaps", 0, "I", 0), ("header", 88, "Q", 0)),
    row("bitmap: in use", ("directory", 12, "I", 1)),
    row("bitmap: flag 2", ("directory", 12, "I", 4), differs="read"),
    row("bitmap: unknown flag", ("directory", 12, "I", 8)),
    row("bitmap: type 2", ("directory", 16, "B", 2)),
    row("bitmap: granularity of 256", ("directory", 17, "B", 8)),
    row("bitmap: granularity of 2^32", ("directory", 17, "B", 32)),
    row("bitmap: no name", ("directory", 18, "H", 0)),
    row("bitmap: no table", ("directory", 0, "Q", 0)),
    row("bitmap: table too large", ("directory", 8, "I", 8193)),
]


def convert(program, source, target):
    """None if refused, else the content."""
    if os.path.exists(target):
        os.unlink(target)
    done = subprocess.run(
        [program, "convert", "-f", "qcow2", "-O", "raw", source, target], capture_output=True, timeout=60
    )
    if done.returncode not in (0, 1):
        raise SystemExit("%s: status %d\n%s" % (program, done.returncode, done.stderr.decode(errors="replace")))
    if done.returncode:
        if not done.stderr:
            raise SystemExit("%s: refused without a word" % program)
        return None
    with open(target, "rb") as content:
        return content.read()


def judge(name, patches, options, compressed, differs):
    image = Image(options, compressed)
    places = {"header": 0, "l1": image.l1, "l2": image.l2, "snapshots": image.snapshots}
    if hasattr(image, "bitmaps"):
        places.update(bitmaps=image.bitmaps, directory=image.directory, table=image.table)
    for place, at, kind, value in patches:
        at += places[place]
        put(image.data, at, kind, value(get(image.data, at, kind)) if callable(value) else value)
    with open("odd", "wb") as out:
        out.write(image.data)
    theirs, ours = convert("qemu-img", "odd", "theirs"), convert(QSNAP, "odd", "ours")
    if differs == "refuse":
        good = theirs is not None and ours is None
    elif differs == "read":
        good = theirs is None and ours is not None
    else:
        good = theirs == ours
    if good:
        print("ok %s" % name)
        return 0
    said = ["refuses" if what is None else "reads %d bytes" % len(what) for what in (theirs, ours)]
    print("not ok %s: qemu-img %s, qsnap %s" % (name, *said))
    return 1


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        return 1 if sum([judge(*r) for r in ROWS]) else 0


sys.exit(main())
