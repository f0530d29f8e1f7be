#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 300
"""check -r of images with random damage in their tables (FORMAT.md §12.5): never worse than qemu-img's repair of the same image; what
it says is what both programs' checks say afterwards; a second repair has nothing to do; what could be read reads as before."""
import os
import random
import shutil

import qemu
from damage import IMAGES, damage, lines, make
from qemu import Wrong, qemu_img, qsnap, run

PATH, THEIRS, OUT = (os.path.join(qemu.TMP, name) for name in ("damaged", "theirs", "out"))
# we: refuse to guess where tables are, and to grow the file over a lost place. qemu-img: needs the data file's name, stops at the first broken bitmap
CANNOT = ["data-file", "bitmap", "I/O error in check", "past the end of the file", "snapshot", "there is no room"]
# A guest cluster that is something else at the same time shows the repair.
SHARED = ["reference=", "outside image", "refcount block", "overflow"]


def status(program, *options):
    return program("check", "-f", "qcow2", *options, want=None)


def content(snapshot):
    """Digest of what a state shows; None: it cannot be read."""
    source = ["-l", f"snapshot.name={snapshot}"] if snapshot else []
    done = qsnap("convert", "-f", "qcow2", "-O", "raw", *source, PATH, OUT, want=None)
    text = run("sha256sum", OUT).out if done.status == 0 else None
    qemu.remove(OUT)
    return text


def contents():
    return [content(snapshot) for snapshot in (None, "s0", "s1")]


def ours(mode, before):
    """Repairs PATH; what must be true of that alone."""
    found = status(qsnap, PATH)
    shared = any("reference=" in line and not line.endswith(("reference=0", "reference=1")) for line in lines(found.err)) or any(
        word in found.err for word in SHARED[1:])
    done = status(qsnap, "-r", mode, PATH)
    if done.status not in (0, 1, 2, 3):
        raise Wrong(str(done))
    for old, new in zip(before, contents()):
        if old and new != old and not shared:
            raise Wrong(f"what was readable reads otherwise after {done}")
    if done.status == 1:
        return done
    for program in (qsnap, qemu_img):
        after = status(program, PATH)
        if after.status != done.status and not (program == qemu_img and any(word in after.err for word in CANNOT)):
            raise Wrong(f"{done}\nis judged {after}")
    if "cluster 0 " in done.err:  # the header as a table changes with each repair
        return done
    again = qsnap("check", "-f", "qcow2", "-r", mode, "--output=json", PATH, want=None)
    if again.status != done.status or "-fixed" in again.out:
        raise Wrong(f"{done}\nis repaired again: {again}")
    return done


def judge(mode, loses):
    shutil.copyfile(PATH, THEIRS)
    found = status(qsnap, PATH)
    done = ours(mode, contents())
    if "outside image" in found.err or loses:  # qemu-img would make the file as long
        return
    theirs = status(qemu_img, "-r", mode, THEIRS)
    worse = {0: 0, 3: 1, 2: 2, 1: 3}
    if theirs.status < 0 or worse[done.status] <= worse[theirs.status]:
        return
    if not any(word in done.err + theirs.err for word in CANNOT):
        raise Wrong(f"qemu-img repairs more: {theirs}\n{done}")


def one(seed):
    data = make(seed % len(IMAGES))
    rng = random.Random(seed)
    # qemu-img deletes all snapshots when it repairs an image that has bitmaps, too
    loses = IMAGES[seed % len(IMAGES)][3] and IMAGES[seed % len(IMAGES)][4]
    for n in range(16 if qemu.LONG else 6):
        with open(PATH, "wb") as file:
            file.write(damage(data, rng))
        mode = "leaks" if n % 4 == 3 else "all"
        try:
            judge(mode, loses)
        except Wrong as why:
            raise Wrong(f"image {n}, -r {mode}: {why}") from None


report = qemu.Report()
report.seeds(len(IMAGES), "repaired image", one)
report.finish()
