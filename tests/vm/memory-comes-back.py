#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`vm snapshot --memory` and `vm revert` of a real guest: it goes on from the very record it had, in memory and on both disks, as if
nothing had been since; in each mode, from each point of a tree; or boots from the disks. At steps of the journal the command is killed.

CASES=TEXT,... runs those kills with one of these in their names; in LONG runs at every step.
"""
# time limit: 500
import json
import os
import shutil
import signal
import time

import records
from guest import INSTALLED, Guest, newer_emulator
from meter import Meter
from report import LONG, Report, rig_for_test
from rig import read, run, wait_until
from steps import World, build_killer, name_steps

MORE = 30  # records between a snapshot and the way back to it
NVRAM = 128 << 10


class Trial:
    def __init__(self, world):
        self.world, self.guest, self.rig = world, world.guest, world.rig
        self.at = {}  # the newest record on the disks of each snapshot

    def qsnap(self, *words, want=0):
        command = self.world.command(*words)
        assert command.wait() == want, f"{words}: {command.said()}"
        return command.said()

    # ---- what is on disks ----

    def newest(self, images):
        return records.check_disks(images)[0][0]

    def snapshot_disks(self, name):
        """The disks of a kept snapshot, in files."""
        images = []
        for disk in self.guest.disks:
            images.append(os.path.join(self.world.folder, disk.target + ".then"))
            run("qemu-img", "convert", "-U", "-O", "qcow2", "-l", f"snapshot.name={name}", disk.path, images[-1])
        return images

    def disks(self):
        """The guest's, which stands still meanwhile."""
        guest, running = self.guest, self.guest.state() == "running"
        if running:
            guest.virsh("suspend", guest.name)
        copies = []
        for disk in guest.disks:
            copies.append(os.path.join(self.world.folder, disk.target + ".copy"))
            run("cp", "--sparse=always", disk.path, copies[-1])
            run("qemu-img", "check", "-q", "-f", "qcow2", copies[-1])
        if running:
            guest.virsh("resume", guest.name)
        return records.check_disks(copies)

    # ---- what the guest says ----

    def beats(self):
        return os.path.getsize(self.guest.beats)

    def goes_on(self, start, at, disks=True):
        """Since that byte of its beats it went on behind record `at`, and did not boot."""
        self.guest.wait_records(2)
        said = read(self.guest.beats)[start:]
        # the first one may be half of a number, and may be of the record that the disks have, or of the next one
        first = min(self.guest.numbers(start)[1:])
        assert "start" not in said, f"it has booted: {said[-100:]}"
        assert at <= first <= at + 2, f"it went on at {first}; the disks of the snapshot have {at}"
        if disks:
            self.disks()

    # ---- commands ----

    def take(self, name, *how):
        said = self.qsnap("snapshot", self.guest.name, name, "--memory", "--keep", *how)
        self.at[name] = self.newest(self.snapshot_disks(name))
        return said

    def revert(self, name, *how):
        """Goes back, from some records later; where its beats were then."""
        self.guest.wait_records(MORE)
        start = self.beats()
        self.qsnap("revert", self.guest.name, name, *how)
        return start

    def back(self, name):
        self.goes_on(self.revert(name), self.at[name])

    def point(self, name):
        (point,) = json.loads(self.qsnap("show", self.guest.name, name, "--json"))["snapshots"]
        return point

    def memory_file(self, name):
        return os.path.join(self.world.state_dir, os.path.basename(self.point(name)["memory"]))

    def files(self, ending=".memory"):
        return sorted(name for name in os.listdir(self.world.state_dir) if name.endswith(ending))

    def forget_all(self):
        for name in list(self.at):
            self.qsnap("delete", self.guest.name, name)
        self.at = {}
        left = [name for name in os.listdir(self.world.state_dir) if not name.endswith(".lock")]
        assert not left and not self.world.has_snapshot("one"), left


