# SPDX-License-Identifier: Apache-2.0
"""A snapshot command that something happens to at one step of its journal, and the look at the world afterwards.

The steps are what step_killer.c sees written to the journal, so they are known from a run that nothing happens to.
"""
import json
import os
import shutil
import signal
import subprocess

import records
from rig import PLACES, RigError, TOP, end_process, read, run, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("BUILD", os.path.join(TOP, "build"))
QSNAP = os.environ.get("QSNAP", os.path.join(BUILD, "qsnap"))
KILLER = os.path.join(BUILD, "step-killer.so")
STATUS_RECOVER = 4
LATE = 300  # seconds: a guard against hangs


def build_killer():
    """Under its name it is whole: other scripts use it at the same time."""
    mine = f"{KILLER}.{os.getpid()}"
    run("cc", "-std=c17", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", mine, os.path.join(HERE, "step_killer.c"))
    os.rename(mine, KILLER)


def put_traces(line):
    """What a change of a journal puts there: one trace, or several at once."""
    put = {} if line == "unlink" else json.loads(line)
    if isinstance(put.get("put"), list):
        return put["put"]
    return [put] if "put" in put else []


def name_steps(lines):
    """What each change of a journal is, in words: "begin", "put file", "know file", "drop file", "end"; "keep": results
    become the user's, all at once."""
    names, kinds = [], {}
    for line in lines:
        entry, put = {} if line == "unlink" else json.loads(line), put_traces(line)
        if put:
            kinds.update({trace["put"]: trace["kind"] for trace in put})
            names.append("put " + "+".join(trace["kind"] for trace in put))
        elif "know" in entry:
            names.append("know " + kinds[entry["know"]])
        elif "drop" in entry:
            names.append("keep" if isinstance(entry["drop"], list) else "drop " + kinds[entry["drop"]])
        else:
            names.append("begin" if entry else "end")
    return names


class Command:
    """`qsnap vm WORDS` on a rig, perhaps with something at a step. Its output is in `said` once it ended. `inside`: where its state is,
    for one that sees the files that libvirtd sees; None: in `folder`."""

    def __init__(self, rig, folder, words, step=None, when="", deed="", name="first", inside=None):
        self.folder = folder
        self.steps_file, self.out = os.path.join(folder, name + ".steps"), os.path.join(folder, name + ".out")
        if os.path.exists(self.steps_file):
            os.unlink(self.steps_file)
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "LD_PRELOAD": KILLER, "STEP_LOG": self.steps_file, "LIBVIRT_DEFAULT_URI": rig.uri,
                       "QSNAP_STATE_DIR": inside or os.path.join(folder, "state")}
        if step:
            environment.update(STEP_AT=str(step), STEP_WHEN=when, STEP_DO=deed)
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen([*(rig.inside() if inside else ()), QSNAP, "vm", *words], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)

    def wait_stopped(self):
        """Waits until it stopped at its step; False when it ended without."""
        def there():
            pid, status = os.waitpid(self.process.pid, os.WUNTRACED | os.WNOHANG)
            if not pid:
                return None
            if os.WIFSTOPPED(status):
                return "stopped"
            self.process.returncode = os.waitstatus_to_exitcode(status)
            return "ended"
        return wait_until("the command stops at its step", there, LATE) == "stopped"

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()

    def wait(self):
        """Its exit status; negative: the signal."""
        try:
            return self.process.wait(LATE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RigError(f"it does not end:\n{self.said()}") from None

    def said(self):
        with open(self.out, encoding="utf-8", errors="replace") as file:
            return file.read()

    def steps(self):
        try:
            with open(self.steps_file, encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []


class World:
    """A guest as it was before, that can be put back there, and compared."""

    def __init__(self, guest, inside=False):
        self.guest, self.rig = guest, guest.rig
        self.folder = self.rig.path("steps")
        os.makedirs(self.folder, exist_ok=True)
        # beside libvirt's own files of the guest, by the name that it has in there, or as it is for all
        self.inside = PLACES["lib"] + "/qsnap" if inside else None
        self.state_dir = self.rig.path("lib", "qsnap") if inside else os.path.join(self.folder, "state")
        os.makedirs(self.state_dir, exist_ok=True)
        self.template = os.path.join(self.folder, "template")
        self.definition = guest.virsh("dumpxml", guest.name, "--inactive")
        self.sources = guest.virsh("domblklist", guest.name)
        self.files = self.disk_files()
        guest.wait_agent()
        self._keep_template()
        self.asleep = False

    def disk_files(self):
        return sorted({(folder, name) for folder in {os.path.dirname(path) for path in self.guest.paths()} for name in os.listdir(folder)
                       if name.startswith("vd")})

    def command(self, *words, **more):
        return Command(self.rig, self.folder, words, inside=self.inside, **more)

    # ---- back to the beginning, which is faster than a boot ----

    def _keep_template(self):
        self.guest.virsh("save", self.guest.name, self.template)
        for disk in self.guest.disks:
            run("cp", "--sparse=always", disk.path, f"{self.template}.{disk.target}")
        self.guest.virsh("restore", self.template)
        self.guest.wait_records(1)

    def lost(self):
        """Processes of guests that libvirt says are off."""
        if self.guest.state() != "shut off":
            return []
        return [pid for pid in self.rig.processes() if pid != self.rig.libvirtd_pid()]

    def end_lost(self):
        for pid in self.lost():
            end_process(pid)

    def rewind(self):
        """The guest runs as it did when this object was made, whatever is now."""
        if not self.rig.libvirtd_pid():
            self.rig.start_libvirtd()
        self.guest.virsh("destroy", self.guest.name, want=None)
        self.end_lost()
        self.guest.virsh("managedsave-remove", self.guest.name, want=None)
        for name in os.listdir(self.state_dir):
            os.unlink(os.path.join(self.state_dir, name))
        for folder, name in set(self.disk_files()) - set(self.files):
            os.unlink(os.path.join(folder, name))
        for disk in self.guest.disks:
            os.truncate(disk.path, 0)
            run("cp", "--sparse=always", f"{self.template}.{disk.target}", disk.path)
        path = os.path.join(self.folder, "definition")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.definition)
        self.guest.virsh("define", path)
        self._restore()

    def _restore(self):
        try:
            self.guest.virsh("restore", self.template)
        except RigError:  # a libvirtd that was just started, after QEMU and it were killed, may die of this
            if self.rig.libvirtd_pid():
                raise
            self.rig.start_libvirtd()
            self.guest.virsh("restore", self.template)
        self.guest.wait_records(1)

    # ---- what is so now ----

    def journal(self):
        return [name for name in os.listdir(self.state_dir) if not name.endswith((".lock", ".snapshots", ".memory", ".nvram"))]

    def traces(self):
        """Whether a journal has something to be taken back."""
        there = set()
        for name in self.journal():
            for line in read(os.path.join(self.state_dir, name)).split("\n")[:-1]:
                dropped = json.loads(line).get("drop", [])
                there |= {trace["put"] for trace in put_traces(line)}
                there -= set(dropped if isinstance(dropped, list) else [dropped])
        return bool(there)

    @staticmethod
    def snapshots(disk):
        told = json.loads(run("qemu-img", "info", "-U", "-f", disk.format, "--output=json", disk.path))
        return [snapshot["name"] for snapshot in told.get("snapshots", [])]

    def has_snapshot(self, name):
        return any(name in self.snapshots(disk) for disk in self.guest.disks)

    def settled(self, state, kept=()):
        """All is as it was: nothing of a snapshot is left but `kept`."""
        guest = self.guest
        assert not self.journal(), f"a journal is left: {self.journal()}"
        assert guest.state() == state, f"{guest.state()} instead of {state}"
        assert guest.virsh("dumpxml", guest.name, "--inactive") == self.definition, "it is defined in another way"
        assert guest.virsh("domblklist", guest.name) == self.sources, guest.virsh("domblklist", guest.name)
        assert self.disk_files() == self.files, f"files: {set(self.disk_files()) ^ set(self.files)}"
        if state == "running":
            jobs = guest.monitor("query-block-jobs")
            assert jobs == [], jobs
            guest.wait_records(2)
            assert not guest.frozen(), "its file systems are frozen"
        for disk in guest.disks:
            names = self.snapshots(disk)
            assert sorted(names) == sorted(kept), f"{disk.target} has snapshots {names}"
        assert guest.name not in guest.virsh("list", "--all", "--with-managed-save", "--name").split(), "it is saved"

    def whole(self, told, leaks=False):
        """The disks, in copies, have every record and good refcounts. `told`: a record that must be there."""
        guest, running = self.guest, self.guest.state() == "running"
        copies = []
        if running:
            guest.virsh("suspend", guest.name)
            told = guest.last()
        for disk in guest.disks:
            copies.append(os.path.join(self.folder, disk.target + ".copy"))
            run("cp", "--sparse=always", disk.path, copies[-1])
        if running:
            guest.virsh("resume", guest.name)
        records.check_disks(copies, least=told)
        for disk, copy in zip(guest.disks, copies):
            if disk.format == "qcow2":
                done = subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", copy], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True)
                assert done.returncode in ((0, 3) if leaks else (0,)), f"{disk.target}: {done.stdout}"

    @staticmethod
    def images(folder):
        """What is there is all of a snapshot, whole; or nothing is there."""
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        if names:
            assert names == ["manifest.json", "vda.qcow2", "vdb.qcow2"], names
            records.check_disks([os.path.join(folder, name) for name in names[1:]])

    @staticmethod
    def clear(folder):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
