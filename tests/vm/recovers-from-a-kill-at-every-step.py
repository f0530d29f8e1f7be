#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""At every step of a snapshot, which is every change of its journal, something dies: qsnap, libvirtd, QEMU, or all of them; or somebody
presses Ctrl-C, starts the guest, or destroys it. Afterwards, or after `vm recover`, all is as it was and nothing is lost.

A sample of the cases (SEED=N takes another), in LONG runs all. CASES=TEXT,... runs those with one of these in their names.
"""
# time limit: 400
import collections
import os
import random
import signal
import time

from guest import Guest
from report import LONG, Report, rig_for_test
from rig import RigError
from steps import STATUS_RECOVER, World, build_killer, name_steps

INSTANT = ["--mode", "instant", "--via"]
COMMANDS = {
    "internal": [*INSTANT, "internal", "--to"],
    "overlay": [*INSTANT, "overlay", "--quiesce", "--to"],
    "live": ["--mode", "live", "--quiesce", "--to"],
    "cold": ["--mode", "cold", "--to"],
    "cold-overlay": ["--mode", "cold", "--via", "overlay", "--quiesce", "--to"],
    "kept": [*INSTANT, "internal", "--quiesce", "--keep"],
    "cold-kept": ["--mode", "cold", "--keep"],
}
# The moments at which it is tried; "torn": half of a line is written; "in": some time after the step, in the middle of the next deed.
DEEDS = {
    "kill": ("before", "torn", "after", "in"),
    "kill-next": ("after",),
    "kill-twice": ("after",),
    "interrupt": ("after", "in"),
    "libvirtd": ("after", "in"),
    "libvirtd-late": ("after",),
    "qemu": ("after", "in"),
    "destroy": ("after",),
    "kill-both": ("before", "after"),
    "kill-all": ("after",),
    "start": ("after",),
}
SAMPLE = 24
SOON = 0.3  # seconds, the most that "in" is later
Case = collections.namedtuple("Case", "variant number step when deed")


def case_name(case):
    return f"{case.variant}: {case.deed} {case.when} step {case.number} ({case.step})"


class Trial:
    def __init__(self, world, chance):
        self.chance = chance
        self.world, self.guest, self.rig = world, world.guest, world.rig
        self.to = os.path.join(world.folder, "to")
        self.count = 0

    def words(self, variant):
        self.count += 1
        self.name = f"s{self.count}"
        words = ["snapshot", self.guest.name, self.name, *COMMANDS[variant]]
        self.kept = "--keep" in words
        return words if self.kept else [*words, self.to]

    # ---- nothing happens ----

    def undisturbed(self, variant):
        """The steps of a run that goes well."""
        world = self.world
        world.clear(self.to)
        command = world.command(*self.words(variant))
        assert command.wait() == 0, command.said()
        steps = name_steps(command.steps())
        world.settled("running", [self.name] if self.kept else [])
        world.images(self.to)
        self.drop_kept()
        return steps

    def drop_kept(self):
        """What a command that was done kept is not to be in the way."""
        if self.kept:
            command = self.world.command("delete", self.guest.name, self.name)
            status = command.wait()
            assert status == 0 or "no snapshot" in command.said(), command.said()

    # ---- something does ----

    def happens(self, case):
        world = self.world
        world.clear(self.to)
        killed = case.deed in ("kill", "kill-next", "kill-twice") and case.when != "in"
        command = world.command(*self.words(case.variant), step=case.number, when="after" if case.when == "in" else case.when,
                                deed="kill" if killed else "stop")
        self.off = self.refused = False
        self.told = self.guest.last()
        if killed:
            assert command.wait() == -signal.SIGKILL, f"step not reached:\n{command.said()}"
        else:
            assert command.wait_stopped(), f"step not reached:\n{command.said()}"
            if case.when == "in":
                command.go_on()
                time.sleep(self.chance.random() * SOON)
            try:
                getattr(self, case.deed.replace("-", "_"))(case, command)
            except BaseException:
                command.kill()
                raise
            self.ended(case, command)
        results = self.has_results(case, command)
        if results is None:
            results = bool(os.listdir(self.to)) if not self.kept else self.world.has_snapshot(self.name)
        if not self.rig.libvirtd_pid():  # libvirtd 9.0, killed and started again under load, sometimes dies of what it finds
            print("libvirtd ended by itself")
            self.rig.start_libvirtd()
        self.end_a_lost_qemu(case)
        self.recover(case, command)
        if case.when == "in" and self.off:  # QEMU may have been one that was done with saving, or had not begun to run
            self.off = self.guest.state() == "shut off"
            self.told = self.guest.last() if self.off else self.told
        world.settled("shut off" if self.off else "running", [self.name] if self.kept and results else [])
        assert bool(os.listdir(self.to)) == (results and not self.kept), f"results: {results}, images: {os.listdir(self.to)}"
        world.images(self.to)
        self.drop_kept()
        if self.off:
            world.whole(self.told, leaks=True)
            world.rewind()
        elif LONG or self.count % 8 == 0:
            world.whole(self.told)

    @staticmethod
    def has_results(case, command):
        """The command is past the point where what the user wanted became the user's; None: nobody knows."""
        steps = name_steps(command.steps())
        if case.when == "in" and steps[-1] == "keep":
            return None
        return "keep" in steps and (steps[-1] != "keep" or case.when == "after")

    def kill(self, case, command):
        command.kill()

    def kill_both(self, case, command):
        self.qemu(case, command)
        command.kill()

    def kill_all(self, case, command):
        self.kill_both(case, command)
        self.rig.kill_libvirtd()
        self.rig.start_libvirtd()

    def interrupt(self, case, command):
        command.process.send_signal(signal.SIGINT)

    def libvirtd(self, case, command):
        self.rig.kill_libvirtd()
        self.rig.start_libvirtd()

    def libvirtd_late(self, case, command):
        self.rig.kill_libvirtd()
        command.go_on()
        command.wait()
        self.rig.start_libvirtd()

    def qemu(self, case, command):
        if self.guest.pid():
            self.guest.kill()
            self.off = True
            self.guest.wait_state("shut off")
            self.told = self.guest.last()

    def destroy(self, case, command):
        if self.guest.pid():
            self.guest.stop()
            self.off = True
            self.told = self.guest.last()

    def start(self, case, command):
        """Behind our back. While our engine works on the disks it must be refused."""
        if self.guest.state() != "shut off":
            return
        try:
            self.guest.start()
        except RigError as why:
            assert "lock" in str(why), why
            self.refused = True
        assert self.refused or case.step != "put internal", "it started while its disks were worked on"

    def ended(self, case, command):
        """The status says what is so."""
        if command.process.returncode is None:
            command.go_on()
        status = command.wait()
        left = bool(self.world.journal())
        if status == -signal.SIGKILL:
            assert case.deed.startswith("kill")
        elif case.deed == "interrupt":
            assert status in (0, 1, 128 + signal.SIGINT) and not left, f"status {status}, left: {left}\n{command.said()}"
        else:
            assert status in (0, 1, 3, 5, STATUS_RECOVER) and left == (status == STATUS_RECOVER), f"status {status}, left: {left}\n{command.said()}"

    def end_a_lost_qemu(self, case):
        """A libvirtd 9.0 that is killed while a block job ends may have written a state of the guest that it cannot read again ("unknown
        mirror job type"): it says that the guest is off, and QEMU runs on. Its locks hold recovery off until it is gone."""
        lost = [] if case.variant.startswith("cold") else self.world.lost()
        if lost and self.world.journal():
            refused = self.world.command("recover", self.guest.name)
            assert refused.wait() == STATUS_RECOVER and "lock" in refused.said(), refused.said()
        if lost:
            print("libvirtd lost its guest")
            self.world.end_lost()
            self.off, self.told = True, self.guest.last()

    def recover(self, case, command):
        world, guest = self.world, self.guest
        left = bool(world.journal())
        if case.deed == "kill-next":
            traces = world.traces()
            after = world.command("snapshot", guest.name, "after", *COMMANDS["internal"], world.folder + "/after")
            world.clear(world.folder + "/after")
            assert after.wait() == 0, after.said()
            assert ("half-way" in after.said()) == traces, after.said()
            world.images(world.folder + "/after")
            return
        if case.deed == "kill-twice" and left:
            world.command("recover", guest.name, step=self.chance.randint(1, 3), when="after", deed="kill").wait()
            left = bool(world.journal())
        if left:
            first = world.command("recover", guest.name)
            if first.wait() == STATUS_RECOVER and "state change lock" in first.said():
                # killed while it restored a guest, libvirtd 9.0 waits for ever for the QEMU that was to get the memory
                print("libvirtd does not get hold of its guest")
                guest.kill()
                first = world.command("recover", guest.name)
            if first.wait() == STATUS_RECOVER and not self.rig.libvirtd_pid():
                print("libvirtd ended by itself while recovering")
                self.rig.start_libvirtd()
                first = world.command("recover", guest.name)
            assert first.wait() == 0, f"recover failed:\n{first.said()}\nafter:\n{command.said()}"
        second = world.command("recover", guest.name)
        assert second.wait() == 0 and second.said() == f"{guest.name}: nothing is left to take back\n", second.said()


