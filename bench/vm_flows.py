# SPDX-License-Identifier: Apache-2.0
"""Ways to take a snapshot of both disks of a guest, for bench/run-vm: qsnap's, and the same flow with virsh and qemu-img."""
import json
import os
import resource
import subprocess
import time

from rig import run

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QSNAP = os.path.join(TOP, "build/qsnap")
TARGETS = ("vda", "vdb")


def written_by(pid):
    """Bytes that a process has given to the file systems."""
    with open(f"/proc/{pid}/io", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("write_bytes"))


class Written:
    """Bytes written since it was made: by the guest's QEMU and by the commands that were run and have ended."""

    def __init__(self, guest):
        self.guest, self.pid = guest, guest.pid()
        self.before = self._now()

    def _now(self):
        return written_by(self.pid) + resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock * 512

    def bytes(self):
        if self.guest.pid() != self.pid:
            return None  # another QEMU: a saved guest's memory is in it, too
        return self._now() - self.before


class Flow:
    """Into a folder; `flatten_seconds` is how long the last step took that makes the images."""

    def __init__(self, rig, guest, out):
        self.rig, self.guest, self.out = rig, guest, out
        self.images = [os.path.join(out, f"{target}.qcow2") for target in TARGETS]
        self.flatten_seconds = None

    def _vm(self, *words):
        return [QSNAP, "vm", *words, "-c", self.rig.uri], {**os.environ, "QSNAP_STATE_DIR": self.rig.path("state")}

    def qsnap(self, *words):
        words, env = self._vm("snapshot", self.guest.name, "taken", "--to", self.out, "--progress=json", *words)
        began, took = None, 0.0
        with subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as command:
            for line in command.stderr:
                event = json.loads(line)
                if event["event"] == "step":
                    now = time.monotonic()
                    took += now - began if began else 0
                    began = now if event["step"] == "extract" else None
        if command.returncode:
            raise SystemExit(f"bench/run-vm: {' '.join(words)} ended with {command.returncode}: {line}")
        self.flatten_seconds = took

    def _qsnap_quietly(self, *words):
        words, env = self._vm(*words)
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"bench/run-vm: {' '.join(words)} ended with {done.returncode}: {done.stderr}")

    def keep(self):
        """A snapshot that both ways go back to."""
        self._qsnap_quietly("snapshot", self.guest.name, "bench", "--mode", "cold", "--keep")

    def drop(self):
        """What --keep has left."""
        self._qsnap_quietly("delete", self.guest.name, "taken")

    def forget(self):
        self.virsh(["destroy", self.guest.name])
        self._qsnap_quietly("delete", self.guest.name, "bench")
        self.virsh(["start", self.guest.name])

    def revert(self):
        self._qsnap_quietly("revert", self.guest.name, "bench")

    def virsh(self, *commands):
        """All in one virsh: starting one for each would cost more than they do."""
        self.guest.virsh("; ".join(" ".join(command) for command in commands))

    def flatten(self, *options, sources=None):
        began = time.monotonic()
        for source, image in zip(sources or self.guest.paths(), self.images):
            run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "qcow2", *options, source, image)
        self.flatten_seconds = time.monotonic() - began

    def stock_memory(self):
        memory = os.path.join(self.out, "memory")
        self.stock_overlay(f"--memspec file={memory},snapshot=external", "--live")
        os.unlink(memory)

    def stock_overlay(self, *what):
        name = self.guest.name
        tops = [path + ".stock" for path in self.guest.paths()]
        self.virsh(["snapshot-create-as", name, *(what or ["--disk-only"]), "--atomic", "--no-metadata",
                    *(f"--diskspec {target},file={top}" for target, top in zip(TARGETS, tops))])
        self.flatten()
        for target, path in zip(TARGETS, self.guest.paths()):
            self.virsh(["blockcommit", name, target, "--active", "--pivot", "--wait", "--base", path])
        for top in tops:
            os.unlink(top)

    def stock_live(self):
        name, copies = self.guest.name, [path + ".stock" for path in self.guest.paths()]
        for disk, copy in zip(self.guest.disks, copies):
            run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", disk.base, copy)
            self.virsh(["blockcopy", name, disk.target, copy, "--shallow", "--reuse-external", "--transient-job", "--wait", "--format qcow2"])
        self.virsh(["suspend", name], *(["blockjob", name, target, "--abort"] for target in TARGETS), ["resume", name])
        self.flatten(sources=copies)
        for copy in copies:
            os.unlink(copy)

    def stock_cold(self):
        self.virsh(["managedsave", self.guest.name])
        for path in self.guest.paths():
            run("qemu-img", "snapshot", "-c", "stock", path)
        self.flatten("-l", "snapshot.name=stock")
        for path in self.guest.paths():
            run("qemu-img", "snapshot", "-d", "stock", path)
        self.virsh(["start", self.guest.name])

    def stock_cold_raw(self):
        self.virsh(["managedsave", self.guest.name])
        began = time.monotonic()
        for disk, image in zip(self.guest.disks, self.images):
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk.path, image)
        self.flatten_seconds = time.monotonic() - began
        self.virsh(["start", self.guest.name])

    def stock_revert(self):
        self.virsh(["destroy", self.guest.name])
        for path in self.guest.paths():
            run("qemu-img", "snapshot", "-a", "bench", path)
        self.virsh(["start", self.guest.name])

    def save_and_restore(self):
        """No snapshot: what a cold one cannot do without."""
        self.virsh(["managedsave", self.guest.name], ["start", self.guest.name])
