#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 400
"""Internal snapshots taken, gone back to and deleted by qsnap and by qemu-img in turns, with qemu-io writing between: every state
keeps its bytes and qemu-img's check has nothing to say. Then what qemu-img does wrong, beside what qsnap does; and qsnap killed
in the middle."""
import filecmp
import json
import os
import random
import shutil
import subprocess
import time

import qemu
from qemu import Wrong, qemu_img, qemu_io, qsnap

FOLDER = os.path.join(qemu.TMP, "turns")
IMAGE = os.path.join(FOLDER, "disk.qcow2")
FLAT = os.path.join(FOLDER, "flat.raw")


def fresh():
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)


def flat(program=qemu_img, snapshot=None, path=IMAGE):
    program("convert", *(["-l", snapshot] if snapshot else []), "-f", "qcow2", "-O", "raw", path, FLAT)
    with open(FLAT, "rb") as file:
        return file.read()


def same(what, got, want):
    if len(got) != len(want):
        raise Wrong(f"{what}: {len(got)} bytes instead of {len(want)}")
    if got != want:
        at = next(i for i, (a, b) in enumerate(zip(got, want)) if a != b)
        raise Wrong(f"{what}: byte {at:#x} is {got[at]:#04x} instead of {want[at]:#04x}")


def checked(path=IMAGE):
    for program in (qemu_img, qsnap):
        program("check", "-q", path)


