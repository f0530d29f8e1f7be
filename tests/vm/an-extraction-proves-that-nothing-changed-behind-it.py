#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 300
"""Behind a running extraction somebody deletes its snapshot, or writes to a file that it reads without asking for locks: exit status
5, no output, and the guest as before. A commit that asks is refused by our locks, and the images are good."""
import os
import signal
import subprocess

import records
from guest import Guest
from report import Report, rig_for_test
from taker import QSNAP, Taker

SLOW = ("--compress", "zlib:12", "--threads", "1")  # of random bytes: seconds
CHANGED = 5
report = Report()


class Extraction:
    """A snapshot that is stopped in the middle of its first image, until finish()."""

    def __init__(self, taker, *words):
        self.taker = taker
        words = [QSNAP, "vm", "snapshot", "-c", taker.rig.uri, taker.guest.name, "behind", "--to", taker.out, "--progress=json", *SLOW, *words]
        self.process = subprocess.Popen(words, env=taker.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.told, extracts = [], False
        for line in self.process.stderr:
            self.told.append(line)
            extracts = extracts or '"extract"' in line
            if extracts and '"progress"' in line:
                break
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def finish(self, status):
        self.process.send_signal(signal.SIGCONT)
        self.told += self.process.stderr.readlines()
        self.process.stderr.close()
        assert self.process.wait() == status, f"status {self.process.returncode}: {''.join(self.told)}"
        return "".join(self.told)


def gives_up(taker, behind, text, *words):
    """`behind` is done to each disk in the middle: no image is left, and the guest is as before."""
    before = taker.surroundings()
    with Extraction(taker, *words) as extraction:
        for disk in taker.guest.disks:
            behind(disk)
        said = extraction.finish(CHANGED)
    assert text in said, said
    assert not os.path.exists(taker.out), os.listdir(taker.out)
    assert taker.surroundings() == before, "left behind"
    taker.guest.wait_records(2)


def commit_is_refused(taker):
    guest = taker.guest
    told = guest.last()
    with Extraction(taker, "--mode", "instant", "--via", "overlay") as extraction:
        for disk in guest.disks:  # the second one's turn has not come yet
            said = guest.virsh("blockcommit", guest.name, disk.target, "--top", disk.path, "--base", disk.base, "--wait", want=1)
            assert 'Failed to get "write" lock' in said, said
        extraction.finish(0)
    records.check_disks([os.path.join(taker.out, f"{disk.target}.qcow2") for disk in guest.disks], least=told)


def main():
    with rig_for_test() as rig:
        guest = Guest(rig, "first", noise=32).boot()
        taker = Taker(rig, guest, report)

        def delete(disk):
            node = next(one["inserted"]["node-name"] for one in guest.monitor("query-block") if one["inserted"]["file"] == disk.path)
            guest.monitor("blockdev-snapshot-delete-internal-sync", device=node, name="behind")

        def overwrite(path):
            with open(path, "r+b", buffering=0) as file:
                file.seek(0)
                data = file.read(512)
                file.seek(0)
                file.write(data)

        with report.test("a snapshot that is deleted while it is read"):
            gives_up(taker, delete, "not there any more", "--mode", "instant", "--via", "internal")
        with report.test("a base that is written to while a snapshot above it is read"):
            gives_up(taker, lambda disk: overwrite(disk.base), "somebody wrote to it", "--mode", "instant", "--via", "internal")
        with report.test("a base that is written to while a layer above it is read"):
            gives_up(taker, lambda disk: overwrite(disk.base), "somebody wrote to it", "--mode", "instant", "--via", "overlay")
        with report.test("a layer that is written to while it is read"):
            gives_up(taker, lambda disk: overwrite(disk.path), "somebody wrote to it", "--mode", "instant", "--via", "overlay")
        with report.test("a commit of a layer that is read is refused, and the images are good"):
            commit_is_refused(taker)
        guest.stop()
    report.finish()


if __name__ == "__main__":
    main()
