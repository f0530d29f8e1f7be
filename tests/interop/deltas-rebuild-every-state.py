#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 240
"""convert --since: the image of one snapshot and what differs from it give the later state, bit for bit, as qemu-img reads both:
in chains of deltas, after writes, zeroes, discards, reverts and resizes, in all kinds of images, over backing files that are
longer or shorter than they should be. diff tells no less than what differs (FORMAT.md §8.4, §10.4)."""
import os
import random
import shutil
import subprocess

import qemu
from qemu import Wrong, qemu_img, qemu_io, qsnap, same_files

FOLDER = os.path.join(qemu.TMP, "deltas")


def path(name):
    return os.path.join(FOLDER, name)


def start():
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)


def flat(source, name):
    """All bytes of an image as qemu-img reads it."""
    qemu_img("convert", "-O", "raw", source, path(name))
    return path(name)


def state(image, name):
    """The bytes of one state. qemu-img gives a snapshot the active disk's size; where it is applied it has its own."""
    if name is None:
        return flat(image, "active.raw")
    applied = path("applied.qcow2")
    shutil.copyfile(image, applied)
    qemu_img("snapshot", "-a", name, applied)
    return flat(applied, name + ".raw")


def covers(image, names, files):
    """Bytes outside of what diff tells are the same, and where it tells of zeros there are zeros."""
    for a, b in [(a, b) for a in names for b in names]:
        words = ["diff", "--from", a or "active", "--to", b or "active", "--json", image]
        told = qsnap(*words).json()
        with open(files[a], "rb") as one, open(files[b], "rb") as two:
            older, newer = bytearray(one.read()), two.read()
        size = len(newer)
        older = (older + bytes(max(0, size - len(older))))[:size]
        for x in told:
            start_at, end = x["start"], x["start"] + x["length"]
            if x["zero"] and any(newer[start_at:end]):
                raise Wrong(f"{words}: no zeros at {x}")
            if x["to"]:
                older[start_at:end] = newer[start_at:end]
        if older != newer:
            raise Wrong(f"{words}: not all of what differs is told")


