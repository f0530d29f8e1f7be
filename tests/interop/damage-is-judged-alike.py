#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 240
"""check of images with random damage in their tables: the same findings in the same order, the same numbers and the same
status as qemu-img's (FORMAT.md §12.3), for any number of threads."""
import os
import random

import qemu
from damage import IMAGES, damage, lines, make
from qemu import Wrong, qemu_img, qsnap

NUMBERS = ["corruptions", "leaks", "check-errors", "total-clusters", "allocated-clusters", "fragmented-clusters",
           "compressed-clusters", "image-end-offset"]
# qemu-img: needs the data file's name, stops at the first broken bitmap; we: refuse to guess where tables are
DIFFERENT = ["data-file", "bitmap", "I/O error in check", "no refcount table", "past the end of the file"]


def judge(path, threads):
    ours = qsnap("check", "-f", "qcow2", "--output=json", "--threads", threads, path, want=None)
    theirs = qemu_img("check", "-f", "qcow2", "--output=json", path, want=None)
    if 1 in (ours.status, theirs.status):
        if ours.status != theirs.status and not any(why in ours.err + theirs.err for why in DIFFERENT):
            raise Wrong(f"{ours}\n{theirs}")
        return
    if ours.status != theirs.status or [ours.json().get(n) for n in NUMBERS] != [theirs.json().get(n) for n in NUMBERS]:
        raise Wrong(f"{ours}\n{theirs}")
    if lines(ours.err) != lines(theirs.err):
        raise Wrong(f"other findings: {ours}\n{theirs}")


def one(seed):
    data = make(seed % len(IMAGES))
    rng = random.Random(seed)
    path = os.path.join(qemu.TMP, "damaged")
    for n in range(40 if qemu.LONG else 15):
        with open(path, "wb") as file:
            file.write(damage(data, rng))
        try:
            judge(path, n % 3)
        except Wrong as why:
            raise Wrong(f"image {n}: {why}") from None


report = qemu.Report()
report.seeds(len(IMAGES), "damaged image", one)
report.finish()
