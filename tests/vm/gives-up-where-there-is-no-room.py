#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A destination that is full, or gone; the disks' own file system full, from one step on: the snapshot is given up, not the guest.
Also a command that waits for another one, and is told to end.
"""
# time limit: 400
import errno
import os
import shutil
import signal

from guest import Guest
from report import Report, rig_for_test
from rig import run, wait_until
from steps import STATUS_RECOVER, World, build_killer, name_steps

INSTANT = ["--mode", "instant", "--via"]
COMMANDS = {
    "internal": [*INSTANT, "internal"],
    "overlay": [*INSTANT, "overlay", "--quiesce"],
    "live": ["--mode", "live"],
    "cold": ["--mode", "cold"],
}
# the deed after which there is no room left
FULL_FROM = {"internal": ("begin", "put file"), "overlay": ("begin", "put file"), "live": ("begin", "put copy", "put paused"), "cold": ("begin", "drop saved")}
report = Report()


def fill_up(place):
    """Not a byte is free in that file system; returns the file that takes it all."""
    path = os.path.join(place, "filler")
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as why:
                if why.errno != errno.ENOSPC:
                    raise
    return path


def make_room(place, filler):
    """All of it is free, at once: ext4 gives back what it has freed when that is on disk."""
    os.unlink(filler)
    run("sync", "-f", place)


def goes_on(guest):
    """There is room again: a guest that stopped for want of it, or is just about to, is told to go on, until it does."""
    told = guest.last()

    def writes():
        if guest.state() == "paused":
            guest.virsh("resume", guest.name, want=None)
        return guest.last() > told

    wait_until("the guest goes on", writes)


def learn(world):
    """The steps of each command when nothing happens."""
    steps, to = {}, world.folder + "/good"
    for variant, words in COMMANDS.items():
        world.clear(to)
        command = world.command("snapshot", "g", *words, "--to", to)
        assert command.wait() == 0, command.said()
        steps[variant] = name_steps(command.steps())
    return steps


def fails(world, to, command, said=""):
    """It failed, and all is as before."""
    assert command.wait() == 1 and said in command.said(), f"status {command.process.returncode}:\n{command.said()}"
    world.settled("running")
    assert os.listdir(to) == [], os.listdir(to)


def destinations(rig, world, steps):
    to = rig.small_fs("to", "3M", "tmpfs")
    with report.test("a destination that is too small is known beforehand"):
        command = world.command("snapshot", "g", "--to", to)
        fails(world, to, command, "are free")
        assert command.steps() == []
    for variant, words in COMMANDS.items():
        with report.test(f"{variant}: the destination is full in the middle"):
            filler = fill_up(to)
            command = world.command("snapshot", "g", *words, "--compress", "zstd", "--to", to)
            assert command.wait() == 1 and "No space left" in command.said(), command.said()
            os.unlink(filler)
            fails(world, to, command)
        with report.test(f"{variant}: the destination goes away"):
            gone = world.folder + "/gone"
            world.clear(gone)
            command = world.command("snapshot", "g", *words, "--to", gone, step=steps[variant].index("put file") + 1, when="after", deed="stop")
            assert command.wait_stopped(), command.said()
            shutil.rmtree(gone)
            command.go_on()
            assert command.wait() == 1, command.said()
            world.settled("running")
            assert not os.path.exists(gone)
    with report.test("the disks are whole after that, too"):
        world.whole(0, leaks=True)


def source(world, place, steps):
    """Where the disks are. The guest itself stops when it finds no room; who made room again lets it go on."""
    guest, to = world.guest, world.folder + "/room"

    def stopped_at(variant, number):
        world.clear(to)
        command = world.command("snapshot", "g", *COMMANDS[variant], "--to", to, step=number, when="after", deed="stop")
        assert command.wait_stopped(), command.said()
        return command

    for variant in COMMANDS:
        for step in FULL_FROM[variant]:
            with report.test(f"{variant}: the disks' file system is full after '{step}'"):
                command = stopped_at(variant, steps[variant].index(step) + 1)
                filler = fill_up(place)
                command.go_on()
                status = command.wait()
                make_room(place, filler)
                if guest.state() == "paused":
                    guest.virsh("resume", "g")
                assert status in (0, 1, STATUS_RECOVER), f"status {status}:\n{command.said()}"
                if status == STATUS_RECOVER:  # a guest that stands still thaws nothing
                    again = world.command("recover", "g", name="again")
                    assert again.wait() == 0, again.said()
                goes_on(guest)
                world.settled("running")
                assert status == STATUS_RECOVER or bool(os.listdir(to)) == (status == 0), command.said()
                world.images(to)
        with report.test(f"{variant}: a guest that found no room because of the snapshot goes on after it"):
            command = stopped_at(variant, steps[variant].index("keep"))
            filler = fill_up(place)
            guest.wait_state("paused")
            make_room(place, filler)
            command.go_on()
            assert command.wait() == 0 and "without room" in command.said(), command.said()
            world.settled("running")
            world.images(to)
    with report.test("the disks are whole after all that"):
        world.whole(0, leaks=True)


def waiting(world):
    """Two commands on one domain."""
    to = world.folder + "/wait"
    world.clear(to)
    first = world.command("snapshot", "g", *COMMANDS["internal"], "--to", to, step=2, when="after", deed="stop")
    assert first.wait_stopped(), first.said()
    with report.test("another command is busy at once"):
        second = world.command("snapshot", "g", "--keep", name="second")
        assert second.wait() == 3 and "another qsnap" in second.said(), second.said()
    with report.test("one that waits ends by Ctrl-C, and does nothing"):
        second = world.command("snapshot", "g", "--keep", "--wait", "1000", name="second")
        lock = os.path.join(world.state_dir, os.listdir(world.state_dir)[0].split(".")[0] + ".lock")
        wait_until("it has the lock open", lambda: opened(second.process.pid, lock))
        second.process.send_signal(signal.SIGINT)
        assert second.wait() in (1, 128 + signal.SIGINT), second.said()
        assert second.steps() == []
    with report.test("one that waits goes on when the first is done"):
        second = world.command("snapshot", "g", *COMMANDS["internal"], "--to", to + "/second", "--wait", "1000", name="second")
        os.makedirs(to + "/second")
        wait_until("it has the lock open", lambda: opened(second.process.pid, lock))
        first.go_on()
        assert first.wait() == 0 and second.wait() == 0, first.said() + second.said()
        world.images(to + "/second")
        shutil.rmtree(to + "/second")
        world.images(to)
        world.settled("running")


def opened(pid, path):
    """Whether a process has a file open."""
    folder = f"/proc/{pid}/fd"
    try:
        return any(os.readlink(os.path.join(folder, fd)) == os.path.realpath(path) for fd in os.listdir(folder))
    except FileNotFoundError:
        return False


def main():
    build_killer()
    with rig_for_test() as rig:
        place = rig.small_fs("disks", "192M")
        world = World(Guest(rig, "g", place=place).boot())
        steps = learn(world)
        source(world, place, steps)
        destinations(rig, world, steps)
        waiting(world)
    report.finish()


main()
