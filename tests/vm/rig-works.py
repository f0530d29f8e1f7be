#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rig does what the tests of running guests rely on, and the checker fails where it should; by virsh and qemu-img alone."""
import os
import shutil
import signal
import subprocess

import records
from guest import Guest
from meter import Meter
from report import Report, rig_for_test
from rig import Rig, RigError, run, wait_until

report = Report()


def copies(guest, suffix, disks=None, image_format="qcow2"):
    """Copies of what the guest's disks have just now."""
    found = []
    for disk in disks or guest.disks:
        found.append(f"{disk.path}.{suffix}")
        run("qemu-img", "convert", "-U", "-f", disk.format, "-O", image_format, disk.path, found[-1])
    return found


def refused(text, *arguments, **more):
    """The checker fails, and says why."""
    try:
        found = records.check_disks(*arguments, **more)
    except records.Wrong as why:
        assert text in str(why), f"another reason than '{text}': {why}"
        return
    raise AssertionError(f"good, it says: {records.tell(found)}")


def flip_a_bit(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def checker_can_fail(guest, pair, later):
    with report.test("disks copied at different moments are found out"):
        refused("not of one instant", [later[0], pair[1]])
        refused("not of one instant", [pair[0], later[1]])
        refused("belongs to disk", [pair[1], pair[0]])
    with report.test("a flipped bit and a lost record are found out"):
        newest = records.check_disks(later)[0][0]
        place = records.RING_START + newest % 8192 * 512
        flip_a_bit(later[0], place + 100)
        refused("is not whole", later)
        flip_a_bit(later[0], place + 100)
        with open(later[1], "r+b") as file:
            file.seek(records.RING_START + 7 * 512)
            file.write(bytes(512))
        refused("are missing", later)
    with report.test("records that should be there, or should not, are found out"):
        refused("records are lost", pair, least=guest.last())
        refused("records of later", pair, most=1)
    with report.test("a journal that was not quiesced is found out"):
        refused("needs recovery", pair, quiesced=True)


def a_frozen_guest(guest):
    with report.test("file systems frozen by the agent are clean in a copy"):
        guest.wait_agent()
        assert guest.agent("guest-fsfreeze-freeze") == len(guest.disks)
        try:
            assert guest.frozen()
            guest.virsh("suspend", guest.name)
            frozen = copies(guest, "frozen")
            guest.virsh("resume", guest.name)
        finally:
            guest.agent("guest-fsfreeze-thaw")
        records.check_disks(frozen, quiesced=True)
        guest.wait_records(5)


def the_meter(guest):
    with report.test("the meter sees how long a guest was away"):
        meter = Meter(guest)
        guest.virsh("suspend", guest.name)
        began = meter.now()
        assert guest.state() == "paused"
        run("sleep", 0.5)
        ended = meter.now()
        guest.virsh("resume", guest.name)
        guest.wait_records(5)
        meter.stop()
        assert meter.longest(began) >= ended - began, f"{meter.longest(began)} s seen of {ended - began} s"


def kills(rig, guest):
    with report.test("libvirtd killed and started again finds the guest, which never stopped"):
        pid = guest.pid()
        rig.kill_libvirtd()
        assert rig.libvirtd_pid() is None
        guest.wait_records(10)
        rig.start_libvirtd()
        assert guest.state() == "running" and guest.pid() == pid
        rig.kill_libvirtd(signal.SIGTERM)
        rig.start_libvirtd()
        guest.wait_records(5)
    with report.test("what a killed QEMU leaves has every record that the host was told of"):
        guest.kill()
        assert guest.pid() is None
        records.check_disks(copies(guest, "killed"), least=guest.last())


def a_copy_goes_on(rig, pair):
    with report.test("a guest booted from the copies goes on where they end"):
        newest = records.check_disks(pair)[0][0]
        copy = Guest(rig, "copy", images=",".join(pair), disks="plain,plain").boot()
        assert newest < copy.wait_records(20) < newest + 2000
        copy.stop()
        found = records.check_disks(pair, least=copy.last())
        assert found[1][1] > newest
    with report.test("a guest refuses to go on with disks of different instants"):
        torn = copies(copy, "torn")
        records.check_disks(torn)
        flipped = [torn[0], copies(copy, "old", copy.disks[1:])[0]]
        # the newest record of B's ring, and the two before it, as if never written
        newest = records.check_disks(flipped)[0][0]
        run("qemu-io", "-f", "qcow2", *[word for n in range(newest - 2, newest + 1) for word in
                                        ("-c", f"write -z {records.RING_START + n % 8192 * 512} 512")], flipped[1])
        try:
            Guest(rig, "torn", images=",".join(flipped), disks="plain,plain").boot()
        except RigError as why:
            assert "different instants" in str(why), why
        else:
            raise AssertionError("it writes")


def another_rig(rig, guest):
    other = Rig(rig.folder + "2")
    with subprocess.Popen(["sleep", "1000"]) as user:
        try:
            other.up(keeper=lambda: user.pid)
            assert other.virsh("list", "--all", "--name") == "" and guest.name in rig.virsh("list", "--all", "--name").split()
            other.hold()
            shutil.rmtree(other.path("run"))
            shutil.rmtree(other.path("lib"))
            user.kill()
            wait_until("the other rig is gone", lambda: not other.processes())
        finally:
            user.kill()
            other.down()


def main():
    with rig_for_test() as rig:
        guest = Guest(rig, "first", disks="qcow2,raw")
        with report.test("a guest boots and writes"):
            guest.boot()
            guest.wait_records(60)
        with report.test("disks copied while the guest is paused are of one instant, with all that the host was told of"):
            guest.virsh("suspend", guest.name)
            told = guest.last()
            pair = copies(guest, "pair")
            guest.virsh("resume", guest.name)
            records.check_disks(pair, least=told, most=told + 1)
        guest.wait_records(10)
        guest.virsh("suspend", guest.name)
        later = copies(guest, "later", image_format="raw")
        guest.virsh("resume", guest.name)
        checker_can_fail(guest, pair, later)
        a_frozen_guest(guest)
        the_meter(guest)
        kills(rig, guest)
        a_copy_goes_on(rig, pair)
        with report.test("another rig stands beside it, knows nothing of it, and ends when its user is killed"):
            another_rig(rig, guest)
        pids = rig.processes()
    with report.test("nothing of it is left"):
        assert pids and not rig.processes() and not rig.libvirtd_pid()
        assert rig.folder not in open("/proc/self/mountinfo", encoding="utf-8").read()
        assert not os.path.exists(f"/proc/{pids[0]}/exe")
    report.finish()


main()
