#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`qsnap vm` to those who call it: what it prints, its events, its exit statuses, on a running guest."""
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import termios

from guest import Guest
from report import Report, rig_for_test
from rig import run, wait_until

QSNAP = os.environ.get("QSNAP", os.path.abspath("build/qsnap"))
report = Report()


class Program:
    """qsnap on one rig: `run` gives status, standard output and standard error."""

    def __init__(self, rig):
        self.rig, self.state = rig, rig.path("state")

    def words(self, *words):
        return [QSNAP, "-c", self.rig.uri, "vm", "--state", self.state, *words]

    def run(self, *words, want=0):
        done = subprocess.run(self.words(*words), capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == want, f"{words}: status {done.returncode}, not {want}: {done.stderr}"
        return done.stdout, done.stderr

    def json(self, *words):
        return json.loads(self.run(*words, "--json")[0])

    def file(self, guest, ending):
        return os.path.join(self.state, f"{guest.uuid}.{ending}")

    @contextlib.contextmanager
    def busy(self, guest):
        """Another command has the domain."""
        with open(self.file(guest, "lock"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock

    def left(self, guest, *traces):
        """What a command that died would have left."""
        lines = [{"version": 1, "domain": guest.name, "uuid": guest.uuid, "was": "running"}]
        lines += [{"put": i + 1, "dev": 0, "ino": 0, **trace} for i, trace in enumerate(traces)]
        with open(self.file(guest, "journal"), "w", encoding="ascii") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


def lists(qsnap, guest):
    with report.test("disks are told with all files that they are made of"):
        told = qsnap.json("disks", guest.name)
        assert (told["domain"], told["uuid"], told["state"]) == (guest.name, guest.uuid, "running"), told
        assert [d["target"] for d in told["disks"]] == ["vda", "vdb"], told
        assert all(d["taken"] and d["whole-chain"] and not d["busy"] for d in told["disks"]), told
        assert [i["path"] for d in told["disks"] for i in d["chain"]] == [
            path for d in guest.disks for path in (d.path, d.base)], told
        text = qsnap.run("disks", guest.name)[0]
        assert all(d.path in text and d.base in text for d in guest.disks), text
    with report.test("a kept snapshot is listed here and by virsh, until it is deleted"):
        made = qsnap.json("snapshot", guest.name, "kept")
        assert made["kept"] and made["name"] == "kept" and [d["target"] for d in made["disks"]] == ["vda", "vdb"], made
        assert made["mode"] == "instant" and made["via"] == "internal" and made["pause-ns"] > 0, made
        (listed,) = qsnap.json("list", guest.name)["snapshots"]
        assert listed["whole"] and listed["recorded"] and not listed["external"] and listed["disks"] == ["vda", "vdb"], listed
        assert "vda,vdb" in qsnap.run("list", guest.name)[0]
        assert "kept" in guest.virsh("snapshot-list", "--name", guest.name)
        qsnap.run("snapshot", guest.name, "kept", want=2)
        assert qsnap.run("delete", guest.name, "kept") == ("", "")
        assert qsnap.json("list", guest.name)["snapshots"] == []
        assert "kept" not in guest.virsh("snapshot-list", "--name", guest.name)
        qsnap.run("delete", guest.name, "kept", want=1)


def outputs(qsnap, guest, folder):
    with report.test("one disk goes through a pipe, and what is printed beside it"):
        with open(f"{folder}.pipe", "wb") as out:
            words = qsnap.words("snapshot", guest.name, "--disks", "vda", "--to", "-", "--compress", "zstd:1", "--json")
            done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, text=True, timeout=300, check=True)
        (told,) = json.loads(done.stderr[done.stderr.index("{\n"):])["disks"]
        with open(f"{folder}.pipe", "rb") as made:
            assert told["target"] == "vda" and told["sha256"] == hashlib.sha256(made.read()).hexdigest(), told
        info = json.loads(run(QSNAP, "info", "--output=json", "-f", "qcow2", f"{folder}.pipe"))
        assert info["format-specific"]["data"]["compression-type"] == "zstd", info
    with report.test("a folder gets the images, their manifest, and no file of before is replaced"):
        text, notes = qsnap.run("snapshot", guest.name, "--to", f"{folder}/", "--format", "raw")
        assert f"{folder}/vda.raw" in text and f"{folder}/vdb.raw" in text and "instant" in notes, (text, notes)
        assert sorted(os.listdir(folder)) == ["manifest.json", "vda.raw", "vdb.raw"]
        before = os.stat(f"{folder}/vda.raw").st_ino
        assert "exists already" in qsnap.run("snapshot", guest.name, "--to", folder, "--format", "raw", want=2)[1]
        assert os.stat(f"{folder}/vda.raw").st_ino == before
        os.mkdir(f"{folder}.mine")
        with open(f"{folder}.mine/manifest.json", "w", encoding="ascii") as mine:
            mine.write("mine")
        assert "manifest.json exists already" in qsnap.run("snapshot", guest.name, "--to", f"{folder}.mine", want=2)[1]
        assert os.listdir(f"{folder}.mine") == ["manifest.json"] and os.path.getsize(mine.name) == 4
    with report.test("two disks go neither to a stream nor to a file"):
        qsnap.run("snapshot", guest.name, "--to", "-", want=2)
        qsnap.run("snapshot", guest.name, "--to", f"{folder}.pipe", want=2)
    with report.test("-q says nothing, -v names the calls"):
        assert qsnap.run("snapshot", guest.name, "--disks", "vdb", "--to", f"{folder}.one", "-q") == ("", "")
        assert "virDomainQemuMonitorCommand blockdev-snapshot-internal-sync" in qsnap.run("snapshot", guest.name, "called", "-v")[1]
        qsnap.run("delete", guest.name, "called")


def events(qsnap, guest, folder):
    with report.test("events are an object a line, the last one with the status"):
        err = qsnap.run("snapshot", guest.name, "-v", "--mode", "live", "--to", folder, "--progress", "json")[1]
        told = [json.loads(line) for line in err.splitlines()]
        assert told[-1] == {"event": "done", "status": 0}, told[-1]
        steps = [(e["step"], e.get("disk")) for e in told if e["event"] == "step"]
        wanted = [("copy", "vda"), ("copy", "vdb"), ("suspend", None), ("resume", None), ("extract", "vda"), ("extract", "vdb")]
        assert [s for s in steps if s in wanted] == wanted, steps
        assert any(e["event"] == "call" and e["call"] == "virDomainSuspend" for e in told)
        assert all(e["done"] <= e["total"] for e in told if e["event"] == "progress")
        err = qsnap.run("snapshot", guest.name, "--mode", "live", "--to", folder, "--progress=json", want=2)[1]
        told = [json.loads(line) for line in err.splitlines()]
        assert told[-1] == {"event": "failed", "status": 2} and "exists already" in told[-2]["message"], told
    with report.test("a reader that does not read holds no guest"):
        out, into = os.pipe()
        os.set_blocking(into, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(into, bytes(4096))
        os.set_blocking(into, True)
        words = qsnap.words("snapshot", guest.name, "-v", "--mode", "live", "--to", f"{folder}.unread", "--json")
        made = json.loads(subprocess.run(words, stdout=subprocess.PIPE, stderr=into, timeout=300, check=True).stdout)
        assert made["pause-ns"] < 10e9, made
        os.close(out)
        os.close(into)


def failures(qsnap, guest, folder):
    with report.test("3: another command has the domain; --wait waits for it"):
        with qsnap.busy(guest) as lock:
            assert f"domain '{guest.name}': another qsnap" in qsnap.run("delete", guest.name, "x", want=3)[1]
            qsnap.run("snapshot", guest.name, "--wait", "1", want=3)
            qsnap.run("list", guest.name)
            waiting = subprocess.Popen(qsnap.words("delete", guest.name, "x", "--wait", "300"), stderr=subprocess.PIPE)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert b"no snapshot 'x'" in waiting.communicate(timeout=300)[1] and waiting.returncode == 1
    with report.test("a signal ends it early, and all is as before"):
        words = qsnap.words("snapshot", guest.name, "--mode", "cold", "--to", f"{folder}.early", "--progress", "json")
        early = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        told = [json.loads(early.stderr.readline())]
        while told[-1] != {"event": "step", "step": "save"}:
            told.append(json.loads(early.stderr.readline()))
        early.send_signal(signal.SIGTERM)
        told += [json.loads(line) for line in early.stderr]
        assert early.wait() == 143 and told[-1] == {"event": "failed", "status": 143}, told
        assert guest.state() == "running" and qsnap.json("list", guest.name)["snapshots"] == []
        assert not os.path.exists(f"{folder}.early") and not os.path.exists(qsnap.file(guest, "journal"))
    with report.test("1: no such domain, no such disk"):
        qsnap.run("list", "nobody", want=1)
        assert "no disk vdz" in qsnap.run("snapshot", guest.name, "--disks", "vda,vdz", want=1)[1]
    with report.test("2: what an option cannot be is told with what it can be"):
        for words, wanted in ((("--mode", "warm"), "--mode expects auto, cold, live or instant, not 'warm'"),
                              (("--via", "any"), "--via expects internal or overlay, not 'any'"),
                              (("--compress", "lz4"), "--compress expects zlib or zstd"),
                              (("--max-pause", "x"), "for --max-pause"), (("--wait", "x"), "for --wait")):
            assert wanted in qsnap.run("snapshot", guest.name, "--to", folder, *words, want=2)[1], words
    with report.test("1: a folder of state that cannot be is named as such"):
        words = ("snapshot", guest.name, "--to", folder, "--state", "/dev/null/state")
        assert "state folder /dev/null/state" in qsnap.run(*words, want=1)[1]
    with report.test("recover takes back what is left, and says so"):
        half = f"{folder}.half"
        with open(half, "w", encoding="ascii") as file:
            which = os.stat(file.fileno())
        guest.virsh("suspend", guest.name)
        qsnap.left(guest, {"kind": "file", "path": half, "dev": which.st_dev, "ino": which.st_ino}, {"kind": "paused"})
        text = qsnap.run("recover")[0]
        assert f"{guest.name}: letting the guest run on" in text and f"{guest.name}: removing a file" in text, text
        assert guest.state() == "running" and not os.path.exists(half) and not os.path.exists(qsnap.file(guest, "journal"))
        assert qsnap.run("recover")[0] == "nothing is left to take back\n"
        assert qsnap.run("recover", guest.name, "-q") == ("", "")
    with report.test("4: what cannot be taken back is told by every command but the lists"):
        with open(half, "w", encoding="ascii") as file:
            which = os.stat(file.fileno())
        qsnap.left(guest, {"kind": "internal", "target": "vda", "path": half, "name": "x", "dev": which.st_dev, "ino": which.st_ino + 1})
        for words in ("recover",), ("recover", guest.name), ("snapshot", guest.name), ("delete", guest.name, "x"):
            assert f"vm recover {guest.name}" in qsnap.run(*words, want=4)[1], words
        qsnap.run("list", guest.name)
        os.unlink(half)
        os.unlink(qsnap.file(guest, "journal"))


def waits_for_its_reader(process):
    """True when the pipe is full and nothing more comes into it."""
    waiting = fcntl.ioctl(process.stdout, termios.FIONREAD, b"1234")
    return int.from_bytes(waiting, sys.byteorder) > 32768 and process.poll() is None


def verification(qsnap, guest):
    with report.test("5: a snapshot that somebody deletes while its image is made"):
        words = qsnap.words("snapshot", guest.name, "gone", "--disks", "vda", "--mode", "instant", "--via", "internal", "--to", "-")
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            wait_until("the image waits for its reader", lambda: waits_for_its_reader(process))
            devices = json.loads(guest.virsh("qemu-monitor-command", guest.name, json.dumps({"execute": "query-block"})))["return"]
            node = next(d["inserted"]["node-name"] for d in devices if d.get("inserted", {}).get("file") == guest.disks[0].path)
            gone = {"execute": "blockdev-snapshot-delete-internal-sync", "arguments": {"device": node, "name": "gone"}}
            assert "error" not in json.loads(guest.virsh("qemu-monitor-command", guest.name, json.dumps(gone)))
            told = process.communicate(timeout=300)[1].decode()
        assert process.returncode == 5 and "snapshot 'gone' is not there any more" in told, (process.returncode, told)
        assert guest.state() == "running" and not os.path.exists(qsnap.file(guest, "journal"))


def main():
    with rig_for_test() as rig:
        guest = Guest(rig, "web", writer="off").boot()
        guest.uuid = rig.virsh("domuuid", "web").strip()
        qsnap = Program(rig)
        lists(qsnap, guest)
        outputs(qsnap, guest, rig.path("images"))
        events(qsnap, guest, rig.path("live"))
        failures(qsnap, guest, rig.path("x"))
        verification(qsnap, guest)
    report.finish()


main()
