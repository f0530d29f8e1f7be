#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What changed since a kept snapshot, as images over those of that one: six on a guest that writes all the time, in each way to take
one that is kept; one has the guest's memory, too, and is gone back to; QEMU is killed in between, a disk grows and shrinks. Each chain of
images shows, byte for byte and as qemu-img reads it, what qemu-img finds in the disk's internal snapshot; each is as large as what changed."""
import json
import os

import records
from guest import Guest
from report import Report, rig_for_test
from rig import read, run
from taker import QSNAP, Taker, check_manifest

SLACK = 1 << 20  # tables and headers
report = Report()


def info(path):
    return json.loads(run("qemu-img", "info", "-U", "--output=json", "-f", "qcow2", path))


class Chain:
    """The folders of one guest's increments, and what each must show."""

    def __init__(self, rig, guest):
        self.guest, self.taker = guest, Taker(rig, guest, report)
        self.root = rig.path("backup")
        self.truth = rig.path("truth")
        self.done = []
        os.makedirs(self.root)
        os.makedirs(self.truth)

    def folder(self, name):
        return os.path.join(self.root, name)

    def take(self, name, *words):
        """A snapshot, since the latest one; and what its disks show, by qemu-img, while they have that size."""
        since = ("--since", self.done[-1]) if self.done else ()
        told = json.loads(self.taker.qsnap("snapshot", self.guest.name, name, "--keep", *since, "--to", self.folder(name) + "/", "--json", *words))
        for disk in self.guest.disks:
            run("qemu-img", "convert", "-U", "-f", "qcow2", "-l", f"snapshot.name={name}", "-O", "raw", disk.path, self.raw(name, disk))
        self.done.append(name)
        return told

    def raw(self, name, disk):
        return os.path.join(self.truth, f"{name}-{disk.target}.raw")

    def image(self, name, disk):
        return os.path.join(self.folder(name), disk.target + ".qcow2")

    def shows(self, name):
        for disk in self.guest.disks:
            image, raw = self.image(name, disk), self.raw(name, disk)
            run("qemu-img", "check", "-q", "-f", "qcow2", image)
            assert info(image)["virtual-size"] == os.path.getsize(raw), (info(image), os.path.getsize(raw))
            run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", image, raw)
            run(QSNAP, "compare", "-q", "-f", "qcow2", "-F", "raw", image, raw)

    def changed(self, since, name, disk):
        """Bytes that may differ, as diff tells."""
        told = json.loads(run(QSNAP, "diff", "-U", "--from", f"name={since}", "--to", f"name={name}", "--json", disk.path))
        return sum(x["length"] for x in told if x["to"] and not x["zero"])

    def is_increment(self, name, since):
        """Names, sizes, and what is told of it."""
        with open(os.path.join(self.folder(name), "manifest.json"), encoding="utf-8") as file:
            manifest = json.load(file)
        check_manifest(self.folder(name), [self.image(name, disk) for disk in self.guest.disks])
        assert manifest["since"] == {"name": since}, manifest
        (point,) = json.loads(self.taker.qsnap("show", self.guest.name, name, "--json"))["snapshots"]
        assert [x["since"] for x in point["exports"]] == [since] * len(self.guest.disks) and point["images-since"] == since, point
        for disk, told in zip(self.guest.disks, manifest["disks"]):
            assert told["backing"] == info(self.image(name, disk))["backing-filename"] == f"../{since}/{disk.target}.qcow2", told
            full, bytes_now = os.path.getsize(self.image(self.done[0], disk)), os.path.getsize(self.image(name, disk))
            assert bytes_now <= self.changed(since, name, disk) + SLACK and bytes_now < full / 4, (bytes_now, full)


def busy(chain, guest):
    with report.test("a full one, and increments of a guest that goes on writing"):
        chain.take("s0", "--mode", "instant", "--via", "internal")
        chain.shows("s0")
        guest.wait_records(30)
        told = chain.take("s1", "--mode", "instant", "--via", "internal")
        assert told["since"] == "s0" and [d["base"] for d in told["disks"]] == [chain.image("s0", d) for d in guest.disks], told
        chain.shows("s1")
        chain.is_increment("s1", "s0")
    with report.test("cold, and compressed"):
        guest.wait_records(30)
        chain.take("s2", "--mode", "cold", "--compress", "zstd")
        chain.shows("s2")
        chain.is_increment("s2", "s1")