def all_cases(steps):
    for variant, names in steps.items():
        for number, step in enumerate(names, 1):
            for deed, moments in DEEDS.items():
                for when in moments:
                    if (when == "torn" and step == "end") or (deed == "start" and not variant.startswith("cold")):
                        continue
                    yield Case(variant, number, step, when, deed)


def sample(cases, chance):
    """Each kind of step, each deed, each command at least once, and then some."""
    cases = list(cases)
    chance.shuffle(cases)
    chosen, seen = [], set()
    for case in cases:
        new = {case.step, case.deed, case.variant, case.when} - seen
        if new:
            chosen.append(case)
            seen |= new
    return chosen + [case for case in cases if case not in chosen][:max(0, SAMPLE - len(chosen))]


def choose(steps, chance):
    cases = list(all_cases(steps))
    wanted = os.environ.get("CASES")
    if wanted:
        return [case for case in cases if any(text in case_name(case) for text in wanted.split(","))]
    if LONG:
        return cases
    return sample(cases, chance)


def main():
    report = Report()
    build_killer()
    seed = os.environ.get("SEED") or (str(random.randrange(1000000)) if LONG else "293136")
    print(f"SEED={seed}")
    chance = random.Random(seed)
    with rig_for_test() as rig:
        world = World(Guest(rig, "g", disks="qcow2,qcow2").boot())
        trial = Trial(world, chance)
        steps = {}
        for variant in COMMANDS:
            with report.test(f"{variant}: nothing happens"):
                steps[variant] = trial.undisturbed(variant)
                print(f"{variant}: {', '.join(steps[variant])}")
        for case in choose(steps, chance):
            failed = report.failed
            with report.test(case_name(case)):
                trial.happens(case)
            if report.failed > failed:
                world.rewind()
        with report.test("the disks are whole at the end"):
            world.whole(0)
    report.finish()


main()
