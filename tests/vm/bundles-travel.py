#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`vm export` beside a running guest and `vm import` of what came out: a copy that goes on beside the original, a tree whose every
snapshot is the original's. Bundles that somebody changed are refused, and nothing is touched. An import that is killed leaves all of
the domain or nothing of it.

In LONG runs the import is killed at every step in each way; else after each, and in other ways at some.
"""
# time limit: 400
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile

import records
from guest import Disk, Guest
from report import LONG, Report, rig_for_test
from rig import read, run
from steps import QSNAP, Command, build_killer, name_steps

report = Report()
PARENTS = {"a": None, "b": "a", "d": "b", "c": "a"}
TRUST = "--trust-definition"


class Trial:
    def __init__(self, rig, guest):
        self.rig, self.guest = rig, guest
        self.images, self.out = rig.path("images"), rig.path("out")
        for folder in (self.images, self.out):
            os.makedirs(folder)
        self.state = os.path.join(self.out, "state")
        self.at = {}  # the records that a snapshot has at least and at most
        self.bundle = os.path.join(self.out, "bundle")
        self.number = 0

    def qsnap(self, *words, want=0, **more):
        command = [QSNAP, "-c", self.rig.uri, "vm", "--state", self.state, *words]
        done = subprocess.run(command, capture_output=True, timeout=300, check=False, **more)
        assert want is None or done.returncode == want, f"{words}: status {done.returncode}, not {want}: {done.stderr.decode()}"
        return (done.stdout + done.stderr).decode()

    def snapshot(self, name):
        least = self.guest.last()
        self.qsnap("snapshot", self.guest.name, name, "--mode", "instant", "--via", "internal", "--keep")
        self.at[name] = (least, self.guest.last() + 1)
        self.guest.wait_records(5)

    def world(self):
        """What there is: a refused import must not change it."""
        domains = sorted(self.rig.virsh("list", "--all", "--name").split())
        files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(self.images) for name in names)
        return domains, files, os.listdir(self.images), sorted(name for name in os.listdir(self.state) if not name.endswith(".lock"))

    def remove(self, name):
        uuid = self.rig.virsh("domuuid", name)
        self.rig.virsh("destroy", name, want=None)
        self.rig.virsh("undefine", name, "--managed-save", "--snapshots-metadata")
        for file in os.listdir(self.images):
            os.unlink(os.path.join(self.images, file))
        if os.path.exists(catalog := os.path.join(self.state, uuid + ".snapshots")):
            os.unlink(catalog)

    def shown(self, path, snapshot=None):
        """What a disk shows, as a raw file."""
        self.number += 1
        target = os.path.join(self.out, f"shown{self.number}.raw")
        run("qemu-img", "convert", "-U", *(["-l", f"snapshot.name={snapshot}"] if snapshot else []), "-f", "qcow2", "-O", "raw", path, target)
        return target

    def is_same(self, disk, copy, snapshot):
        files = [self.shown(disk, snapshot), self.shown(copy, snapshot)]
        run("qemu-img", "compare", "-s", "-f", "raw", "-F", "raw", *files)
        for file in files:
            os.unlink(file)

    def copies(self, name):
        return [os.path.join(self.images, f"{name}-{disk.target}.qcow2") for disk in self.guest.disks]


def a_tree(trial):
    guest = trial.guest
    with report.test("a tree with a fork, one of its disks longer in one of its ends"):
        trial.snapshot("a")
        trial.snapshot("b")
        guest.virsh("blockresize", guest.name, "vdb", "320M")
        trial.snapshot("d")
        trial.qsnap("revert", guest.name, "a")
        guest.wait_records(5)
        trial.snapshot("c")
        shown = json.loads(trial.qsnap("show", guest.name, "--json"))
        assert {point["name"]: point.get("parent") for point in shown["snapshots"]} == PARENTS, shown


def beside(trial):
    """The copy runs beside the original, and goes on where that was."""
    guest, name = trial.guest, "copy"
    with report.test("a snapshot of a running guest becomes a bundle; what names files of the host is not imported unasked"):
        said = trial.qsnap("export", guest.name, "c", "--to", trial.bundle)
        assert "4 files" not in said and "3 files" in said, said
        assert sorted(os.listdir(trial.bundle)) == ["manifest.json", "p0-vda.qcow2", "p0-vdb.qcow2", "p0.xml"], os.listdir(trial.bundle)
        assert guest.state() == "running"
        (point,) = json.loads(trial.qsnap("show", guest.name, "c", "--json"))["snapshots"]
        assert [(x["to"], x.get("target")) for x in point["exports"]] == [(trial.bundle, None)], point
        assert f"  bundle: {trial.bundle}, " in trial.qsnap("show", guest.name, "c")
        before = trial.world()
        said = trial.qsnap("import", trial.bundle, "--name", name, "--to", trial.images, want=1)
        assert TRUST in said and trial.world() == before, said
        assert "is there already" in trial.qsnap("import", trial.bundle, "--to", trial.images, TRUST, want=2)
    with report.test("imported under another name it boots beside the original, and goes on from the snapshot's record"):
        trial.qsnap("import", trial.bundle, "--name", name, "--to", trial.images, TRUST)
        records.check_disks(trial.copies(name), least=trial.at["c"][0], most=trial.at["c"][1])
        copy = Guest(trial.rig, name)
        copy.disks = [Disk(disk.target, path, "qcow2") for disk, path in zip(guest.disks, trial.copies(name))]
        os.makedirs(copy.folder)
        definition = trial.rig.virsh("dumpxml", name, "--inactive")
        assert guest.uuid not in definition and guest.disks[0].path not in definition, definition
        place = os.path.join(copy.folder, "domain.xml")
        with open(place, "w", encoding="utf-8") as file:  # its console and beats are still the original's
            file.write(definition.replace(guest.folder, copy.folder))
        copy.virsh("define", place)
        copy.start()
        copy.wait_records(3)
        first = copy.numbers()[0]
        assert trial.at["c"][0] < first <= trial.at["c"][1] + 2, f"it went on at {first}, and the snapshot was at {trial.at['c']}"
        guest.wait_records(2)
        trial.qsnap("revert", name, "c", "--paused")
        assert trial.rig.virsh("domstate", name) == "paused"
        copy.stop()
        run("qemu-img", "check", "-q", *trial.copies(name)[:1])
        trial.remove(name)


def whole_tree(trial):
    guest, name = trial.guest, "tree"
    with report.test("a whole tree goes through a pipe, beside the guest that writes"):
        export = subprocess.Popen([QSNAP, "-c", trial.rig.uri, "vm", "--state", trial.state, "export", guest.name, "b", "--all", "--to", "-", "--compress",
                                   "zstd:1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": trial.out})
        told = json.loads(trial.qsnap("import", "-", "--name", name, "--to", trial.images, TRUST, "--json", stdin=export.stdout))
        assert export.wait() == 0, export.stderr.read()
        assert told["snapshots"] == len(PARENTS) and told["name"] == "b" and guest.state() == "running", told
        assert not [name for name in os.listdir(trial.out) if name.startswith(".")], os.listdir(trial.out)
    with report.test("each snapshot of the copy is the original's, and so is the tree"):
        for disk, copy in zip(guest.disks, trial.copies(name)):
            for point in PARENTS:
                trial.is_same(disk.path, copy, point)
            run("qemu-img", "check", "-q", copy)
            run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", copy, trial.shown(copy, "b"))
            dates = [{one["name"]: (one["date-sec"], one["date-nsec"]) for one in json.loads(run("qemu-img", "info", "-U", "--output=json", path))["snapshots"]}
                     for path in (disk.path, copy)]
            assert dates[0] == dates[1], dates
        shown = json.loads(trial.qsnap("show", name, "--json"))
        assert {point["name"]: point.get("parent") for point in shown["snapshots"]} == PARENTS, shown
        assert sorted(trial.rig.virsh("snapshot-list", name, "--name").split()) == sorted(PARENTS)
        assert shown["current"] == "b" and {point["state"] for point in shown["snapshots"]} == {"whole"}, shown
        trial.qsnap("revert", name, "d")
        assert json.loads(run("qemu-img", "info", "--output=json", trial.copies(name)[1]))["virtual-size"] == 320 << 20
        trial.qsnap("delete", name, "a", "--children")
        trial.remove(name)


# ---- bundles that somebody changed ----

class Bundle:
    """A copy of one, to be changed; `seal` makes the manifest say what is there."""

    def __init__(self, trial):
        self.folder = os.path.join(trial.out, "changed")
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(trial.bundle, self.folder)
        self.manifest = json.loads(read(self.path("manifest.json")))

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self):
        with open(self.path("manifest.json"), "w", encoding="utf-8") as file:
            json.dump(self.manifest, file)

    def seal(self):
        for entry in self.manifest["files"]:
            with open(self.path(entry["name"]), "rb") as file:
                data = file.read()
            entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        self.write()

    def tar(self, change=None, mode="w"):
        """As a tar file; `change` may add members of its own first, and `last` after all."""
        target = self.folder + ".tar"
        with tarfile.open(target, mode) as tar:
            for name in ["manifest.json", *sorted(set(os.listdir(self.folder)) - {"manifest.json"})]:
                tar.add(self.path(name), name)
                if change and name == "manifest.json":
                    change(tar)
        return target


def member(name, kind=tarfile.REGTYPE, link=""):
    def add(tar):
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
        tar.addfile(info, io.BytesIO(b"evil"))
    return add


def cut_tar(bundle):
    target = bundle.tar()
    os.truncate(target, os.path.getsize(target) * 2 // 3)
    return target


def changed_image(*command):
    def change(bundle):
        run(*[word.replace("IMAGE", bundle.path("p0-vda.qcow2")).replace("ELSEWHERE", bundle.folder + ".raw") for word in command])
        bundle.seal()
        return bundle.folder
    return change


def changed_definition(change):
    def deed(bundle):
        text = read(bundle.path("p0.xml"))
        with open(bundle.path("p0.xml"), "w", encoding="utf-8") as file:
            file.write(change(text))
        bundle.seal()
        return bundle.folder
    return deed


def overwrite(bundle):
    with open(bundle.path("p0-vda.qcow2"), "r+b") as file:
        file.seek(300000)
        file.write(b"evil")
    return bundle.folder


def truncate(bundle):
    os.truncate(bundle.path("p0-vdb.qcow2"), 100000)
    return bundle.folder


def other_name(bundle):
    bundle.manifest["files"][0]["name"] = "../../escaped"
    bundle.write()
    return bundle.folder


def manifest_last(bundle):
    target = bundle.folder + ".tar"
    with tarfile.open(target, "w") as tar:
        for name in sorted(os.listdir(bundle.folder), reverse=True):
            tar.add(bundle.path(name), name)
    return target


HOSTILE = {
    "a byte is another one": (overwrite, "has not the digest"),
    "an image is cut off": (truncate, "100000 bytes"),
    "the manifest names a file elsewhere": (other_name, "no name for a file"),
    "a tar stream is cut off": (cut_tar, "tar: "),
    "a tar stream has the manifest last": (manifest_last, "does not come first"),
    "a tar stream is compressed": (lambda bundle: bundle.tar(mode="w:gz"), ""),
    "a tar stream leads out of its folder": (lambda bundle: bundle.tar(member("../escaped")), "not in the manifest"),
    "a tar stream has an absolute name": (lambda bundle: bundle.tar(member("/tmp/escaped")), "not in the manifest"),
    "a tar stream has a symlink": (lambda bundle: bundle.tar(member("p0.xml", tarfile.SYMTYPE, "/etc/shadow")), "no plain file"),
    "a tar stream has a hard link": (lambda bundle: bundle.tar(member("p0.xml", tarfile.LNKTYPE, "manifest.json")), "no plain file"),
    "a tar stream has a device": (lambda bundle: bundle.tar(member("p0.xml", tarfile.CHRTYPE)), "no plain file"),
    "a tar stream has a file twice": (lambda bundle: bundle.tar(lambda tar: tar.add(bundle.path("p0.xml"), "p0.xml")), "is there twice"),
    "a tar stream has one file more": (lambda bundle: bundle.tar(member("more")), "not in the manifest"),
    "a tar stream is none": (lambda bundle: bundle.path("p0-vda.qcow2"), ""),
    "an image has a backing file": (changed_image("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", "IMAGE"), "backing"),
    "an image has a data file": (changed_image("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=ELSEWHERE", "IMAGE", "256M"), "data file"),
    "an image has another size": (changed_image("qemu-img", "resize", "-q", "-f", "qcow2", "IMAGE", "512M"), "by the manifest"),
    "an image is none": (changed_image("cp", "/etc/passwd", "IMAGE"), ""),
    "a definition has an entity": (changed_definition(lambda text: '<!DOCTYPE domain [<!ENTITY x SYSTEM "/etc/shadow">]>\n' + text.replace("<vcpu", "<title>&x;</title><vcpu")), ""),
    "a definition is no XML": (changed_definition(lambda text: text[:100]), ""),
    "a definition is of something else": (changed_definition(lambda text: "<network/>"), "no definition"),
}


def hostile(trial):
    before = trial.world()
    for what, (change, says) in HOSTILE.items():
        with report.test(f"refused, and nothing is touched: {what}"):
            said = trial.qsnap("import", change(Bundle(trial)), "--name", "evil", "--to", trial.images, TRUST, want=None)
            assert says in said and "imported as" not in said, said
            assert trial.world() == before, trial.world()
            assert not os.path.exists(os.path.join(trial.out, "escaped")) and not os.path.exists(trial.rig.path("escaped"))
    with report.test("refused, and nothing is touched: a definition that reads a file of the host"):
        plain = "<domain type='qemu'><name>x</name><memory>65536</memory><os><type>hvm</type></os><devices>{}</devices></domain>"
        disk = "<disk type='file' device='disk'><driver type='raw'/><source file='{}'/><target dev='{}'/></disk>"
        evil = plain.format(disk.format("/x", "vda") + disk.format("/x", "vdb") + disk.format("/etc/shadow", "vdc"))
        said = trial.qsnap("import", changed_definition(lambda text: evil)(Bundle(trial)), "--name", "evil", "--to", trial.images, want=1)
        assert "disk vdc" in said and trial.world() == before, said
    with report.test("refused where there is too little space, and nothing is touched"):
        small = trial.rig.small_fs("small", "1M", "tmpfs")
        for source in trial.bundle, Bundle(trial).tar():
            said = trial.qsnap("import", source, "--name", "large", "--to", small, TRUST, want=1)
            assert "are free" in said and trial.world() == before and not os.listdir(small), said
    with report.test("a definition that names nothing of the host is imported unasked"):
        good = plain.format(disk.format("/x", "vda") + disk.format("/x", "vdb"))
        trial.qsnap("import", changed_definition(lambda text: good)(Bundle(trial)), "--name", "good", "--to", trial.images)
        assert trial.rig.virsh("domblklist", "good").split() == [word for disk, path in zip(trial.guest.disks, trial.copies("good")) for word in (disk.target, path)]
        trial.remove("good")


# ---- kills ----

def command(trial, **more):
    return Command(trial.rig, trial.out, ("import", trial.bundle, "--name", "k", "--to", trial.images, TRUST), **more)


def killed(trial, before, number, when):
    one = command(trial, step=number, when=when, deed="kill")
    assert one.wait() == -signal.SIGKILL, f"step not reached:\n{one.said()}"
    trial.qsnap("recover")
    if "k" not in trial.rig.virsh("list", "--all", "--name").split():
        assert trial.world() == before, trial.world()
        return False
    assert sorted(os.listdir(trial.images)) == sorted(os.path.basename(path) for path in trial.copies("k")), os.listdir(trial.images)
    assert not [name for name in os.listdir(trial.state) if name.endswith(".journal")], os.listdir(trial.state)
    shown = json.loads(trial.qsnap("show", "k", "--json"))
    assert [point["state"] for point in shown["snapshots"]] == ["whole"] and shown["current"] == "c", shown
    records.check_disks(trial.copies("k"), least=trial.at["c"][0], most=trial.at["c"][1])
    trial.remove("k")
    return True


def kills(trial):
    before, steps, there = trial.world(), [], []
    with report.test("the steps of an import are known"):
        one = command(trial)
        assert one.wait() == 0, one.said()
        steps = name_steps(one.steps())
        print(", ".join(steps))
        trial.remove("k")
        assert trial.world() == before, trial.world()
    for number, step in enumerate(steps, 1):
        for when in ("before", "after", "torn"):
            usual = when == "after" or step == "keep"
            if (when == "torn" and step == "end") or not (LONG or usual):
                continue
            with report.test(f"killed {when} step {number} ({step}): all of it or nothing"):
                there.append(killed(trial, before, number, when))
    with report.test("what was there after a kill is there after each later one"):
        assert there == sorted(there) and True in there and False in there, there


def main():
    build_killer()
    with rig_for_test() as rig:
        trial = Trial(rig, Guest(rig, "g").boot())
        trial.guest.uuid = rig.virsh("domuuid", "g")
        a_tree(trial)
        beside(trial)
        whole_tree(trial)
        hostile(trial)
        kills(trial)
    report.finish()


main()
