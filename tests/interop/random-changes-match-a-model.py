#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 400
"""Long random lists of changes on images of all kinds, made by `qsnap io` and friends, alone or in turns with qemu-io: the disk and
every snapshot show what a plain array of bytes says, and both checks have nothing to say. Then `qsnap io` killed at random
moments, and the locks of writers."""
import os
import random
import subprocess
import time

import qemu
from qemu import Wrong, qemu_img, qsnap

FLAT = os.path.join(qemu.TMP, "flat.raw")


def flat(path, *more):
    qemu_img("convert", "-f", "qcow2", *more, "-O", "raw", path, FLAT)
    with open(FLAT, "rb") as file:
        return file.read()


def same(what, got, want):
    if got == want:
        return
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    raise Wrong(f"{what}: {len(got)} bytes, {len(want)} wanted; first difference at {at:#x}: {got[at:at + 4]!r}, {want[at:at + 4]!r}")


class Subject:
    """An image, and what it must show."""

    def __init__(self, seed):
        image = qemu.image(seed)
        self.path, self.o, self.rng = image.path, image.options, random.Random(seed * 7 + 1)
        self.disk = bytearray(flat(self.path))
        self.states = {name: flat(self.path, "-l", name) for name in image.names}
        self.named, self.pending, self.log = len(image.names), [], [str(image)]
        self.backed = self.o["layers"] > 1

    def play(self, turns):
        """Gives the commands that were collected to one of the two."""
        commands, self.pending = self.pending, []
        if not commands:
            return
        theirs = turns and self.rng.random() < 0.5
        if theirs:
            commands = [c for c in commands if c != "reopen"]
        program = [qemu.QEMU_IO, "-d", "unmap"] if theirs else [qemu.QSNAP, "io"]
        self.log += [f"{program[0].rsplit('/', 1)[-1]}: {c}" for c in commands]
        done = subprocess.run([*program, "-f", "qcow2", self.path], input="\n".join(commands).encode() + b"\n",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=100)
        text = (done.stdout + done.stderr).decode(errors="replace")
        if done.returncode or "failed" in text:
            raise Wrong(f"{program}: {done.returncode}: {text[-600:]}")

    def range(self, whole=False):
        cluster, size = self.o["cluster"], len(self.disk)
        start = self.rng.randrange(size)
        length = self.rng.choice([1, 512, 4096, cluster, 3 * cluster, 1 + self.rng.randrange(2 * cluster)])
        if whole:
            start, length = start // cluster * cluster, cluster * self.rng.choice([1, 1, 3])
        return start, min(length, size - start)

    # ---- operations: they change the model and collect a command ----

    def write(self):
        start, length = self.range()
        pattern = self.rng.randrange(1, 256)
        self.disk[start:start + length] = bytes([pattern]) * length
        self.pending.append(f"write -P {pattern} {start} {length}")

    def zero(self):
        start, length = self.range()
        self.disk[start:start + length] = bytes(length)
        self.pending.append(f"write -z {self.rng.choice(['', '-u '])}{start} {length}")

    def discard(self):
        if self.backed and self.o["compat"] == "0.10":
            return
        start, length = self.range(whole=True)
        self.disk[start:start + length] = bytes(length)
        self.pending.append(f"discard {start} {length}")

    def compressed(self):
        if self.o["data_file"]:
            return
        start, length = self.range(whole=True)
        pattern = self.rng.randrange(1, 256)
        self.disk[start:start + length] = bytes([pattern]) * length
        self.play(self.turns)
        self.log.append(f"qsnap: write -c -P {pattern} {start} {length}")
        qsnap("io", "-f", "qcow2", "-c", f"write -c -P {pattern} {start} {length}", self.path)

    def read(self):
        start, length = self.range()
        if len(set(self.disk[start:start + length])) == 1:
            self.pending.append(f"read -P {self.disk[start]} {start} {length}")

    def flush(self):
        self.pending.append("flush")

    def reopen(self):
        self.pending.append("reopen")

    def resize(self):
        if self.o["compat"] == "0.10" or self.o["bitmaps"] or self.o["data_file"]:
            return
        self.play(self.turns)
        size = max(512, len(self.disk) + self.rng.randrange(-40, 60) * 512)
        self.log.append(f"qsnap: truncate {size}")
        qsnap("io", "-f", "qcow2", "-c", f"truncate {size}", self.path)
        self.disk = self.disk[:size] + bytes(max(0, size - len(self.disk)))

    def snapshot(self):
        if self.o["data_file"] or self.o["refcount_bits"] < 8:
            return
        self.play(self.turns)
        what = self.rng.choice(["-c", "-c", "-a", "-d"])
        if what == "-c":
            self.named += 1
            name = f"new{self.named}"
            self.states[name] = bytes(self.disk)
        elif not self.states:
            return
        else:
            name = self.rng.choice(sorted(self.states))
        self.log.append(f"qsnap: snapshot {what} {name}")
        qsnap("snapshot", what, name, self.path)
        if what == "-a":
            self.disk = bytearray(self.states[name])
        elif what == "-d":
            del self.states[name]

    OPERATIONS = ((write, 12), (zero, 3), (discard, 2), (compressed, 2), (read, 3), (flush, 1), (reopen, 1), (resize, 1), (snapshot, 2))

    def look(self):
        self.play(self.turns)
        same("the disk", flat(self.path), bytes(self.disk))
        for name, want in self.states.items():
            qsnap("convert", "-l", name, "-f", "qcow2", "-O", "raw", self.path, FLAT)
            with open(FLAT, "rb") as file:
                same(f"snapshot {name}", file.read(), want)
        for program in (qsnap, qemu_img):
            program("check", "-q", self.path)

    def run(self, turns):
        self.turns = turns
        choices = [f for f, weight in self.OPERATIONS for _ in range(weight)]
        for step in range(1, 61):
            self.rng.choice(choices)(self)
            if len(self.pending) >= 8:
                self.play(turns)
            if step % 20 == 0:
                self.look()


