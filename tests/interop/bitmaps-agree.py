#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 200
"""Random lists of bitmap actions and writes, ours and qemu-img's taking turns on one image: every bit is what plain sets say, both
checks are clean. The bits are read from the file by a third reader, below."""
import os
import random
import struct

import qemu
from qemu import Wrong, qemu_img, qemu_io, qsnap, run

SIZE = 3 << 20


def bitmaps_of(path):
    """{name: (enabled, in use, granularity, set of bits)} as the file says."""
    with open(path, "rb") as file:
        data = file.read()
    cluster_bits, header_length = struct.unpack(">I", data[20:24])[0], struct.unpack(">I", data[100:104])[0]
    cluster = 1 << cluster_bits
    autoclear = struct.unpack(">Q", data[88:96])[0]
    at, found = header_length, {}
    while True:
        kind, length = struct.unpack(">II", data[at:at + 8])
        if kind == 0:
            return found
        if kind == 0x23852875 and autoclear & 1:
            break
        at += 8 + (length + 7) // 8 * 8
    count, _, _, at = struct.unpack(">IIQQ", data[at + 8:at + 32])
    for _ in range(count):
        table, entries, flags, _, shift, name_len, extra = struct.unpack(">QIIBBHI", data[at:at + 24])
        name = data[at + 24 + extra:at + 24 + extra + name_len].decode()
        at += (24 + extra + name_len + 7) // 8 * 8
        bits = set()
        for i in range(entries):
            entry = struct.unpack(">Q", data[table + 8 * i:table + 8 * i + 8])[0]
            host = entry & ~511
            content = data[host:host + cluster] if host else bytes([255 if entry & 1 else 0]) * cluster
            for k, byte in enumerate(content):
                if byte:
                    bits |= {(i * cluster + k) * 8 + b for b in range(8) if byte >> b & 1}
        last = (SIZE + (1 << shift) - 1) >> shift
        found[name] = (bool(flags & 2), bool(flags & 1), 1 << shift, {b for b in bits if b < last})
    return found


