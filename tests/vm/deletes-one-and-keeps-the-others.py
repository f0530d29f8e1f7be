#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trees of kept snapshots with forks, of a real guest with two disks: each is gone back to, and has what it had; then they are deleted in
a random order, and after each one the hypervisor, qemu-img and the catalog agree about those that are left, each of which still has all of
it. A deletion, of one or of a branch, killed at a step of its journal leaves each snapshot whole or nowhere.

SEED=N takes another order and other kills. In LONG runs there are more trees, and all kills; CASES=TEXT,... runs those kills with one of
these in their names.
"""
# time limit: 300
import json
import os
import random
import signal

import records
from guest import Guest
from report import LONG, Report, rig_for_test
from rig import run
from steps import QSNAP, World, build_killer, put_traces

MORE = 10  # records between two snapshots
FREE = 6 << 20  # bytes of each disk behind it, before the file system, are nobody's
NODES, TREES = (7, 12) if LONG else (5, 1)
KILLS = {"running": 1, "off": 2}  # in usual runs, of each kind of deletion
LOOKS = 100 if LONG else 2  # so many of those that are left are read each time


class Trial:
    """One guest, its tree as it must be, and what each of its snapshots must show."""

    def __init__(self, world, chance):
        self.world, self.guest, self.chance = world, world.guest, chance
        self.parents, self.current = {}, None
        self.at = {}  # records that each snapshot has at least and at most; of a guest that runs

    def qsnap(self, *words, want=0):
        command = self.world.command(*words)
        assert command.wait() == want, f"{words}: {command.said()}"
        return command.said()

    def json(self, verb, *words):
        return json.loads(self.qsnap(verb, self.guest.name, *words, "--json"))

    # ---- what happens to the tree ----

    def take(self, name):
        least = self.guest.last()
        self.qsnap("snapshot", self.guest.name, name, "--keep")
        self.at[name] = least, self.guest.last() + 1  # that is written, and not yet told of
        for disk in self.guest.disks:
            run("qemu-img", "convert", "-U", "-f", "qcow2", "-l", f"snapshot.name={name}", "-O", "qcow2", disk.path, self.truth(name, disk))
        self.parents[name], self.current = self.current, name

    def revert(self, name):
        self.qsnap("revert", self.guest.name, name)
        self.current = name

    def forget(self, name):
        """As the catalog does: the children become the parent's."""
        above = self.parents.pop(name)
        self.parents = {child: above if parent == name else parent for child, parent in self.parents.items()}
        self.current = above if self.current == name else self.current

    def below(self, name):
        """It and all below it."""
        return {name}.union(*(self.below(child) for child, parent in self.parents.items() if parent == name))

    def delete(self, name):
        self.qsnap("delete", self.guest.name, name)
        self.forget(name)

    def clear(self):
        for name in list(self.parents):
            self.delete(name)

    # ---- what must be so ----

    def truth(self, name, disk):
        return os.path.join(self.world.folder, f"{name}-{disk.target}.truth")

    def same(self, image, name, disk, *how):
        """The image, or what `how` says of it, is what the snapshot was when it was taken."""
        copy = os.path.join(self.world.folder, "shown")
        run(QSNAP, "convert", "-q", "-U", "-f", "qcow2", "-O", "qcow2", *how, image, copy)
        run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", copy, self.truth(name, disk))
        os.unlink(copy)

    def agree(self):
        """All who keep lists of them have those of the tree, and nothing else is left or changed."""
        told = self.json("list", "--tree")
        found = {point["name"]: point.get("parent") for point in told["snapshots"] if point["state"] == "whole"}
        assert len(told["snapshots"]) == len(found) and (found, told.get("current")) == (self.parents, self.current), (told, self.parents, self.current)
        for point in self.json("list")["snapshots"]:
            assert point["whole"] and point["recorded"] and point["disks"] == [disk.target for disk in self.guest.disks], point
        names = self.guest.virsh("snapshot-list", self.guest.name, "--name").split()
        assert sorted(names) == sorted(self.parents), f"libvirt has {names}"
        self.world.settled(self.guest.state(), self.parents)

    def refcounts(self):
        """While the guest stands still its disks are as QEMU has them."""
        guest, running = self.guest, self.guest.state() == "running"
        if running:
            guest.virsh("suspend", guest.name)
        for disk in guest.disks:
            run("qemu-img", "check", "-q", "-U", "-f", "qcow2", disk.path)
        if running:
            guest.virsh("resume", guest.name)

    def left(self):
        """Those that are left have what they had."""
        self.agree()
        self.refcounts()
        for name in self.chance.sample(list(self.parents), min(LOOKS, len(self.parents))):
            for disk in self.guest.disks:
                self.same(disk.path, name, disk, "-l", f"snapshot.name={name}")

    def each_is_there(self, names, judged):
        """The guest is off; its disks become each snapshot in turn. `judged`: they are a guest's own, and of one instant."""
        for name in names:
            self.revert(name)
            for disk in self.guest.disks:
                self.same(disk.path, name, disk)
            if judged:
                least, most = self.at[name]
                records.check_disks(self.guest.paths(), least=least, most=most)
        self.agree()

    def deleted_in_any_order(self):
        """What happens to a tree until nothing of it is left, as words."""
        order = list(self.parents)
        self.chance.shuffle(order)
        for name in order:
            if name not in self.parents:
                continue
            if self.guest.state() == "shut off" and self.chance.random() < 0.3:
                self.each_is_there([self.chance.choice(list(self.parents))], judged=False)
            if len(self.below(name)) in (2, 3) and self.chance.random() < 0.5:
                print(f"{name} and below")
                self.qsnap("delete", self.guest.name, name, "--children")
                for gone in self.below(name):
                    self.forget(gone)
            else:
                print(name)
                self.delete(name)
            self.left()


