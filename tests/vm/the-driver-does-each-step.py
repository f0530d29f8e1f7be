#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# sanitizers: only
"""Each step of the libvirt driver on a real guest, by driver-probe; virsh, qemu-img and the guest itself say what came of it."""
import json
import os
import subprocess

import ram
import records
from guest import Guest, newer_emulator
from report import Report, rig_for_test
from rig import RigError, read, run

PROBE = os.path.join(os.environ.get("BUILD", "build"), "driver-probe")
USAGE, IO, NOT_FOUND, UNSUPPORTED, BUSY, CHANGED = 11, 12, 13, 15, 18, 19
report = Report()


class Probe:
    def __init__(self, rig, guest):
        self.rig, self.name = rig, guest.name

    def do(self, *steps, want=0, inside=False):
        """Steps as texts, "suspend" or "overlay vda=/path"; the domain is put in. `inside`: by one that sees libvirtd's files."""
        return run(*(self.rig.inside() if inside else ()), *self._command(steps), want=want)

    def _command(self, steps):
        words = []
        for step in steps:
            verb, *rest = step.split(" ")
            words += ["--", verb, *([] if verb == "pause" else [self.name]), *rest]
        return [PROBE, self.rig.uri, *words[1:]]

    def pausing(self, *steps):
        """One that has done the steps before "pause", and does those behind it when it is told to; and what it has said."""
        process = subprocess.Popen(self._command(steps), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = []
        while not said or said[-1] not in ("paused\n", ""):
            said.append(process.stdout.readline())
        assert said[-1] == "paused\n", "".join(said)
        return process, "".join(said)

    def look(self):
        return json.loads(self.do("look"))

    def paths(self):
        """Of each disk, from the top down."""
        return {disk["target"]: [image["path"] for image in disk["images"]] for disk in self.look()["disks"]}


def in_two(what, *others):
    assert all(what == other for other in others), f"{what} is not {others}"


def snapshots(path):
    out = run("qemu-img", "snapshot", "-U", "-l", path).splitlines()[2:]
    return [line.split()[1] for line in out]


def looking(rig, guest, probe):
    with report.test("a domain is as virsh says it is"):
        guest.wait_agent()
        found = probe.look()
        in_two(found["state"], guest.state(), "running")
        in_two(found["uuid"], guest.virsh("domuuid", guest.name))
        assert found["persistent"] and found["agent"] and not (found["saved"] or found["snapshots"] or found["job"]), found
        chain, raw = found["disks"]
        in_two([image["path"] for image in chain["images"]], [guest.disks[0].path, guest.disks[0].base])
        in_two([image["format"] for image in chain["images"]], ["qcow2", "qcow2"])
        in_two([raw["images"][0]["path"], raw["images"][0]["format"]], [guest.disks[1].path, "raw"])
        assert chain["whole"] and raw["whole"] and not chain["busy"], found["disks"]
        in_two(probe.do("xml").strip(), guest.virsh("dumpxml", guest.name, "--inactive", "--security-info"))
        in_two(run(PROBE, rig.uri, "list").split(), [found["uuid"]])
        run(PROBE, rig.uri, "local")
        assert "no domain" in run(PROBE, rig.uri, "look", "another", want=NOT_FOUND)


def pausing_and_the_agent(guest, probe):
    with report.test("a guest is paused and goes on"):
        probe.do("suspend")
        found = probe.look()
        in_two(found["state"], guest.state(), "paused")
        assert found["paused_by_user"]
        probe.do("resume")
        guest.wait_records(3)
        probe.do("resume", want=UNSUPPORTED)
    with report.test("file systems freeze and thaw, the clock is set"):
        probe.do("freeze")
        assert guest.frozen()
        probe.do("freeze", want=IO)
        probe.do("thaw", "thaw", "set_time")
        assert not guest.frozen()
        guest.wait_records(3)


def saving(guest, probe):
    with report.test("a saved guest starts paused or running, as it is told, and its disks are known while it is away"):
        before = probe.paths()
        probe.do("save")
        found = probe.look()
        in_two(found["state"], guest.state(), "shut off")
        assert found["saved"]
        in_two([disk["images"][0]["path"] for disk in found["disks"]], [disk.path for disk in guest.disks])
        probe.do("start paused")
        found = probe.look()
        assert found["state"] == "paused" and found["paused_by_user"] and not found["saved"], found
        probe.do("save", "start")  # saved while it was paused
        in_two(guest.state(), "running")
        in_two(probe.paths(), before)
        guest.wait_records(3)
    with report.test("a start while somebody has the disk open fails, and the saved guest stays"):
        probe.do("save")
        holder = subprocess.Popen(["qemu-io", guest.disks[0].path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        holder.stdin.write("length\n")
        holder.stdin.flush()
        holder.stdout.readline()
        assert "lock" in probe.do("start", want=BUSY)
        holder.communicate("quit\n")
        assert probe.look()["saved"]
        probe.do("start")
        guest.wait_records(3)


def ending(rig, guest, probe):
    with report.test("a guest is ended, and has on its disks what it had told of; then its saved state can go, and only then"):
        probe.do("forget_save off", want=CHANGED)
        told = guest.last()
        probe.do("destroy")
        in_two(guest.state(), "shut off")
        records.check_disks(guest.paths(), least=told)
        probe.do("destroy", want=UNSUPPORTED)
        probe.do("forget_save active", want=CHANGED)
        probe.do("start", "save", "forget_save off")
        assert not probe.look()["saved"]
        probe.do("start")
        guest.wait_records(3)
        guest.wait_agent()
    with report.test("a domain is defined as it was, and no other one"):
        xml = probe.do("xml")
        path = rig.path("definition")
        with open(path, "w", encoding="utf-8") as file:
            file.write(xml.replace("<on_reboot>destroy", "<on_reboot>restart"))
        probe.do(f"define {path}")
        assert "<on_reboot>restart" in probe.do("xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(xml.replace(guest.virsh("domuuid", guest.name), "0e9d2a8e-3a52-4b0a-9f3a-5d1f6a7b8c9d"))
        probe.do(f"define {path}", want=USAGE)
        with open(path, "w", encoding="utf-8") as file:
            file.write(xml)
        probe.do(f"define {path}")
        in_two(probe.do("xml"), xml)


def memory(rig, guest, probe):
    file = rig.path("memory")
    with report.test("what a managed save has written is found where libvirt is, while it is there"):
        probe.do("saved_path", want=NOT_FOUND, inside=True)
        probe.do("save")
        in_two(probe.do("saved_path", inside=True).strip(), f"/var/lib/libvirt/qemu/save/{guest.name}.save")
        probe.do("saved_path", want=NOT_FOUND)  # that of the machine itself, if it has one
        probe.do("start")
        guest.wait_records(3)
    with report.test("a guest goes on from a file with its memory, and the file stays"):
        in_two(probe.do("memory_still").strip(), "still")
        probe.do("suspend", f"memory_begin {file} still", "memory_held", "internal_create memory vda", "memory_finish")
        told, start = guest.last(), os.path.getsize(guest.beats)
        in_two(guest.state(), "paused")
        in_two(snapshots(guest.disks[0].path), ["memory"])
        probe.do(f"restore {file}", want=UNSUPPORTED)  # it runs
        probe.do("destroy", f"restore {file} paused")
        found = probe.look()
        in_two(found["state"], guest.state(), "paused")
        assert found["paused_by_user"] and not found["saved"], found
        probe.do("destroy", f"restore {file}")
        guest.wait_records(3)
        assert guest.numbers(start)[0] in (told, told + 1) and "start" not in read(guest.beats)[start:]
        assert os.path.getsize(file) > 1 << 20
        guest.wait_agent()
        probe.do("internal_delete memory vda")


def settled(guest, probe, limit=300):
    """QEMU is set as before, and its guest runs."""
    in_two(guest.state(), "running")
    in_two(guest.monitor("query-status")["status"], "running")
    in_two(guest.monitor("query-migrate-parameters")["downtime-limit"], limit)
    assert {"capability": "pause-before-switchover", "state": False} in guest.monitor("query-migrate-capabilities")
    guest.wait_records(3)


def whole_memory(rig):
    """What is in the file is what the guest has when it is held, and not what it had when that was written."""
    path, file, dumped = newer_emulator(), rig.path("memory"), rig.path("dump")
    name = "memory on its way: what the guest changes meanwhile is in the file as it is at last"
    if not path:
        print(f"skip {name}: scripts/peer --emulator has no QEMU that notices all of it")
        return
    guest = Guest(rig, "newer", disks="qcow2,raw", emulator=path).boot()
    probe, changed = Probe(rig, guest), 0
    with report.test(name):
        in_two(probe.do("memory_still").strip(), "runs")
        for _ in range(6):
            process, said = probe.pausing(f"memory_begin {file}", "memory_held", "pause", "memory_finish", "memory_end")
            try:
                ram.dump(guest, dumped)
            except RigError:
                process.kill()
                raise
            out, _ = process.communicate("\n")
            assert process.returncode == 0, said + out
            changed += "some left" in said
            wrong = ram.differing(file, dumped)
            assert not wrong, f"{len(wrong)} pages, as the one at {wrong[0]:#x}"
            settled(guest, probe)
        assert changed
    guest.remove()


def memory_on_its_way(rig, guest, probe):
    """Ended at each of its stages, by us or by our death."""
    file = rig.path("memory")
    with report.test("memory on its way: ended at each stage, the guest goes on, and QEMU is as before"):
        probe.do("memory_end")
        settled(guest, probe)
        for steps in ([], ["memory_held"], ["memory_held", "memory_finish"]):
            probe.do(f"memory_begin {file}", *steps, "memory_end", "memory_end")
            settled(guest, probe)
    with report.test("memory on its way: killed at each stage; the next one ends it"):
        for steps in ([], ["memory_held"], ["memory_held", "memory_finish"]):
            process, _ = probe.pausing(f"memory_begin {file}", "memory_patience 5000", *steps, "pause")
            process.kill()
            process.communicate()
            if steps:
                in_two(guest.state(), "paused")
            probe.do("memory_end")
            settled(guest, probe)
    with report.test("memory on its way of a guest that stands still: killed at each stage, it stands still until it is told to go on"):
        for steps in ([], ["memory_held"], ["memory_held", "memory_finish"]):
            process, _ = probe.pausing("suspend", f"memory_begin {file} still", *steps, "pause")
            process.kill()
            process.communicate()
            probe.do("memory_end")
            in_two(guest.state(), "paused")
            guest.virsh("resume", guest.name)
            settled(guest, probe)
    with report.test("memory on its way of a guest that was to stand still, and was resumed: what it changed since is missed, so it is refused"):
        assert "was resumed meanwhile" in probe.do("suspend", "memory_begin unread still", "resume", "memory_held", want=CHANGED)
        probe.do("memory_end")
        settled(guest, probe)
    with report.test("memory on its way: nobody reads it: the guest goes on"):
        assert "has not written" in probe.do("memory_begin cut", "memory_held", want=IO)
        in_two(guest.state(), "running")
        probe.do("memory_end")
        settled(guest, probe)
    with report.test("memory on its way: nobody else migrates it meanwhile, and theirs is not ended; who suspends it finds it so"):
        probe.do(f"memory_begin {file}", f"memory_begin {file}", want=BUSY)
        probe.do("memory_end")
        guest.virsh("migrate-setmaxdowntime", guest.name, "450")
        assert "suspended meanwhile" in probe.do("internal_create closed vda", f"memory_begin {file}", "suspend", "memory_held", want=CHANGED)
        probe.do("memory_end")
        in_two(guest.state(), "paused")
        assert "closed the disks" in probe.do("internal_delete closed vda", want=BUSY)
        guest.virsh("resume", guest.name)
        settled(guest, probe)
        probe.do("internal_delete closed vda")
        guest.virsh("migrate-setmaxdowntime", guest.name, "450")
        probe.do(f"memory_begin {file}", "memory_held", "memory_finish", "memory_end")
        settled(guest, probe, limit=450)
        guest.virsh("migrate-setmaxdowntime", guest.name, "300")
    with report.test("memory on its way: when it is written the disks are closed, and nothing is done to them until the guest goes on"):
        probe.do("internal_create closed vda", f"memory_begin {file}", "memory_held", "memory_finish")
        assert "closed the disks" in probe.do("internal_delete closed vda", want=BUSY)
        probe.do("memory_end", "internal_delete closed vda")
        settled(guest, probe)
    with report.test("memory on its way: a managed save, and a snapshot of libvirt's own, work as before afterwards"):
        guest.virsh("managedsave", guest.name)
        guest.start()
        guest.wait_records(3)
        guest.virsh("save", guest.name, file)
        definition = guest.virsh("save-image-dumpxml", file, "--security-info")
        guest.virsh("restore", file)
        probe.do(f"memory_begin {file}", "memory_held", "memory_finish", "memory_end")
        in_two(guest.virsh("save-image-dumpxml", file, "--security-info"), definition)
        guest.wait_records(3)
        guest.wait_agent()


def internal(guest, probe):
    top, raw = guest.disks
    with report.test("an internal snapshot of a running guest is made and deleted"):
        probe.do("internal_create one vda")
        in_two(snapshots(top.path), ["one"])
        assert "already exists" in probe.do("internal_create one vda", want=USAGE)
        in_two(snapshots(top.path), ["one"])
        assert "does not exist" in probe.do("internal_delete one vda 77", want=NOT_FOUND)
        probe.do("internal_delete one vda 1")
        in_two(snapshots(top.path), [])
        assert "does not exist" in probe.do("internal_delete one vda", want=NOT_FOUND)
    with report.test("an internal snapshot is of all disks or of none"):
        assert "raw" in probe.do("internal_create two vda vdb", want=UNSUPPORTED)
        probe.do("internal_create two vda vdx", want=NOT_FOUND)
        in_two(snapshots(top.path), [])
        assert raw.format == "raw"
        guest.wait_records(3)


def overlays(guest, probe):
    over = [f"{disk.path}.over" for disk in guest.disks]
    before = probe.paths()
    with report.test("overlays of all disks are of one instant, or there is none"):
        probe.do(f"overlay vda={over[0]} vdb=/nowhere/over", want=IO)
        in_two(probe.paths(), before)
        assert not os.path.exists(over[0])
        told = guest.last()
        probe.do(f"overlay vda={over[0]} vdb={over[1]}")
        in_two(probe.paths(), {target: [path, *before[target]] for target, path in zip(before, over)})
        assert not probe.look()["snapshots"]
        records.check_disks(guest.paths(), least=told)
        guest.wait_records(3)
    with report.test("each overlay is committed into what is right below it"):
        probe.do(f"commit vda {guest.disks[0].path}", f"commit vdb {guest.disks[1].path}", "ready vda", "ready vdb")
        assert all(disk["busy"] and not disk["copy_to"] for disk in probe.look()["disks"])
        probe.do("end_job vda pivot", "end_job vdb pivot")
        in_two(probe.paths(), before)
        for path in over:
            os.unlink(path)
        guest.wait_records(3)


def copies(rig, guest, probe):
    to = [rig.path("copy.qcow2"), rig.path("copy.raw")]
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", guest.disks[0].base, to[0])
    run("truncate", "-s", os.path.getsize(guest.disks[1].path), to[1])
    before = probe.paths()
    with report.test("copies ended while the guest is paused are of one instant, and the domain stays defined"):
        probe.do(f"copy vda={to[0]} shallow", f"copy vdb={to[1]}:raw sync", "ready vda", "ready vdb")
        in_two([disk["copy_to"] for disk in probe.look()["disks"]], to)
        probe.do(f"copy vda={to[0]}", want=BUSY)
        probe.do("suspend")
        told = guest.last()
        probe.do("end_job vda whole", "end_job vdb whole", "resume")
        records.check_disks(to, least=told, most=told + 1)
        in_two(probe.paths(), before)
        assert probe.look()["persistent"]
        assert "no block job" in probe.do("end_job vda", want=NOT_FOUND)
    with report.test("a copy that finds no room ends by itself, the guest goes on"):
        small = rig.small_fs("small", "4M")
        run("truncate", "-s", os.path.getsize(guest.disks[1].path), os.path.join(small, "full"))
        run("qemu-img", "resize", "-q", "-f", "raw", os.path.join(small, "full"), "256M")
        assert "none gone" in probe.do(f"copy vdb={small}/full:raw", "ready vdb")
        assert not probe.look()["disks"][1]["busy"]
        guest.wait_records(3)
    with report.test("a guest changes over to its copy"):
        probe.do(f"copy vda={to[0]} shallow", "ready vda", "end_job vda pivot")
        in_two(probe.paths(), {**before, "vda": [to[0], guest.disks[0].base]})
        guest.wait_records(3)


def devices(guest, probe):
    with report.test("a device is there when it was attached, and gone when it was detached"):
        path = os.path.join(guest.folder, "device.xml")
        def there():
            return "/dev/urandom" in guest.virsh("dumpxml", guest.name)
        rng = "<rng model='virtio'><backend model='random'>/dev/urandom</backend>{}</rng>"
        with open(path, "w", encoding="utf-8") as file:
            file.write(rng.format(""))
        run(PROBE, guest.rig.uri, "attach", guest.name, read(path))
        assert there()
        run(PROBE, guest.rig.uri, "detach", guest.name, rng.format("<alias name='rng0'/>"))
        assert not there()


def a_lost_connection(rig, guest, probe):
    with report.test("after libvirtd was killed, a step fails while it is away, and the next ones are done by the new one"):
        process, _ = probe.pausing("suspend", "pause", "resume")
        rig.kill_libvirtd()
        assert "no connection to libvirt" in run(PROBE, rig.uri, "resume", guest.name, want=IO)
        rig.start_libvirtd()
        out, _ = process.communicate("\n")
        assert process.returncode == 0, out
        guest.wait_records(3)
    with report.test("a step that loses libvirtd says so"):
        process, _ = probe.pausing("look", "pause", "suspend")
        rig.kill_libvirtd()
        out, _ = process.communicate("\n")
        assert process.returncode == IO and "no connection to libvirt" in out, out
        rig.start_libvirtd()
        assert guest.state() == "running"


def another_source(guest, probe):
    with report.test("a disk of a guest that is shut off gets another file, and nothing else changes"):
        guest.stop()
        path, before = probe.paths()["vda"][0], guest.virsh("dumpxml", guest.name)
        probe.do(f"set_source vda={guest.disks[0].path}")
        in_two(guest.virsh("dumpxml", guest.name).count(guest.disks[0].path), 1)
        probe.do(f"set_source vda={path}")
        in_two(sorted(guest.virsh("dumpxml", guest.name).split("\n")), sorted(before.split("\n")))


def kept_records(rig):
    guest = Guest(rig, "kept", disks="plain,plain").make()
    probe = Probe(rig, guest)
    with report.test("a record of a snapshot that is in all disks is libvirt's own: it lists it, goes back to it, deletes it"):
        for path in guest.paths():
            run("qemu-img", "snapshot", "-c", "one", path)
        probe.do("define_record one vda vdb")
        in_two(probe.do("records").strip(), "one 1700000000 -")
        in_two(guest.virsh("snapshot-list", guest.name, "--name"), "one")
        guest.virsh("snapshot-revert", guest.name, "one")
        guest.virsh("snapshot-delete", guest.name, "one")
        in_two([snapshots(path) for path in guest.paths()], [[], []])
        in_two(probe.do("records"), "")
    with report.test("a record of some disks only, and one that is forgotten"):
        probe.do("define_record some vda")
        in_two(guest.virsh("snapshot-list", guest.name, "--name"), "some")
        probe.do("forget_record some")
        in_two(guest.virsh("snapshot-list", guest.name, "--name"), "")
        probe.do("forget_record some", want=NOT_FOUND)
    with report.test("libvirt's own external snapshots are seen"):
        guest.virsh("snapshot-create-as", guest.name, "outer", "--disk-only")
        assert probe.do("records").split()[0::3] == ["outer", "external"] and probe.look()["snapshots"]


def main():
    with rig_for_test() as rig:
        guest = Guest(rig, "first", disks="qcow2,raw").boot()
        probe = Probe(rig, guest)
        looking(rig, guest, probe)
        pausing_and_the_agent(guest, probe)
        saving(guest, probe)
        ending(rig, guest, probe)
        memory(rig, guest, probe)
        memory_on_its_way(rig, guest, probe)
        whole_memory(rig)
        internal(guest, probe)
        overlays(guest, probe)
        copies(rig, guest, probe)
        devices(guest, probe)
        a_lost_connection(rig, guest, probe)
        another_source(guest, probe)
        kept_records(rig)
    report.finish()


main()
