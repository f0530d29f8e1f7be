# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a guest, by the program, and what must be true of each: the images, their manifest, and what is left behind."""
import glob
import hashlib
import json
import os
import shutil
import subprocess

import records
from rig import TOP, run

QSNAP = os.environ.get("QSNAP", os.path.join(TOP, "build/qsnap"))
MODES = (("instant", "--via", "internal"), ("instant", "--via", "overlay"), ("live",), ("cold",), ("cold", "--via", "overlay"))
FORMATS = {"qcow2": (), "raw": ("--format", "raw"), "zstd": ("--compress", "zstd"), "zlib": ("--compress", "zlib")}


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

    def __init__(self, rig, guest, report):
        self.rig, self.guest, self.report = rig, guest, report
        self.out = os.path.join(guest.folder, "out")
        self.env = {**os.environ, "QSNAP_STATE_DIR": rig.path("state")}

    def qsnap(self, *words, status=0):
        done = subprocess.run([QSNAP, "vm", *words, "-c", self.rig.uri], env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == status, f"status {done.returncode}: {' '.join(words)}: {done.stderr}{done.stdout}"
        return done.stdout

    def surroundings(self):
        """What a snapshot must leave as it was."""
        guest = self.guest
        folders = {guest.folder, guest.options["place"] or guest.folder}
        files = sorted(name for folder in folders for name in os.listdir(folder) if name not in ("out", "beats", "console", "meter"))
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
                with self.report.test(f"{name}: {' '.join(mode)} into {word}{', quiesced' if quiesced else ''}"):
                    images = self.take(mode, words, quiesced)
                    for image in images:
                        if word == "raw":
                            continue
                        run("qemu-img", "check", "-q", image)
                        info = json.loads(run("qemu-img", "info", "--output=json", image))
                        assert "backing-filename" not in info and "snapshots" not in info, info
