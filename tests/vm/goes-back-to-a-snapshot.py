#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`vm revert` of a real guest: it boots from the disks of that instant, goes on from there, and can go on from another one. At every
step of the journal something dies: afterwards, or after `vm recover`, all disks are back or none is, and the guest runs.

In LONG runs at every step in each way; else once at each. CASES=TEXT,... runs those with one of these in their names.
"""
# time limit: 400
import collections
import json
import os
import signal

import records
from guest import Guest
from report import LONG, Report, rig_for_test
from rig import run, wait_until
from steps import World, build_killer, name_steps

MORE = 40  # records between a snapshot and the way back to it
DEEDS = {"kill": ("after", "before", "torn"), "interrupt": ("after",), "libvirtd": ("after",)}
Case = collections.namedtuple("Case", "number step when deed")


class Trial:
    def __init__(self, world):
        self.world, self.guest, self.rig = world, world.guest, world.rig
        self.at = {}  # the record that each snapshot has at least

    def qsnap(self, *words, want=0):
        command = self.world.command(*words)
        assert command.wait() == want, f"{words}: {command.said()}"
        return command.said()

    def snapshot(self, name):
        self.at[name] = self.guest.last()
        self.qsnap("snapshot", self.guest.name, name, "--mode", "instant", "--via", "internal", "--keep")
        self.latest = self.guest.last() + 1  # that one may be on its way to the disks

    def tree(self, current, parents):
        """What the catalog says: where the disks are, and each snapshot's parent."""
        found = json.loads(self.qsnap("show", self.guest.name, "--json"))
        assert found["current"] == current, found
        assert {point["name"]: point.get("parent") for point in found["snapshots"]} == parents, found

    def writes_on(self):
        return self.guest.wait_records(MORE)

    def disks(self, least, most=None):
        """The disks of a guest that stands still, or is off."""
        copies = []
        for disk in self.guest.disks:
            copies.append(os.path.join(self.world.folder, disk.target + ".copy"))
            run("cp", "--sparse=always", disk.path, copies[-1])
            run("qemu-img", "check", "-q", "-f", "qcow2", copies[-1])
        return records.check_disks(copies, least=least, most=most)

    def beats(self):
        return os.path.getsize(self.guest.beats)

    def first_since(self, start):
        """The lowest record since: where the guest went on, if it went back, or else when it was."""
        self.guest.wait_records(2)
        return min(self.guest.numbers(start)[1:])  # the first one may be half of a number

    # ---- nothing happens ----

    def undisturbed(self, report):
        guest = self.guest
        with report.test("the disks are those of the instant, and the guest boots from them and writes on"):
            self.snapshot("one")
            told = self.writes_on()
            said = self.qsnap("revert", guest.name, "one", "--paused")
            assert guest.state() == "paused" and "2 disks back at snapshot one" in said and "paused" in said, said
            self.disks(least=self.at["one"], most=self.latest)
            assert self.latest < told
            guest.virsh("resume", guest.name)
            guest.wait_records(2)
        with report.test("what was there before is kept when asked for, and can be gone back to"):
            self.writes_on()
            told, start = guest.last(), self.beats()
            self.qsnap("revert", guest.name, "one", "--snapshot-first=two")
            assert self.first_since(start) <= self.latest + 2, (self.first_since(start), self.latest)
            assert guest.state() == "running"
            names = guest.virsh("snapshot-list", guest.name, "--name").split()
            assert sorted(names) == ["one", "two"], names
            self.tree("one", {"one": None, "two": "one"})
            self.qsnap("revert", guest.name, "two", "--paused")
            self.disks(least=told)
            self.tree("two", {"one": None, "two": "one"})
            self.qsnap("revert", guest.name, "one", "--paused")
            assert guest.state() == "paused"
            self.disks(least=self.at["one"], most=self.latest)
            self.qsnap("delete", guest.name, "two")
            assert [self.world.snapshots(disk) for disk in guest.disks] == [["one"], ["one"]]
            guest.virsh("resume", guest.name)
            guest.wait_records(2)

    def not_running(self, report):
        guest = self.guest
        with report.test("a saved guest loses its memory, and stays off"):
            guest.virsh("managedsave", guest.name)
            said = self.qsnap("revert", guest.name, "one")
            assert guest.state() == "shut off" and "saved state" in said, said
            assert guest.name not in guest.virsh("list", "--all", "--with-managed-save", "--name").split()
            self.disks(least=self.at["one"], most=self.latest)
        with report.test("one that is off is started when asked for"):
            self.qsnap("revert", guest.name, "one", "--start")
            guest.wait_records(2)
        with report.test("what cannot be is refused before the guest is touched"):
            wait_until("the guest is past what was kept", lambda: guest.last() > self.latest)
            start = self.beats()
            assert "vda: it has no snapshot 'none'" in self.qsnap("revert", guest.name, "none", want=1)
            self.qsnap("snapshot", guest.name, "half", "--disks", "vda")
            assert "vdb: it has no snapshot 'half'" in self.qsnap("revert", guest.name, "half", want=1)
            self.qsnap("delete", guest.name, "half")
            self.qsnap("revert", guest.name, "one", "--snapshot-first=one", want=2)
            assert self.first_since(start) > self.latest and guest.state() == "running"

    # ---- something does ----

    def happens(self, case):
        """One way back, cut at a step."""
        world, guest = self.world, self.guest
        told, start = self.writes_on(), self.beats()
        killed = case.deed == "kill"
        command = world.command("revert", guest.name, "one", step=case.number, when=case.when, deed="kill" if killed else "stop")
        if killed:
            assert command.wait() == -signal.SIGKILL, f"step not reached:\n{command.said()}"
        else:
            assert command.wait_stopped(), f"step not reached:\n{command.said()}"
            if case.deed == "interrupt":
                command.process.send_signal(signal.SIGINT)
            else:
                self.rig.kill_libvirtd()
                self.rig.start_libvirtd()
            command.go_on()
            command.wait()
        steps = name_steps(command.steps())
        back = "keep" in steps and (not killed or steps[-1] != "keep" or case.when == "after")
        self.qsnap("recover", guest.name)
        first = self.first_since(start)
        assert first <= self.latest + 2 if back else first >= told, f"it went on at {first}: {self.latest} was kept, {told} the last; back: {back}"
        guest.wait_agent()
        world.settled("running", ["one"])
        if LONG or case.number % 4 == 0:
            world.whole(guest.last())

    def steps(self):
        self.writes_on()
        command = self.world.command("revert", self.guest.name, "one")
        assert command.wait() == 0, command.said()
        self.guest.wait_records(2)
        return name_steps(command.steps())


def all_cases(steps):
    for number, step in enumerate(steps, 1):
        for deed, moments in DEEDS.items():
            for when in moments:
                if when == "torn" and step == "end":
                    continue
                name = f"{deed} {when} step {number} ({step})"
                wanted = os.environ.get("CASES")
                usual = (deed, when) == ("kill", "after") or (deed != "kill" and number % 3 == 0) or (when == "torn" and step == "keep")
                if any(text in name for text in wanted.split(",")) if wanted else LONG or usual:
                    yield name, Case(number, step, when, deed)


def main():
    report = Report()
    build_killer()
    with rig_for_test() as rig:
        trial = Trial(World(Guest(rig, "g", disks="qcow2,qcow2").boot()))
        trial.undisturbed(report)
        trial.not_running(report)
        steps = []
        with report.test("the steps of one way back are known"):
            steps = trial.steps()
            print(", ".join(steps))
        for name, case in all_cases(steps):
            failed = report.failed
            with report.test(name):
                trial.happens(case)
            if report.failed > failed:
                trial.world.rewind()
                trial.snapshot("one")
    report.finish()


main()