def changes(seed, turns):
    subject = Subject(seed)
    try:
        subject.run(turns)
    except Wrong as why:
        raise Wrong("\n".join([*subject.log, str(why)])) from None


# ---- killed ----

class Unflushed:
    """What was done since the last flush: fills of ranges, each of which may be there or not."""

    def __init__(self, disk):
        self.disk, self.fills = bytearray(disk), []

    def fill(self, start, length, pattern):
        self.fills.append((start, start + length, pattern))

    def flushed(self):
        for start, end, pattern in self.fills:
            self.disk[start:end] = bytes([pattern]) * (end - start)
        self.fills = []

    def judge(self, what, got):
        """Each byte of `got` is what was flushed, or what a later command made of it."""
        if len(got) != len(self.disk):
            raise Wrong(f"{what}: {len(got)} bytes, {len(self.disk)} wanted")
        cuts = sorted({0, len(got), *(f[0] for f in self.fills), *(f[1] for f in self.fills)})
        for start, end in zip(cuts, cuts[1:]):
            new = {pattern for first, last, pattern in self.fills if first <= start and end <= last}
            old, now = self.disk[start:end], got[start:end]
            if now == old or set(now) <= new:
                continue
            wrong = [i for i in range(end - start) if now[i] != old[i] and now[i] not in new]
            if wrong:
                i = wrong[0]
                raise Wrong(f"{what}: {now[i]} at {start + i:#x}, flushed was {old[i]}, then came {sorted(new)}")


def change(rng, cluster, model):
    """A command for `qsnap io`, and what it does to the model."""
    size = len(model.disk)
    start, kind, pattern = rng.randrange(size), rng.randrange(8), rng.randrange(256)
    length = min(size - start, rng.randrange(1, 3 * cluster))
    if kind in (0, 1):
        start -= start % cluster
        length = cluster
    if kind in (1, 2):
        pattern = 0
    model.fill(start, length, pattern)
    words = {0: f"write -c -P {pattern}", 1: "discard", 2: "write -z -u"}.get(kind, f"write -P {pattern}")
    return f"{words} {start} {length}\n"


def change_and_kill(rng, path, cluster, model):
    with subprocess.Popen([qemu.QSNAP, "io", "-f", "qcow2", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for _ in range(rng.randrange(1, 12)):
            commands = [change(rng, cluster, model) for _ in range(rng.randrange(1, 30))]
            process.stdin.write("".join([*commands, "flush\nlength\n"]).encode())
            process.stdin.flush()
            if rng.random() < 0.2:
                break
            while b"iB" not in process.stdout.readline():
                pass
            model.flushed()
            process.stdin.write("".join(change(rng, cluster, model) for _ in range(rng.randrange(0, 6))).encode())
            process.stdin.flush()
        time.sleep(rng.random() * 0.01)
        process.kill()


def killed(seed):
    """kill -9: leaks at most; what was flushed is there byte for byte, the rest is old or new."""
    rng = random.Random(seed)
    path = os.path.join(qemu.TMP, "killed.qcow2")
    qemu.remove(path)
    cluster = rng.choice([512, 4096, 65536])
    size = 200 * cluster
    qsnap("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", path, size)
    model, snapshot = Unflushed(bytes(size)), None
    for round_ in range(4):
        if round_ == 2:
            qsnap("snapshot", "-c", "s", path)
            snapshot = bytes(model.disk)
        change_and_kill(rng, path, cluster, model)
        status = qemu_img("check", "-q", path, want=None).status
        if status not in (0, 3):
            raise Wrong(f"round {round_}: check says {status}")
        got = flat(path)
        model.judge(f"round {round_}", got)
        if snapshot:
            same(f"round {round_}: the snapshot", flat(path, "-l", "s"), snapshot)
        model = Unflushed(got)
    qsnap("check", "-q", "-r", "leaks", path, want=None)
    qemu_img("check", "-q", path)


# ---- locks ----

def locked():
    """While one writes, all others are refused."""
    path = os.path.join(qemu.TMP, "locked.qcow2")
    qemu.remove(path)
    qsnap("create", "-q", "-f", "qcow2", path, "1M")
    others = ([qemu.QEMU_IO, "-f", "qcow2", "-c", "write 0 1", path], [qemu.QEMU_IMG, "snapshot", "-c", "s", path],
              [qemu.QEMU_IMG, "info", path], [qemu.QSNAP, "io", "-f", "qcow2", "-c", "write 0 1", path],
              [qemu.QSNAP, "io", "-r", "-c", "length", path], [qemu.QSNAP, "snapshot", "-c", "s", path])
    for holder in ([qemu.QSNAP, "io"], [qemu.QEMU_IO]):
        with subprocess.Popen([*holder, "-f", "qcow2", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdin.write(b"length\n")
            process.stdin.flush()
            while b"iB" not in process.stdout.readline():
                pass
            for other in others:
                done = qemu.run(*other, want=1)
                if "lock" not in done.err:
                    raise Wrong(f"{holder} writes, and {done}")
            process.stdin.write(b"quit\n")
            process.stdin.close()
            process.stdout.read()
        for other in others[3:5]:
            qemu.run(*other)


def main():
    report = qemu.Report()
    report.test(locked.__doc__.rstrip("."), locked)
    report.seeds(15, "random changes:", lambda seed: changes(seed, False))
    report.seeds(15, "in turns with qemu-io:", lambda seed: changes(seed, True))
    report.seeds(8, "killed:", killed)
    report.finish()


main()