def modes(trial, report):
    guest = trial.guest
    with report.test("cold: the guest goes on from the very record, and its saved state was not copied"):
        said = trial.take("one", "--mode", "cold")
        assert "its memory, at most 128 MiB, is saved" in said, said
        file = trial.memory_file("one")
        assert os.stat(file).st_nlink == 1 and os.path.getsize(file) == trial.point("one")["memory-bytes"] > 1 << 20
        assert "one" in trial.qsnap("list", guest.name, "--tree") and "with memory" in trial.qsnap("list", guest.name, "--tree")
        trial.back("one")
    with report.test("instant: the same"):
        said = trial.take("two", "--mode", "instant")
        assert "memory, at most 128 MiB, is written while it stands still" in said, said
        trial.back("two")
    with report.test("live, from a fork: the same; the tree knows"):
        trial.back("one")
        trial.take("three", "--mode", "live")
        trial.back("three")
        told = json.loads(trial.qsnap("list", guest.name, "--tree", "--json"))
        assert {p["name"]: (p.get("parent"), p["state"]) for p in told["snapshots"]} == {
            "one": (None, "whole"), "two": ("one", "whole"), "three": ("one", "whole")}, told
    for name in "two", "three":
        with report.test(f"any point of the tree, as often as one likes: {name}"):
            trial.back(name)
    with report.test("paused, when that is asked for; then it goes on"):
        start = trial.revert("two", "--paused")
        assert guest.state() == "paused"
        guest.virsh("resume", guest.name)
        trial.goes_on(start, trial.at["two"], disks=LONG)
    with report.test("without its memory it boots from the disks of that instant"):
        start = trial.revert("two", "--without-memory")
        guest.wait_records(2)
        booted = [int(line.split()[1]) for line in read(guest.beats)[start:].split("\n") if line.startswith("start ")]
        assert len(booted) == 1 and booted[0] in (trial.at["two"], trial.at["two"] + 1), (booted, trial.at)
        trial.disks()
        guest.wait_agent()


