#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 400
"""Disks that are not qcow2 files: raw ones, which a cold snapshot clones where the file system can (XFS, btrfs) and copies while
the guest is stopped where it cannot (ext4), having said so before; block devices with qcow2 and raw on them, in every mode.
"""
import contextlib
import json
import os
import shutil
import subprocess

import records
from guest import Guest
from report import Report, rig_for_test
from rig import run
from taker import MODES, QSNAP, Taker

IN_ORDER = ("save", "snapshot", "start", "extract")
report = Report()


def events(taker, *words):
    """Those of a snapshot that goes well, its images judged."""
    guest = taker.guest
    shutil.rmtree(taker.out, ignore_errors=True)
    before, told = taker.surroundings(), guest.last()
    words = [QSNAP, "vm", "snapshot", "-c", taker.rig.uri, guest.name, "--to", taker.out, "--progress=json", *words]
    done = subprocess.run(words, env=taker.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert taker.surroundings() == before, "left behind"
    guest.wait_records(2)
    records.check_disks([os.path.join(taker.out, f"{disk.target}.qcow2") for disk in guest.disks], least=told)
    return [json.loads(line) for line in done.stderr.splitlines()]


def steps(told):
    """The first of each kind, in their order."""
    found = [event["step"] for event in told if event["event"] == "step"]
    return sorted(IN_ORDER, key=found.index)


def cold_raw(rig, kind, place, clones):
    guest = Guest(rig, kind, disks="raw,raw", place=place).boot()
    guest.wait_agent()
    taker = Taker(rig, guest, report)
    with report.test(f"cold, raw on {kind}: {'cloned, the guest starts before the images are made' if clones else 'copied while the guest is stopped'}"):
        told = events(taker, "--mode", "cold")
        notes = [event["text"] for event in told if event["event"] == "note" and "cannot be cloned" in event["text"]]
        if clones:
            assert steps(told) == ["save", "snapshot", "start", "extract"] and not notes, (steps(told), notes)
        else:
            assert steps(told) == ["save", "snapshot", "extract", "start"] and len(notes) == 2, (steps(told), notes)
            said = next(i for i, event in enumerate(told) if event.get("text") == notes[-1])
            saved = next(i for i, event in enumerate(told) if event.get("step") == "save")
            assert said < saved, "it was not said before"
    guest.stop()


@contextlib.contextmanager
def loop_device(path):
    """A device for this file, which goes by itself when nobody has it open any more, however this ends."""
    device = run("losetup", "-f", "--show", path).strip()
    fd = os.open(device, os.O_RDONLY)
    try:
        run("losetup", "-d", device)
        yield device
    finally:
        os.close(fd)


def devices(rig, image_format, modes):
    with contextlib.ExitStack() as stack:
        paths = []
        for target in ("vda", "vdb"):
            file = rig.path(f"{image_format}-{target}")
            run("truncate", "-s", "600M", file)
            paths.append(stack.enter_context(loop_device(file)))
        raw = Guest(rig, f"{image_format}-source", disks="raw,raw").make()
        for disk, path in zip(raw.disks, paths):
            run("qemu-img", "convert", "-f", "raw", "-O", image_format, *(["-n"] if image_format == "raw" else []), disk.path, path)
        guest = Guest(rig, f"{image_format}-device", disks=f"{image_format},{image_format}", images=",".join(paths)).boot()
        guest.wait_agent()
        Taker(rig, guest, report).try_all(f"{image_format} on a block device", modes, {"qcow2": ()})
        guest.stop()


def main():
    with rig_for_test() as rig:
        for kind, clones in (("xfs", True), ("btrfs", True), ("ext4", False)):
            if shutil.which(f"mkfs.{kind}", path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
                cold_raw(rig, kind, rig.small_fs(kind, "1G", kind), clones)
            else:
                print(f"skip cold, raw on {kind}: no mkfs.{kind}")
        devices(rig, "qcow2", MODES)
        devices(rig, "raw", MODES[1:])
    report.finish()


if __name__ == "__main__":
    main()