# ---- trees ----

def running(trial, report):
    """A tree of a guest that writes all the time."""
    guest = trial.guest
    with report.test("snapshots and a way back make a tree with a fork"):
        parents = {"a": None, "b": "a", "c": "b", "d": "a", "e": "d"}
        for name, of in parents.items():
            if of != trial.current:
                trial.revert(of)
            guest.wait_records(MORE)
            trial.take(name)
        assert trial.parents == parents, trial.parents
        trial.left()
    with report.test("each of its nodes can be gone back to, and is of one instant"):
        guest.stop()
        order = list(trial.parents)
        trial.chance.shuffle(order)
        trial.each_is_there(order, judged=True)
    with report.test("deleted in a random order while the guest writes"):
        guest.start()
        guest.wait_records(2)
        guest.wait_agent()
        trial.deleted_in_any_order()
    with report.test("the guest has lost nothing meanwhile"):
        trial.world.whole(guest.last())


def shut_off(trial, number):
    """One of a guest that is off, grown at random; what differs is written to its disks between."""
    for i in range(NODES):
        if i and trial.chance.random() < 0.6:
            trial.revert(trial.chance.choice(list(trial.parents)))
        for disk in trial.guest.disks:
            at = FREE + (trial.chance.randrange(16) << 16)
            run("qemu-io", "-f", "qcow2", "-c", f"write -q -P {1 + number * NODES + i} {at} 192k", disk.path)
        trial.take(f"n{i}")
    print(", ".join(f"{name} of {parent}" for name, parent in trial.parents.items()))
    trial.left()
    trial.each_is_there(trial.chance.sample(list(trial.parents), 2), judged=False)
    trial.deleted_in_any_order()


# ---- kills ----

KINDS = {"one": (), "branch": ("--children",)}


def grow(trial):
    """a, b of it, c of that; all that is not as it was is taken anew."""
    if list(trial.parents.items()) != [("a", None), ("b", "a"), ("c", "b")] or trial.current != "c":
        trial.clear()
        for name in "a", "b", "c":
            trial.take(name)


def steps_of(trial, words):
    grow(trial)
    command = trial.world.command("delete", trial.guest.name, "b", *words)
    assert command.wait() == 0, command.said()
    steps = command.steps()
    for name in trial.below("b") if words else {"b"}:
        trial.forget(name)
    trial.agree()
    return steps


def killed(trial, words, number, when):
    """Afterwards a snapshot is there, whole, or it is gone: which, is decided by one line of the journal."""
    world, guest = trial.world, trial.guest
    grow(trial)
    told, state = guest.last(), guest.state()
    command = world.command("delete", guest.name, "b", *words, step=number, when=when, deed="kill")
    assert command.wait() == -signal.SIGKILL, f"step not reached:\n{command.said()}"
    steps = command.steps() if when == "after" else command.steps()[:-1]
    for gone in {trace["name"] for line in steps for trace in put_traces(line) if trace["kind"] == "point"}:
        trial.forget(gone)
    if number % 2:
        trial.qsnap("recover", guest.name)
        trial.left()
    else:  # any command does it, before its own work
        trial.take("next")
        trial.left()
        trial.delete("next")
    assert guest.state() == state
    if state == "running":
        assert guest.last() >= told


def cases_of(trial, state, kind, steps):
    """In usual runs the line that decides, and some others."""
    cases = []
    for number, line in enumerate(steps, 1):
        for when in "before", "torn", "after":
            if (when, line) != ("torn", "unlink"):
                what = "put" if put_traces(line) else "drop" if "drop" in line else "end" if line == "unlink" else "begin"
                cases.append((f"{state}, {kind}: killed {when} step {number} ({what})", what, number, when))
    if os.environ.get("CASES"):
        return [case for case in cases if any(text in case[0] for text in os.environ["CASES"].split(","))]
    if LONG:
        return cases
    if not cases:
        return []
    decides = cases.pop(max(i for i, case in enumerate(cases) if case[1] == "put"))
    return [decides, *trial.chance.sample(cases, KILLS[state] - 1)]


def kills(trial, report, state, steps):
    for kind, words in KINDS.items():
        if kind not in steps:
            with report.test(f"{kind}: the steps of a deletion are known"):
                steps[kind] = steps_of(trial, words)
        for name, _, number, when in cases_of(trial, state, kind, steps.get(kind, [])):
            with report.test(name):
                killed(trial, words, number, when)
    trial.clear()


def main():
    report = Report()
    build_killer()
    seed = os.environ.get("SEED") or (str(random.randrange(1000000)) if LONG else "4711")
    print(f"SEED={seed}")
    with rig_for_test() as rig:
        trial = Trial(World(Guest(rig, "g", disks="qcow2,qcow2").boot()), random.Random(seed))
        steps = {}
        running(trial, report)
        kills(trial, report, "running", steps)
        trial.guest.stop()
        for number in range(TREES):
            with report.test(f"tree {number} of a guest that is off, deleted in a random order"):
                shut_off(trial, number)
        kills(trial, report, "off", steps)
        with report.test("the guest boots from what is left"):
            trial.guest.start()
            trial.guest.wait_records(2)
    report.finish()


main()