def with_memory(chain, guest):
    """Its images are the chain's next, and what is kept in the disks goes back with the guest's memory."""
    name, before = "m", chain.done[-1]
    with report.test("with the guest's memory, beside the increment and in the state folder"):
        guest.wait_records(10)
        told = chain.take(name, "--memory", "--mode", "instant")
        chain.shows(name)
        chain.is_increment(name, before)
        with open(os.path.join(chain.folder(name), "manifest.json"), encoding="utf-8") as file:
            memory = json.load(file)["memory"]
        for file in os.path.join(chain.folder(name), memory["file"]), told["memory"]:
            assert run("sha256sum", file).split()[0] == memory["sha256"] == told["memory-sha256"], (file, memory, told)
    with report.test("from there the guest goes on as if nothing had been since"):
        newest = records.check_disks([chain.raw(name, disk) for disk in guest.disks])[0][0]
        guest.wait_records(10)
        start = os.path.getsize(guest.beats)
        chain.taker.qsnap("revert", guest.name, name)
        guest.wait_records(2)
        first = min(guest.numbers(start)[1:])  # the first one may be half of a number
        assert newest <= first <= newest + 2 and "start" not in read(guest.beats)[start:], (newest, first)


def after_a_crash(chain, guest):
    with report.test("QEMU was killed in between"):
        guest.wait_records(10)
        guest.kill()
        guest.wait_state("shut off")
        guest.start()
        guest.wait_records(10)
        before = chain.done[-1]
        chain.take("s3")
        chain.shows("s3")
        chain.is_increment("s3", before)


def resized(chain, guest):
    vda = guest.disks[0]
    size = info(vda.path)["virtual-size"]
    with report.test("a disk grew while the guest ran"):
        guest.virsh("blockresize", guest.name, "vda", f"{size + (40 << 20)}B")
        guest.wait_records(10)
        told = chain.take("s4")
        assert told["disks"][0]["virtual-size"] == size + (40 << 20), told
        chain.shows("s4")
        chain.is_increment("s4", "s3")
    with report.test("and shrank while it was off"):
        guest.stop()
        run(QSNAP, "resize", "-q", "--shrink", "-f", "qcow2", vda.path, str(size))
        told = chain.take("s5")
        assert told["disks"][0]["virtual-size"] == size and told["mode"] == "cold", told
        chain.shows("s5")
        chain.is_increment("s5", "s4")


def afterwards(chain, guest):
    with report.test("the tree and show tell of them"):
        assert ", images since s4  (current)" in chain.taker.qsnap("list", guest.name, "--tree")
        assert ", what changed since s4\n" in chain.taker.qsnap("show", guest.name, "s5")
    with report.test("an image that is lost ends the chain, before the guest is touched"):
        os.rename(chain.image("s5", guest.disks[1]), chain.image("s5", guest.disks[1]) + ".away")
        chain.taker.qsnap("snapshot", guest.name, "s6", "--keep", "--since", "s5", "--to", chain.folder("s6"), status=1)
        assert not os.path.exists(chain.folder("s6"))
        os.rename(chain.image("s5", guest.disks[1]) + ".away", chain.image("s5", guest.disks[1]))
        os.rename(chain.folder("s2"), chain.folder("away"))
        chain.taker.qsnap("snapshot", guest.name, "s6", "--keep", "--since", "s5", "--to", chain.folder("s6"), status=1)
        os.rename(chain.folder("away"), chain.folder("s2"))
    with report.test("all folders moved together are the same chain; the disks' own snapshots are not needed"):
        for name in chain.done:
            chain.taker.qsnap("delete", guest.name, name)
        os.rename(chain.root, chain.root + "-moved")
        chain.root += "-moved"
        for name in chain.done:
            chain.shows(name)


def main():
    with rig_for_test() as rig:
        guest = Guest(rig, "busy", noise=16).boot()
        chain = Chain(rig, guest)
        busy(chain, guest)
        with_memory(chain, guest)
        after_a_crash(chain, guest)
        resized(chain, guest)
        afterwards(chain, guest)
    report.finish()


main()