class History:
    """An image with snapshots named s0, s1, ...; sizes differ."""

    def __init__(self, seed):
        start()
        self.o, self.rng = qemu.choose(seed)
        o, rng = self.o, self.rng
        o.update(data_file=False, data_file_raw=False, prealloc="off", bitmaps=0, refcount_bits=16, compat=rng.choice(["1.1", "1.1", "0.10"]))
        o["extended"] = rng.random() < 0.3
        o["cluster"] = min(o["cluster"], 256 << 10)
        qemu.settle(o, {"extended": True} if o["extended"] and o["compat"] == "1.1" else {})
        self.size = rng.randrange(20 * o["cluster"] // 512, 80 * o["cluster"] // 512) * 512
        self.image, self.names = path("source.qcow2"), []
        words = ["create", "-q", "-f", "qcow2", "-o", qemu.options(o)]
        if rng.random() < 0.5:
            words += self.base()
        qemu_img(*words, self.image, self.size)
        for number in range(rng.randrange(2, 4)):
            self.change()
            self.names.append(f"s{number}")
            qemu_img("snapshot", "-c", f"s{number}", self.image)
            if rng.random() < 0.3:
                qemu_img("snapshot", "-a", rng.choice(self.names), self.image)
                self.size = qemu_img("info", "--output=json", self.image).json()["virtual-size"]
        self.change()

    def base(self):
        base, rng = path("base.img"), self.rng
        size = max(512, int(self.size * rng.choice([0.5, 1, 1.5])) // 512 * 512)
        if rng.random() < 0.5:
            with open(base, "wb") as file:
                file.write(rng.randbytes(size // 2))
                file.truncate(size)
            return ["-b", "base.img", "-F", "raw"]
        qemu_img("create", "-q", "-f", "qcow2", base, size)
        qemu_io(base, qemu.writes(rng, size, dict(self.o, cluster=65536, data_file=False), 12))
        return ["-b", "base.img", "-F", "qcow2"]

    def change(self):
        commands = qemu.writes(self.rng, self.size, self.o, self.rng.randrange(0, 8))
        if commands:
            qemu_io(self.image, commands)
        if self.rng.random() < 0.4 and self.o["compat"] != "0.10":  # QEMU grows no such image that has snapshots or a longer base
            self.size += self.rng.randrange(1, 1 + 30 * self.o["cluster"] // 512) * 512
            qemu_img("resize", "-q", self.image, self.size)
            if self.rng.random() < 0.5:
                commands = qemu.writes(self.rng, self.size, self.o, 3)
                qemu_io(self.image, commands)

    def full(self, name, kind):
        """The image of snapshot `name` that deltas begin with, and its format."""
        out = path("full.img")
        selected = ["-l", "name=" + name]
        if kind == "qcow2":
            qsnap("convert", *selected, "-O", "qcow2", "-o", f"cluster_size={self.rng.choice(qemu.SIZES[:10])}", self.image, out)
            return "qcow2"
        qsnap("convert", *selected, "-O", "raw", self.image, out)
        size = os.path.getsize(out)
        if kind == "longer":  # what a larger disk had there must not show
            with open(out, "ab") as file:
                file.write(b"\xee" * self.rng.randrange(1, 200 * 512))
        if kind == "shorter":
            os.truncate(out, self.rng.randrange(0, 1 + size // 512) * 512)
        return "raw"

    def delta(self, since, until, below, below_format, out):
        rng = self.rng
        words = ["convert", "-O", "qcow2", "--since", "name=" + since, "-B", os.path.basename(below), "-F", below_format]
        if until:
            words += ["-l", "name=" + until]
        options = [f"cluster_size={rng.choice([512, 4096, 65536, 262144, self.o['cluster']])}"]
        if rng.random() < 0.2:
            options.append("compat=0.10")
        elif rng.random() < 0.2:
            options = ["extended_l2=on"]
        elif rng.random() < 0.3:
            options.append("compression_type=zstd")
        words += ["-o", ",".join(options)]
        words += rng.choice([[], [], ["-c"], ["-S", "0"], ["--threads", "0"], ["-c", "--recompress"], ["-T", "none", "-t", "none"]])
        if rng.random() < 0.2:
            with open(out, "wb") as file:
                done = subprocess.run([qemu.QSNAP, *words, self.image, "-"], stdout=file, stderr=subprocess.PIPE, check=False,
                                      cwd=FOLDER)
            if done.returncode:
                raise Wrong(f"{words}: status {done.returncode} {done.stderr}")
        else:
            qsnap(*words, self.image, out)
        qemu_img("check", "-q", out)
        return " ".join(words)


def rebuilt(seed):
    h = History(seed)
    states = h.names + [None]
    files = {name: state(h.image, name) for name in states}
    if len(files[None]) and all(os.path.getsize(f) < 8 << 20 for f in files.values()):
        covers(h.image, states, files)
    # all the way, delta upon delta; now and then one back to an earlier state
    order = list(h.names)
    if h.rng.random() < 0.3:
        h.rng.shuffle(order)
    first = order[0]
    below, below_format = path("full.img"), h.full(first, h.rng.choice(["raw", "qcow2", "longer", "shorter"]))
    last = first
    for number, name in enumerate(order[1:] + [None]):
        out = path(f"delta{number}.qcow2")
        words = h.delta(last, name, below, below_format, out)
        try:
            same_files(flat(out, "got.raw"), files[name])
        except Wrong as why:
            raise Wrong(f"{h.o}: {words}: {why}") from None
        qsnap("compare", files[name], out)
        if name is None:
            break
        last, below, below_format = name, out, "qcow2"


def nothing_but_the_change():
    """A delta holds what was written and no more, compressed clusters as they were."""
    start()
    image, full, out = path("source.qcow2"), path("full.qcow2"), path("delta.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", image, "64M")
    qemu_io(image, ["write -P 1 0 40M", "write -c -P 2 50M 64k"])
    qemu_img("snapshot", "-c", "s", image)
    qemu_io(image, ["write -P 3 1M 64k", "write -P 4 30M 128k", "discard 20M 1M", "write -z 45M 1M", "write -c -P 5 55M 64k"])
    qsnap("convert", "-l", "s", "-O", "qcow2", image, full)
    mib, words = 1 << 20, ["--since", "s", "-B", "full.qcow2", "-F", "qcow2", "-O", "qcow2", image, out]
    done = qsnap("-v", "convert", *words)
    own = [(e["start"], e["length"], e["zero"]) for e in qemu_img("map", "--output=json", out).json() if not e["depth"] and e["present"]]
    if [e for e in own if e[0] != 45 * mib] != [  # zeros where zeros were: told or not
            (mib, 65536, False), (20 * mib, mib, True), (30 * mib, 131072, False), (55 * mib, 65536, False)]:
        raise Wrong(f"the delta has {own}")
    read = int(done.err.split(" bytes read")[0].split()[-1])
    if read != 4 * 65536:
        raise Wrong(f"{read} bytes were read for 4 clusters")
    done = qsnap("-v", "convert", "-c", *words)
    if " 0 of compressed clusters kept" in done.err or "of compressed clusters kept" not in done.err:
        raise Wrong(f"the compressed cluster was compressed again: {done.err}")
    same_files(flat(image, "want.raw"), flat(out, "got.raw"))


report = qemu.Report()
report.test("nothing but the change", nothing_but_the_change)
report.seeds(16, "deltas rebuild every state", rebuilt)
report.finish()