class Turns:
    """One image and what each of its states must show."""

    def __init__(self, seed):
        fresh()
        self.rng = random.Random(seed)
        o, _ = qemu.choose(seed)
        o.update(data_file=False, data_file_raw=False, bitmaps=0, snapshots=1)
        qemu.settle(o, {})
        if o["refcount_bits"] < 4:
            o["refcount_bits"] = 8
        self.options = o
        self.size = self.rng.randrange(40, 400) * max(o["cluster"] // 4, 2048)
        self.states, self.named = {}, 0
        words = []
        if o["layers"] > 1:
            base = os.path.join(FOLDER, "base.raw")
            with open(base, "wb") as file:
                file.write(self.rng.randbytes(100000))
            words = ["-b", "base.raw", "-F", "raw"]
            o["prealloc"] = "off"
        qemu_img("create", "-q", "-f", "qcow2", "-o", qemu.options(o), *words, IMAGE, self.size)
        self.log = []

    def run(self, *words):
        """One of the two, by chance."""
        program = self.rng.choice([qsnap, qemu_img])
        self.log.append(f"{program.__name__} {' '.join(words)}")
        program(*words, IMAGE)

    def write(self):
        # Compressed clusters that share a host cluster may be more than narrow refcounts can count.
        o = dict(self.options, data_file=self.options["refcount_bits"] < 16)
        commands = qemu.writes(self.rng, self.size, o, self.rng.randrange(1, 6))
        self.log.append("; ".join(commands))
        qemu_io(IMAGE, commands)

    def step(self):
        what = self.rng.randrange(10)
        name = self.rng.choice(sorted(self.states)) if self.states else None
        if what < 3 and len(self.states) < 7:
            self.named += 1
            self.run("snapshot", "-c", f"state{self.named}")
            self.states[f"state{self.named}"] = flat()
        elif what < 5 and name:
            self.run("snapshot", "-a", name)
            self.size = len(self.states[name])
            same(f"the disk after going back to {name}", flat(), self.states[name])
        elif what < 6 and name:
            self.run("snapshot", "-d", name)
            del self.states[name]
        elif what < 7 and self.options["compat"] != "0.10":
            self.size += self.rng.randrange(1, 200) * 512
            qemu_img("resize", "-q", IMAGE, self.size)
        else:
            self.write()

    def look(self):
        checked()
        for name, want in self.states.items():
            same(f"snapshot {name}", flat(qsnap, name), want)

    def finish(self):
        """QEMU goes back to each."""
        for name, want in self.states.items():
            qemu_img("snapshot", "-a", name, IMAGE)
            same(f"the disk after qemu-img went back to {name}", flat(), want)
        checked()


def in_turns(seed):
    turns = Turns(seed)
    try:
        for step in range(14):
            turns.step()
            if step % 3 == 2:
                turns.look()
        turns.look()
        turns.finish()
    except Wrong as why:
        raise Wrong("\n".join([str(turns.options), *turns.log, str(why)])) from None


def old_sequence(first, second):
    """The one that finds COPIED bits which nobody cleared: s1, s2, overwrite, delete s1, back to s2, write, read s2."""
    fresh()
    qemu_img("create", "-q", "-f", "qcow2", IMAGE, "16M")
    qemu_io(IMAGE, ["write -P 1 0 1M"])
    qsnap("snapshot", "-c", "s1", IMAGE)
    qsnap("snapshot", "-c", "s2", IMAGE)
    qemu_io(IMAGE, ["write -P 2 0 1M"])
    first("snapshot", "-d", "s1", IMAGE)
    second("snapshot", "-a", "s2", IMAGE)
    qemu_io(IMAGE, ["write -P 3 0 1M"])
    checked()
    same("s2", flat(qsnap, "s2")[:1 << 20], b"\1" * (1 << 20))


# ---- what qemu-img does wrong ----

def overflow():
    """refcount_bits=1: qemu-img leaves clusters behind, qsnap leaves the file as it is, or makes the refcounts wider."""
    fresh()
    for program in (qemu_img, qsnap):
        qemu_img("create", "-q", "-f", "qcow2", "-o", "refcount_bits=1", IMAGE, "16M")
        qemu_io(IMAGE, ["write -P 7 0 3M"])
        shutil.copy(IMAGE, IMAGE + ".before")
        program("snapshot", "-c", "s", IMAGE, want=1)
        status = qemu_img("check", "-q", IMAGE, want=None).status
        unchanged = filecmp.cmp(IMAGE, IMAGE + ".before", shallow=False)
        if program is qsnap and not (unchanged and status == 0):
            raise Wrong(f"a failed snapshot -c of qsnap: unchanged {unchanged}, check says {status}")
        if program is qemu_img and status == 0:
            raise Wrong("qemu-img has learned to fail cleanly: tell so in the README")
    qsnap("snapshot", "-c", "s", "--widen", IMAGE)
    qemu_io(IMAGE, ["write -P 8 0 1M"])
    checked()
    same("s", flat(qsnap, "s")[:3 << 20], b"\7" * (3 << 20))
    if json.loads(qemu_img("info", "--output=json", IMAGE).out)["format-specific"]["data"]["refcount-bits"] != 2:
        raise Wrong("refcounts are not 2 bits wide")


def bitmaps():
    """qemu-img refuses to go back when there are bitmaps."""
    fresh()
    qemu_img("create", "-q", "-f", "qcow2", IMAGE, "16M")
    qemu_io(IMAGE, ["write -P 1 0 1M"])
    qemu_img("snapshot", "-c", "s", IMAGE)
    qemu_img("bitmap", "--add", "-g", "64k", IMAGE, "on")
    qemu_img("bitmap", "--add", "--disable", IMAGE, "off")
    qemu_io(IMAGE, ["write -P 2 0 64k"])
    qemu_img("snapshot", "-a", "s", IMAGE, want=1)
    qsnap("snapshot", "-a", "s", IMAGE)
    checked()
    said = json.loads(qemu_img("info", "--output=json", IMAGE).out)["format-specific"]["data"]["bitmaps"]
    if [b["flags"] for b in said] != [["auto"], []]:
        raise Wrong(f"bitmaps: {said}")
    same("disk", flat()[:1 << 20], b"\1" * (1 << 20))


def names():
    """One argument, two snapshots: qemu-img goes back to the one with this id and deletes the one with this name."""
    fresh()
    qemu_img("create", "-q", "-f", "qcow2", IMAGE, "1M")
    for pattern, name in ((1, "2"), (2, "first"), (3, "last")):
        qemu_io(IMAGE, [f"write -P {pattern} 0 64k"])
        qemu_img("snapshot", "-c", name, IMAGE)
    copy = IMAGE + ".copy"
    link = os.path.join(FOLDER, "qemu-img")
    os.symlink(os.path.abspath(qemu.QSNAP), link)
    results = []
    for program in (qemu.QEMU_IMG, link):
        shutil.copy(IMAGE, copy)
        qemu.run(program, "snapshot", "-a", "2", copy)
        first = flat(path=copy)[0]
        qemu.run(program, "snapshot", "-d", "2", copy)
        qemu.run(program, "snapshot", "-d", "3", copy, want=1)
        listed = qemu.run(program, "snapshot", "-l", copy).out.split()
        results.append((first, listed))
    if results[0] != results[1] or results[0][0] != 2:
        raise Wrong(f"qemu-img and the link differ: {results}")
    before = open(IMAGE, "rb").read()
    for action in ("-a", "-d"):
        said = qsnap("snapshot", action, "2", IMAGE, want=1).err
        if "id '1' name '2'" not in said or "id '2' name 'first'" not in said or "last" in said:
            raise Wrong(f"the candidates are not listed: {said}")
    if open(IMAGE, "rb").read() != before:
        raise Wrong("an ambiguous name changed the image")
    qsnap("snapshot", "-a", "name=2", IMAGE)
    same("disk", flat()[:65536], b"\1" * 65536)
    qsnap("snapshot", "-d", "id=2", IMAGE)
    qsnap("snapshot", "-d", "3", IMAGE)
    if [s["name"] for s in json.loads(qsnap("snapshot", "-l", "--json", IMAGE).out)] != ["2"]:
        raise Wrong("wrong snapshots were deleted")
    checked()


def usage():
    """What deleting frees is what was told before."""
    fresh()
    qemu_img("create", "-q", "-f", "qcow2", IMAGE, "64M")
    qemu_io(IMAGE, ["write -P 1 0 8M"])
    qsnap("snapshot", "-c", "a", IMAGE)
    qemu_io(IMAGE, ["write -P 2 0 3M"])
    qsnap("snapshot", "-c", "b", IMAGE)
    qemu_io(IMAGE, ["write -P 3 1M 4M"])
    told = {s["name"]: s for s in json.loads(qsnap("snapshot", "-l", "--output=json", IMAGE).out)}
    also = json.loads(qsnap("info", "--output=json", IMAGE).out)["snapshots"]
    if [s["exclusive-bytes"] for s in also] != [told[n]["exclusive-bytes"] for n in "ab"]:
        raise Wrong(f"info says {also}, snapshot -l says {told}")
    # 3 MiB of data, an L2 table, the L1 table; b: 2 MiB that were overwritten since, and tables
    mib, tables = 1 << 20, 2 * 65536
    want = {"a": (3 * mib + tables, 5 * mib), "b": (2 * mib + tables, 6 * mib)}
    got = {n: (told[n]["exclusive-bytes"], told[n]["shared-bytes"]) for n in "ab"}
    if got != want:
        raise Wrong(f"exclusive and shared: {got} instead of {want}")


# ---- killed ----

def killed(seed):
    """kill -9 at some moment; afterwards both checks can repair what is left, and every state is old or new."""
    fresh()
    rng = random.Random(seed)
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512,preallocation=metadata", IMAGE, "12M")
    qemu_io(IMAGE, ["write -P 1 0 200k"])
    qsnap("snapshot", "-c", "s", IMAGE)
    qemu_io(IMAGE, ["write -P 2 100k 200k"])
    want = {None: flat(), "s": flat(qsnap, "s")}
    words = rng.choice([["-c", "t"], ["-a", "s"], ["-d", "s"]])
    with subprocess.Popen([qemu.QSNAP, "snapshot", *words, IMAGE], stderr=subprocess.DEVNULL) as process:
        time.sleep(rng.random() * 0.03)
        process.kill()
    for program in (qemu_img, qsnap):
        copy = IMAGE + ".copy"
        shutil.copy(IMAGE, copy)
        for name in [None] + [s["name"] for s in json.loads(qsnap("snapshot", "-l", "--json", copy).out)]:
            states = [want["s"], want[None]] if name is None and words[0] == "-a" else [want.get(name, want[None])]
            if flat(qsnap, name, copy) not in states:
                raise Wrong(f"{words}: {name or 'the disk'} is neither old nor new")
        program("check", "-q", "-r", "all", copy, want=None)
        checked(copy)


def main():
    report = qemu.Report()
    for first in (qsnap, qemu_img):
        for second in (qsnap, qemu_img):
            report.test(f"the old sequence: {first.__name__}, {second.__name__}", old_sequence, first, second)
    for test in (overflow, bitmaps, names, usage):
        report.test(test.__doc__.split(":")[0].split("\n")[0].rstrip("."), test)
    report.seeds(6, "in turns with qemu-img:", in_turns)
    report.seeds(6, "killed:", killed)
    report.finish()


main()