class Model:
    def __init__(self, rng, cluster):
        self.rng, self.cluster, self.bitmaps = rng, cluster, {}

    def step(self):
        """(words for `bitmap` without the file, or None; an offset and a length to write, or None)"""
        rng, name = self.rng, self.rng.choice("abcd")
        what = rng.choice(["write", "write", "add", "add", "remove", "clear", "enable", "disable", "merge"])
        if what == "write":
            start = rng.randrange(0, SIZE, 512)
            length = min(SIZE - start, 512 * rng.randint(1, 200))
            self.mark(start, length)
            return None, (start, length)
        if what == "add":
            if name in self.bitmaps:
                return None, None
            granularity = rng.choice([512, 4096, 65536, 1 << 20, max(4096, self.cluster)])
            self.bitmaps[name] = [True, granularity, set()]
            default = granularity == max(4096, self.cluster) and rng.random() < 0.7
            return ["--add", *([] if default else ["-g", str(granularity)]), name], None
        if name not in self.bitmaps:
            return None, None
        return self.change(what, name)

    def change(self, what, name):
        if what == "remove":
            del self.bitmaps[name]
        elif what == "clear":
            self.bitmaps[name][2] = set()
        elif what == "merge":
            other = self.rng.choice(sorted(self.bitmaps))
            for bit in list(self.bitmaps[other][2]):
                size = self.bitmaps[other][1]
                self.set(name, bit * size, min(size, SIZE - bit * size))
            return ["--merge", other, name], None
        else:
            self.bitmaps[name][0] = what == "enable"
        return ["--" + what, name], None

    def set(self, name, start, length):
        _, size, bits = self.bitmaps[name]
        bits |= set(range(start // size, (start + length - 1) // size + 1))

    def mark(self, start, length):
        for name, (enabled, _, _) in self.bitmaps.items():
            if enabled:
                self.set(name, start, length)


def compare(path, model, after):
    found, wanted = bitmaps_of(path), model.bitmaps
    if set(found) != set(wanted):
        raise Wrong(f"after {after}: bitmaps {sorted(found)}, not {sorted(wanted)}")
    for name, (enabled, size, bits) in wanted.items():
        if found[name][:3] != (enabled, False, size):
            raise Wrong(f"after {after}: bitmap {name} is {found[name][:3]}, not {(enabled, False, size)}")
        if found[name][3] != bits:
            raise Wrong(f"after {after}: bitmap {name} differs in bits {sorted(found[name][3] ^ bits)[:20]}")


def write(path, place, ours, rng):
    start, length = place
    command = f"write -P {rng.randrange(256)} {start} {length}"
    if ours:
        qsnap("io", "-f", "qcow2", "-c", command, path)
    else:
        qemu_io(path, [command])


def one_list(seed):
    rng = random.Random(seed)
    cluster = rng.choice([512, 4096, 65536, 65536])
    path = os.path.join(qemu.TMP, f"bitmaps{seed}.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", path, str(SIZE))
    model, done = Model(rng, cluster), []
    for _ in range(25):
        words, place = model.step()
        ours = rng.random() < 0.6
        if place:
            write(path, place, ours, rng)
        elif words:
            run(qemu.QSNAP if ours else qemu.QEMU_IMG, "bitmap", *words[:-1], path, words[-1])
        else:
            continue
        done.append(("ours" if ours else "theirs", words or place))
        compare(path, model, done)
    qemu_img("check", path)
    qsnap("check", path)
    os.unlink(path)


def merge_between_images():
    """--merge from another image, and refused where the disks' sizes differ."""
    a, b, c = (os.path.join(qemu.TMP, name) for name in ("a.qcow2", "b.qcow2", "c.qcow2"))
    for path, size in ((a, SIZE), (b, SIZE), (c, 2 * SIZE)):
        qemu_img("create", "-q", "-f", "qcow2", path, str(size))
        qsnap("bitmap", "--add", path, "x")
        qemu_io(path, ["write 1M 64k"])
    qsnap("bitmap", "--add", "--merge", "x", "-b", a, b, "y")
    if bitmaps_of(b)["y"][3] != {16}:
        raise Wrong(f"bits of y: {bitmaps_of(b)['y'][3]}")
    before = bitmaps_of(b)
    for program in (qemu.QSNAP, qemu.QEMU_IMG):
        run(program, "bitmap", "--merge", "x", "-b", c, b, "y", want=1)
        if bitmaps_of(b) != before:
            raise Wrong("a refused merge changed something")


def a_crash_loses_them():
    """In use when nobody uses it: it can be removed and nothing else; so say both."""
    path = os.path.join(qemu.TMP, "lost.qcow2")
    for program in (qemu.QSNAP, qemu.QEMU_IMG):
        qemu.remove(path)
        qemu_img("create", "-q", "-f", "qcow2", path, "1M")
        qemu_img("bitmap", "--add", path, "x")
        qemu_img("bitmap", "--add", path, "y")
        with open(path, "r+b") as file:
            data = file.read()
            at = data.index(struct.pack(">I", 0x23852875))
            file.seek(struct.unpack(">Q", data[at + 24:at + 32])[0] + 12)
            file.write(struct.pack(">I", 3))
        for words in (["--clear"], ["--enable"], ["--disable"], ["--merge", "y"], ["--add"]):
            run(program, "bitmap", *words, path, "x", want=1)
        run(program, "bitmap", "--merge", "x", path, "y", want=1)
        if not bitmaps_of(path)["x"][1]:
            raise Wrong("the flag is gone")
        run(program, "bitmap", "--remove", path, "x")
        qemu_img("check", path)


report = qemu.Report()
report.seeds(12, "bitmaps agree", one_list)
for test in (merge_between_images, a_crash_loses_them):
    report.test("bitmaps: " + test.__name__.replace("_", " "), test)
report.finish()
