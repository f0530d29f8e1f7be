#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A snapshot with memory and NVRAM goes through a bundle: imported beside the original, under another name, the guest goes on from the
very record it had, on disks, NVRAM and network addresses of its own; and so it does when domain and files are gone and come back.
"""
# time limit: 300
import hashlib
import json
import os
import re
import shutil

import records
from guest import Disk, Guest
from report import Report, rig_for_test
from rig import read, run
from steps import QSNAP

NVRAM = 128 << 10
TRUST = "--trust-definition"
# nobody reads what it boots from, since nothing boots from it
NIC = "<interface type='user'><mac address='52:54:00:11:22:33'/><model type='virtio'/><rom enabled='no'/></interface>"
report = Report()


class Trial:
    def __init__(self, rig):
        self.rig, self.out, self.images = rig, rig.path("out"), rig.path("images")
        for folder in (self.out, self.images):
            os.makedirs(folder)
        self.state, self.bundle = os.path.join(self.out, "state"), os.path.join(self.out, "bundle")
        self.tar = self.bundle + ".tar"
        self.at = 0
        self.guest = Guest(rig, "m").make()
        self._add_flash()
        self.guest.start()
        self.guest.wait_records(5)

    def _add_flash(self):
        """A second flash beside SeaBIOS in the first one, which QEMU has and the guest does not care for; and a network card."""
        guest = self.guest
        loader, self.nvram = os.path.join(self.out, "bios"), os.path.join(guest.folder, "nvram")
        shutil.copy("/usr/share/seabios/bios-256k.bin", loader)
        self.write_nvram(self.nvram, b"then")
        flash = f"<loader readonly='yes' type='pflash'>{loader}</loader><nvram>{self.nvram}</nvram><kernel>"
        path = os.path.join(self.out, "domain.xml")
        with open(path, "w", encoding="utf-8") as out:
            out.write(guest.virsh("dumpxml", guest.name, "--inactive").replace("<kernel>", flash).replace("<memballoon", NIC + "<memballoon"))
        guest.virsh("define", path)

    @staticmethod
    def write_nvram(path, word):
        with open(path, "wb") as out:
            out.write(word * (NVRAM // len(word)))

    def qsnap(self, *words, want=0):
        return run(QSNAP, "-c", self.rig.uri, "vm", "--state", self.state, *words, want=want)

    def goes_on(self, guest, start):
        """From that byte of its beats on it went on behind the snapshot's record, and did not boot."""
        guest.wait_records(3)
        said, numbers = read(guest.beats)[start:], guest.numbers(start)
        # the first one may be half of a number
        assert "start" not in said and self.at <= min(numbers[1:]) <= self.at + 2, f"the snapshot has {self.at}; then: {said[:100]}"

    def imported(self, name):
        """The guest of an imported domain, whose disks have the snapshot."""
        guest = Guest(self.rig, name)
        guest.disks = [Disk(disk.target, os.path.join(self.images, f"{name}-{disk.target}.qcow2"), "qcow2") for disk in self.guest.disks]
        (point,) = json.loads(self.qsnap("show", name, "kept", "--json"))["snapshots"]
        assert point["state"] == "whole" and point["nvram"], point
        found = os.path.join(self.images, f"{name}_VARS.fd")
        assert read(found) == "then" * (NVRAM // 4), read(found)[:20]
        self.write_nvram(found, b"now.")
        return guest, point, found

    def of_other_folder(self, name):
        """The bundle, of a guest that tells its beats to a folder of `name`, which is as long."""
        folder = os.path.join(self.out, "changed")
        shutil.copytree(self.bundle, folder)
        old, new = (self.rig.path("guests", word).encode() for word in (self.guest.name, name))
        manifest = json.loads(read(os.path.join(folder, "manifest.json")))
        for entry in manifest["files"]:
            path = os.path.join(folder, entry["name"])
            with open(path, "rb") as file:
                data = file.read()
            if path.endswith((".xml", ".memory")):
                data = data[:1 << 16].replace(old + b"/beats", new + b"/beats").replace(old + b"/console", new + b"/console") + data[1 << 16:]
            with open(path, "wb") as file:
                file.write(data)
            entry["sha256"] = hashlib.sha256(data).hexdigest()
        with open(os.path.join(folder, "manifest.json"), "w", encoding="utf-8") as file:
            json.dump(manifest, file)
        os.makedirs(self.rig.path("guests", name))
        return folder


def export(trial):
    guest = trial.guest
    with report.test("a snapshot with memory and NVRAM becomes a bundle"):
        trial.qsnap("snapshot", guest.name, "kept", "--memory", "--keep", "--mode", "instant")
        for bundle in trial.bundle, trial.tar:
            trial.qsnap("export", guest.name, "kept", "--to", bundle)
        assert sorted(os.listdir(trial.bundle)) == ["manifest.json", "p0-vda.qcow2", "p0-vdb.qcow2", "p0.memory", "p0.nvram", "p0.xml"], os.listdir(trial.bundle)
        trial.at = records.check_disks([os.path.join(trial.bundle, f"p0-{disk.target}.qcow2") for disk in guest.disks])[0][0]
        guest.wait_records(30)


def beside(trial):
    name = "n"
    with report.test("unasked the memory stays outside: it is believed by who reads it"):
        # a definition with flash of its own and files for its serial port is not let in at all
        assert TRUST in trial.qsnap("import", trial.bundle, "--name", name, "--to", trial.images, want=1)
        assert not os.listdir(trial.images)
    with report.test("under another name, beside the original: it goes on from the very record"):
        trial.qsnap("import", trial.of_other_folder(name), "--name", name, "--to", trial.images, TRUST)
        copy, point, nvram = trial.imported(name)
        assert os.path.getsize(point["memory"]) == point["memory-bytes"] > 1 << 20, point
        trial.qsnap("revert", name, "kept")
        trial.goes_on(copy, 0)
        trial.guest.wait_records(2)
        assert read(nvram).startswith("then") and "torn" not in read(trial.guest.beats)
    with report.test("it has a name, a UUID, files and an address of its own, in its definition and as it runs"):
        uuids = [trial.rig.virsh("domuuid", one) for one in (trial.guest.name, name)]
        for text in trial.rig.virsh("dumpxml", name), trial.rig.virsh("dumpxml", name, "--inactive"):
            assert uuids[0] not in text and uuids[1] in text and trial.guest.folder not in text and nvram in text, text
            macs = re.findall(r"mac address='(.*?)'", text)
            assert len(macs) == 1 and macs[0] not in NIC, macs
    with report.test("a snapshot of the copy, with its memory, and the way back to it"):
        trial.qsnap("snapshot", name, "own", "--memory", "--keep", "--mode", "instant")
        told = copy.wait_records(20)
        start = os.path.getsize(copy.beats)
        trial.qsnap("revert", name, "own")
        copy.wait_records(3)
        assert min(copy.numbers(start)[1:]) < told and "start" not in read(copy.beats)[start:]
        copy.stop()
        for disk in copy.disks:
            run("qemu-img", "check", "-q", disk.path)
        trial.rig.virsh("undefine", name, "--keep-nvram", "--snapshots-metadata")


def gone_and_back(trial):
    guest, state = trial.guest, trial.state
    with report.test("the domain and all its files are gone; out of the bundle, a tar file, it goes on from the very record"):
        guest.stop()
        guest.virsh("undefine", guest.name, "--keep-nvram", "--snapshots-metadata")
        for path in trial.nvram, *guest.paths(), *(os.path.join(state, file) for file in os.listdir(state)):
            os.unlink(path)
        start = os.path.getsize(guest.beats)
        trial.qsnap("import", trial.tar, "--to", trial.images, TRUST)
        back, _, nvram = trial.imported(guest.name)
        trial.qsnap("revert", guest.name, "kept")
        trial.goes_on(guest, start)
        assert read(nvram).startswith("then") and not os.path.exists(trial.nvram)
        back.stop()
        for disk in back.disks:
            run("qemu-img", "check", "-q", disk.path)
        records.check_disks(back.paths(), least=trial.at)


def main():
    with rig_for_test() as rig:
        trial = Trial(rig)
        export(trial)
        beside(trial)
        gone_and_back(trial)
    report.finish()


main()
