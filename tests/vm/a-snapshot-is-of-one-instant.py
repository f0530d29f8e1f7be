#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 600
"""Every mode, into raw, qcow2 and compressed images, of a guest that writes all the time: each image whole, both disks of one
instant, nothing lost that the host was told of before, and the guest afterwards as it was. LONG: more rounds, and guests with
discards, other cache modes, an iothread, two processors, a raw disk beside a qcow2 one."""
import records
from guest import Guest
from report import LONG, Report, rig_for_test
from taker import MODES, Taker

VARIANTS = (
    {"cache": "writeback", "trim": 1, "discard": "unmap"},
    {"cache": "unsafe", "iothread": 1, "vcpus": 2},
    {"disks": "plain,plain", "trim": 1, "discard": "unmap"},
    {"disks": "qcow2,raw", "cache": "writeback", "iothread": 1, "trim": 1, "discard": "unmap"},
)
report = Report()


def states(taker):
    """What was paused stays paused, saved stays saved, off stays off."""
    guest = taker.guest
    some = {"qcow2": ()}
    guest.virsh("suspend", guest.name)
    taker.try_all("paused", formats=some)
    assert guest.state() == "paused"
    guest.virsh("resume", guest.name)
    guest.virsh("managedsave", guest.name)
    taker.try_all("saved", (("auto",),), some)
    with report.test("saved, it starts where it was"):
        guest.start()
        guest.wait_records(2)
    guest.stop()
    taker.try_all("shut off", (("auto",), ("cold",)), some)
    guest.start()
    guest.wait_records(2)


def a_copy_boots(rig, taker):
    with report.test("an extracted pair boots as another guest and goes on writing"):
        images = taker.take(("auto",), ())
        newest = min(max(found) for found in records.check_disks(images))
        second = Guest(rig, "copy", images=",".join(images)).boot()
        assert second.wait_records(5) > newest
        second.stop()


def variants(rig, rounds):
    for i, options in enumerate(VARIANTS):
        other = Guest(rig, f"other{i}", **options).boot()
        other.wait_agent()
        modes = MODES if "raw" not in options.get("disks", "") else MODES[1:]
        for _ in range(rounds):
            Taker(rig, other, report).try_all(" ".join(f"{k}={v}" for k, v in options.items()), modes, {"qcow2": (), "raw": ("--format", "raw")})
        other.stop()


def main():
    with rig_for_test() as rig:
        guest = Guest(rig, "first").boot()
        guest.wait_agent()
        taker = Taker(rig, guest, report)
        for _ in range(10 if LONG else 2):
            taker.try_all("busy")
            taker.try_all("busy", formats={"qcow2": ()}, quiesced=True)
        states(taker)
        a_copy_boots(rig, taker)
        guest.stop()
        mixed = Guest(rig, "mixed", disks="qcow2,raw").boot()
        mixed.wait_agent()
        Taker(rig, mixed, report).try_all("a raw disk beside a qcow2 one", MODES[1:], {"qcow2": (), "raw": ("--format", "raw")})
        mixed.stop()
        if LONG:
            variants(rig, 5)
    report.finish()


if __name__ == "__main__":
    main()
