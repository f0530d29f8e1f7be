#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 600
"""Every mode, into raw, qcow2 and compressed images, of a guest that writes all the time: each image whole, both disks of one
instant, nothing lost that the host was told of before, and the guest afterwards as it was. LONG: more rounds, and guests with
discards, other cache modes, an iothread, two processors, a raw disk beside a qcow2 one."""
import glob
import hashlib
import json
import os
import shutil
import subprocess

import records
from guest import Guest
from report import LONG, Report, rig_for_test
from rig import run

QSNAP = os.environ.get("QSNAP", os.path.abspath("build/qsnap"))
MODES = (("instant", "--via", "internal"), ("instant", "--via", "overlay"), ("live",), ("cold",))
FORMATS = {"qcow2": (), "raw": ("--format", "raw"), "zstd": ("--compress", "zstd"), "zlib": ("--compress", "zlib")}
report = Report()


def check_manifest(folder, images):
    """It tells of these images and no others, with their digests."""
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    assert manifest["version"] == 1 and [os.path.join(folder, disk["file"]) for disk in manifest["disks"]] == images, manifest
    for disk, image in zip(manifest["disks"], images):
        with open(image, "rb") as file:
            digest = hashlib.sha256()
            while data := file.read(1 << 20):
                digest.update(data)
        assert disk["sha256"] == digest.hexdigest() and disk["bytes"] == os.path.getsize(image), (disk, digest.hexdigest())


class Taker:
    """Takes snapshots of one guest and judges what came of them."""

    def __init__(self, rig, guest):
        self.rig, self.guest = rig, guest
        self.out = os.path.join(guest.folder, "out")
        self.env = {**os.environ, "QSNAP_STATE_DIR": rig.path("state")}

    def qsnap(self, *words, status=0):
        done = subprocess.run([QSNAP, "vm", *words, "-c", self.rig.uri], env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == status, f"status {done.returncode}: {' '.join(words)}: {done.stderr}{done.stdout}"
        return done.stdout

    def surroundings(self):
        """What a snapshot must leave as it was."""
        guest = self.guest
        files = sorted(name for name in os.listdir(guest.folder) if name not in ("out", "beats", "console", "meter"))
        internal = [json.loads(run("qemu-img", "info", "-U", "--output=json", "-f", disk.format, disk.path)).get("snapshots") for disk in guest.disks]
        return guest.virsh("dumpxml", "--inactive", guest.name), guest.state(), files, internal, glob.glob(self.rig.path("state", "*.journal"))

    def take(self, mode, words, quiesced=False):
        """One snapshot to a new folder; the images."""
        guest = self.guest
        shutil.rmtree(self.out, ignore_errors=True)
        before, told = self.surroundings(), guest.last()
        self.qsnap("snapshot", guest.name, "--mode", *mode, "--to", self.out, *words, *(["--quiesce=required"] if quiesced else []))
        after = self.surroundings()
        for was, now in zip(before, after):
            assert was == now, f"left behind: {now}; before: {was}"
        if before[1] == "running":
            guest.wait_records(2)
        images = sorted(glob.glob(self.out + "/vd*"))
        assert len(images) == len(guest.disks), images
        check_manifest(self.out, images)
        records.check_disks(images, quiesced, told)
        return images

    def try_all(self, name, modes=MODES, formats=FORMATS, quiesced=False):
        for mode in modes:
            for word, words in formats.items():
                with report.test(f"{name}: {' '.join(mode)} into {word}{', quiesced' if quiesced else ''}"):
                    images = self.take(mode, words, quiesced)
                    for image in images:
                        if word == "raw":
                            continue
                        run("qemu-img", "check", "-q", image)
                        info = json.loads(run("qemu-img", "info", "--output=json", image))
                        assert "backing-filename" not in info and "snapshots" not in info, info


def states(rig, taker):
    """What was paused stays paused, saved stays saved, off stays off."""
    guest = taker.guest
    some = {"qcow2": ()}
    guest.virsh("suspend", guest.name)
    taker.try_all("paused", formats=some)
    assert guest.state() == "paused"
    guest.virsh("resume", guest.name)
    guest.virsh("managedsave", guest.name)
    taker.try_all("saved", (("auto",),), some)
    with report.test("saved, it starts where it was"):
        guest.start()
        guest.wait_records(2)
    guest.stop()
    taker.try_all("shut off", (("auto",), ("cold",)), some)
    guest.start()
    guest.wait_records(2)


def a_copy_boots(rig, taker):
    with report.test("an extracted pair boots as another guest and goes on writing"):
        images = taker.take(("auto",), ())
        newest = min(max(found) for found in records.check_disks(images))
        second = Guest(rig, "copy", images=",".join(images)).boot()
        assert second.wait_records(5) > newest
        second.stop()


def main():
    with rig_for_test() as rig:
        guest = Guest(rig, "first").boot()
        guest.wait_agent()
        taker = Taker(rig, guest)
        for _ in range(10 if LONG else 1):
            taker.try_all("busy")
            taker.try_all("busy", formats={"qcow2": ()}, quiesced=True)
        states(rig, taker)
        a_copy_boots(rig, taker)
        guest.stop()
        mixed = Guest(rig, "mixed", disks="qcow2,raw").boot()
        mixed.wait_agent()
        Taker(rig, mixed).try_all("a raw disk beside a qcow2 one", MODES[1:], {"qcow2": (), "raw": ("--format", "raw")})
        mixed.stop()
        variants = [{"cache": "writeback", "trim": 1, "discard": "unmap"}, {"cache": "unsafe", "iothread": 1, "vcpus": 2}, {"disks": "plain,plain", "trim": 1, "discard": "unmap"}]
        for i, options in enumerate(variants if LONG else []):
            other = Guest(rig, f"other{i}", **options).boot()
            other.wait_agent()
            for _ in range(5):
                Taker(rig, other).try_all(" ".join(f"{k}={v}" for k, v in options.items()), formats={"qcow2": (), "raw": ("--format", "raw")})
            other.stop()
    report.finish()


if __name__ == "__main__":
    main()