def odd_states(trial, report):
    guest = trial.guest
    with report.test("of a guest that was saved: its saved state is kept as well, and it stays saved"):
        guest.virsh("managedsave", guest.name)
        trial.take("saved")
        assert guest.name in guest.virsh("list", "--all", "--with-managed-save", "--name").split()
        guest.start()
        guest.wait_records(2)
        trial.back("saved")
    with report.test("of one that was paused: it is paused again"):
        guest.virsh("suspend", guest.name)
        assert "can be taken cold" in trial.qsnap("snapshot", guest.name, "--memory", "--keep", "--mode", "instant", want=1)
        trial.take("paused")
        assert guest.state() == "paused"
        guest.virsh("resume", guest.name)
        start = trial.revert("paused")
        assert guest.state() == "paused"
        guest.virsh("resume", guest.name)
        trial.goes_on(start, trial.at["paused"], disks=LONG)
    with report.test("one that is shut off has none"):
        guest.stop()
        assert "has no memory" in trial.qsnap("snapshot", guest.name, "--memory", want=1)
        start = trial.beats()
        trial.qsnap("revert", guest.name, "paused", "--start")
        trial.goes_on(start, trial.at["paused"])
    with report.test("memory that is not what was taken is refused before the guest is ended; the disks can go back"):
        file = trial.memory_file("paused")
        with open(file, "r+b") as memory:
            memory.seek(os.path.getsize(file) // 2)
            byte = memory.read(1)
            memory.seek(-1, os.SEEK_CUR)
            memory.write(bytes([byte[0] ^ 1]))
        start = trial.beats()
        assert "SHA-256" in trial.qsnap("revert", guest.name, "paused", want=5)
        os.unlink(file)
        assert trial.point("paused")["state"] == "partly"
        said = trial.qsnap("revert", guest.name, "paused", want=5)
        assert "is gone" in said and "without the memory" in said, said
        guest.wait_records(2)
        assert "start" not in read(guest.beats)[start:]
        trial.revert("paused", "--without-memory", "--start")
        guest.wait_records(2)
        guest.wait_agent()
    with report.test("what is deleted takes its memory with it"):
        assert len(trial.files()) == len(trial.at) - 1, trial.files()
        trial.forget_all()


def beside_images(trial, report):
    guest, folder = trial.guest, os.path.join(trial.world.folder, "out")
    for how in ("--mode", "instant"), ("--mode", "instant", "--via", "overlay"), ("--mode", "cold"):
        if not LONG and how[1] == "cold":
            continue
        with report.test(f"to a folder, {how[-1]}: what libvirt restores from it fits the images"):
            World.clear(folder)
            os.rmdir(folder)
            trial.qsnap("snapshot", guest.name, "--memory", "--to", folder, *how)
            manifest = json.loads(read(os.path.join(folder, "manifest.json")))
            memory = os.path.join(folder, manifest["memory"]["file"])
            assert run("sha256sum", memory).split()[0] == manifest["memory"]["sha256"] and not trial.files()
            images = [os.path.join(folder, disk["file"]) for disk in manifest["disks"]]
            at = trial.newest(images)
            guest.wait_records(MORE)
            guest.stop()
            start = trial.beats()
            definition = guest.virsh("save-image-dumpxml", memory, "--security-info")
            for disk, image in zip(guest.disks, images):
                definition = definition.replace(f"'{disk.path}'", f"'{image}'")
            path = os.path.join(trial.world.folder, "restored.xml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(definition)
            guest.virsh("restore", memory, "--xml", path)
            guest.wait_records(2)
            first = min(guest.numbers(start))
            assert at <= first <= at + 1 and "start" not in read(guest.beats)[start:], (first, at)
            guest.stop()
            guest.start()
            guest.wait_records(2)
            guest.wait_agent()
    shutil.rmtree(folder, ignore_errors=True)


def nvram(trial, report):
    """A second flash beside SeaBIOS in the first one: QEMU has it, and the guest does not care."""
    guest, world = trial.guest, trial.world
    loader, file = os.path.join(world.folder, "bios"), os.path.join(world.folder, "nvram")
    shutil.copy("/usr/share/seabios/bios-256k.bin", loader)
    with open(file, "wb") as out:
        out.write(b"then" * (NVRAM // 4))
    with report.test("NVRAM goes back with memory and disks, or with the disks alone"):
        guest.stop()
        path = os.path.join(world.folder, "nvram.xml")
        with open(path, "w", encoding="utf-8") as out:
            out.write(world.definition.replace("<kernel>", f"<loader readonly='yes' type='pflash'>{loader}</loader><nvram>{file}</nvram><kernel>"))
        guest.virsh("define", path)
        guest.start()
        guest.wait_records(2)
        for name, how in (("instant-nvram", "instant"), ("cold-nvram", "cold"))[:2 if LONG else 1]:
            trial.take(name, "--mode", how)
        assert len(trial.files(".nvram")) == len(trial.at)
        for name in list(trial.at):
            guest.stop()
            with open(file, "wb") as out:
                out.write(b"now." * (NVRAM // 4))
            guest.start()
            trial.back(name)
            assert read(file).startswith("then"), read(file)[:20]
        guest.stop()
        with open(file, "wb") as out:
            out.write(b"now." * (NVRAM // 4))
        said = trial.qsnap("revert", guest.name, "instant-nvram", "--without-memory", "--snapshot-first=now")
        assert read(file).startswith("then") and len(trial.files(".nvram")) == len(trial.at) + 1, said
        trial.qsnap("revert", guest.name, "now")
        assert read(file).startswith("now.")
        trial.at["now"] = 0
        trial.forget_all()
        definition = os.path.join(world.folder, "definition")
        with open(definition, "w", encoding="utf-8") as out:
            out.write(world.definition)
        guest.virsh("undefine", guest.name, "--keep-nvram", "--snapshots-metadata")
        guest.virsh("define", definition)
        guest.start()
        guest.wait_records(2)
        guest.wait_agent()


def kills(trial, report):
    """A snapshot, and a way back, killed at a step: what is left fits together, and the guest runs."""
    world, guest = trial.world, trial.guest
    takes = {"cold": ("--mode", "cold"), "instant": ("--mode", "instant")}
    for mode, how in takes.items():
        words = ("snapshot", guest.name, "killed", "--memory", "--keep", *how)
        command = world.command(*words)
        assert command.wait() == 0, command.said()
        steps = name_steps(command.steps())
        print(f"{mode}: {', '.join(steps)}")
        trial.qsnap("delete", guest.name, "killed")
        for number, step in chosen(mode, steps, ("put file", "put paused", "put memory", "drop memory", "keep")):
            with report.test(f"{mode} snapshot killed after step {number} ({step})"):
                assert world.command(*words, step=number, when="after", deed="kill").wait() == -signal.SIGKILL
                trial.qsnap("recover", guest.name)
                there = world.has_snapshot("killed")
                assert there == ("keep" in steps[:number]) and len(trial.files()) == there, (there, trial.files())
                world.settled("running", ["killed"] if there else [])
                if there:
                    trial.qsnap("delete", guest.name, "killed")
                    assert not trial.files()
    trial.take("one", "--mode", "instant")
    words = ("revert", guest.name, "one")
    command = world.command(*words)
    assert command.wait() == 0, command.said()
    steps = name_steps(command.steps())
    print(f"revert: {', '.join(steps)}")
    for number, step in chosen("revert", steps, ("put start", "keep", "drop start")):
        with report.test(f"revert killed after step {number} ({step})"):
            guest.wait_records(MORE)
            start, told = trial.beats(), guest.last()
            assert world.command(*words, step=number, when="after", deed="kill").wait() == -signal.SIGKILL
            trial.qsnap("recover", guest.name)
            if "keep" in steps[:number]:
                trial.goes_on(start, trial.at["one"], disks=LONG)
            else:
                guest.wait_records(2)
                assert min(guest.numbers(start)[1:]) >= told
                guest.wait_agent()
            world.settled("running", ["one"])
    trial.forget_all()


def chosen(what, steps, usual):
    """In short runs the last one of each kind."""
    wanted = os.environ.get("CASES")
    last = {step: number for number, step in enumerate(steps, 1)}
    for number, step in enumerate(steps, 1):
        if step == "end":
            continue
        if any(text in f"{what} {number} ({step})" for text in wanted.split(",")) if wanted else LONG or (step in usual and last[step] == number):
            yield number, step


def stalls(trial, report):
    """How long the guest was away for a snapshot with memory, and for virsh's own."""
    guest, meter = trial.guest, Meter(trial.guest)
    folder, told = os.path.join(trial.world.folder, "stall"), {}
    with report.test("how long the guest is held is told"):
        for what, how in ("cold", ("--keep", "--mode", "cold")), ("instant, kept", ("--keep", "--mode", "instant")), ("instant, to a folder", ("--to", folder, "--mode", "instant")):
            begin = meter.now()
            trial.qsnap("snapshot", guest.name, "stall", "--memory", *how)
            guest.wait_records(5)
            told[what] = meter.longest(begin)
            if "--keep" in how:
                trial.qsnap("delete", guest.name, "stall")
        begin = meter.now()
        guest.virsh("snapshot-create-as", guest.name, "theirs", "--no-metadata", "--live", "--memspec", f"{folder}.memory,snapshot=external",
                    *(word for disk in guest.disks for word in ("--diskspec", f"{disk.target},snapshot=external,file={folder}.{disk.target}")))
        guest.wait_records(5)
        told["virsh --live --memspec"] = meter.longest(begin)
        for disk in guest.disks:
            guest.virsh("blockcommit", guest.name, disk.target, "--base", disk.path, "--active", "--pivot", "--wait")
        print("; ".join(f"{what}: {seconds * 1000:.0f} ms" for what, seconds in told.items()))
        for what in "instant, to a folder", "instant, kept":
            assert told[what] < 2 * told["virsh --live --memspec"] + 0.2, told
    meter.stop()


def beside_running(rig, report):
    """QEMU 7.2 does not notice all that an emulated guest changes while its memory is written: there it stands still for all of it."""
    emulator = newer_emulator()
    busy(rig, report, INSTALLED)
    if not emulator:
        print("skip memory is written while the guest runs: scripts/peer --emulator has no QEMU for that")
        return
    guest = Guest(rig, "newer", disks="qcow2,qcow2", emulator=emulator).boot()
    stalls(Trial(World(guest, inside=True)), report)
    guest.stop()
    busy(rig, report, emulator)


def busy(rig, report, emulator):
    """More memory is changed all the time than can be written in the moment that a guest is held for at first. With the installed emulator
    the guest stands still."""
    runs = emulator != INSTALLED
    how = "while it runs" if runs else "while it stands still"
    guest = Guest(rig, "busy", disks="qcow2,qcow2", memory=512, dirty=384, emulator=emulator).boot()
    wait_until("all its memory is in use", lambda: "writer: all of it" in read(os.path.join(guest.folder, "console")))
    trial = Trial(World(guest, inside=True))
    with report.test(f"memory is written {how}, of a guest that changes it as fast: that is held for longer"):
        said = trial.take("busy", "--mode", "instant")
        assert f"is written {how}" in said and ("it is held for longer" in said) == runs, said
        trial.back("busy")
    words = ("snapshot", guest.name, "ended", "--memory", "--keep", "--mode", "instant")
    for what, deed, status in ("killed", signal.SIGKILL, -signal.SIGKILL), ("Ctrl-C", signal.SIGINT, 130):
        with report.test(f"memory is written {how}, and {what} meanwhile: the guest runs on, and nothing is left of it"):
            command = trial.world.command(*words)
            wait_until("the memory is on its way", lambda: any("put memory" in step for step in name_steps(command.steps())))
            time.sleep(0.5 if runs else 0.2)
            command.process.send_signal(deed)
            assert command.wait() == status, command.said()
            if runs or deed == signal.SIGINT:
                guest.wait_records(3)
            trial.qsnap("recover", guest.name)
            guest.wait_records(3)
            assert guest.state() == "running" and len(trial.files()) == 1, trial.files()
            told = guest.monitor("query-migrate-parameters")
            assert told["downtime-limit"] == 300, told
            trial.world.settled("running", ["busy"])
    trial.forget_all()
    guest.remove()


def main():
    report = Report()
    build_killer()
    with rig_for_test() as rig:
        trial = Trial(World(Guest(rig, "g", disks="qcow2,qcow2").boot(), inside=True))
        modes(trial, report)
        odd_states(trial, report)
        beside_images(trial, report)
        nvram(trial, report)
        kills(trial, report)
        trial.guest.stop()
        beside_running(rig, report)
    report.finish()


main()
