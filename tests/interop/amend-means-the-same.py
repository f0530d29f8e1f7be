#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 200
"""Random images amended by ours and by qemu-img: the same status, the same facts afterwards, the same disk, clean for both checks. What
ours refuses and qemu-img does by losing something is told apart."""
import os
import random
import shutil

import qemu
from qemu import Wrong, qemu_img, qemu_io, qsnap, run

SIZE = 2 << 20


def path(name):
    return os.path.join(qemu.TMP, name)


def make(rng, image):
    options = [f"cluster_size={rng.choice([512, 4096, 65536])}"]
    v2 = rng.random() < 0.3
    if v2:
        options.append("compat=0.10")
    else:
        options.append(f"refcount_bits={rng.choice([8, 16, 16, 32, 64])}")
        options.append(f"lazy_refcounts={rng.choice(['on', 'off'])}")
    backing = ["-b", "base.qcow2", "-F", "qcow2"] if rng.random() < 0.5 else []
    qemu_img("create", "-q", "-f", "qcow2", *backing, "-o", ",".join(options), image, str(SIZE))
    snapshots = rng.random() < 0.4
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(0, SIZE, 512)
        length = min(SIZE - start, 512 * rng.randint(1, 500))
        zero = "-z " if not snapshots and rng.random() < 0.4 else f"-P {rng.randrange(1, 255)} "
        qemu_io(image, [f"write {zero}{start} {length}"])
        if snapshots and rng.random() < 0.5:
            qemu_img("snapshot", "-c", f"s{start}", image)


def options(rng):
    some = []
    if rng.random() < 0.7:
        some.append("compat=" + rng.choice(["0.10", "1.1", "v2", "v3"]))
    if rng.random() < 0.6:
        some.append("refcount_bits=" + rng.choice(["1", "8", "16", "16", "16", "32", "64"]))
    if rng.random() < 0.6:
        some.append("lazy_refcounts=" + rng.choice(["on", "off", "off"]))
    if rng.random() < 0.3:
        some.append(f"size={SIZE + rng.choice([0, 512, 1 << 20])}")
    return ",".join(some or ["compat=1.1"])


def facts(image):
    info = qemu_img("info", "--output=json", image).json()
    for key in ("filename", "actual-size", "children"):
        info.pop(key, None)
    return info


def one(seed):
    rng = random.Random(seed)
    qemu.remove(path("base.qcow2"))
    qemu_img("create", "-q", "-f", "qcow2", path("base.qcow2"), str(SIZE))
    qemu_io(path("base.qcow2"), [f"write -P 99 0 {SIZE}"])
    original, ours, theirs = path("original.qcow2"), path("ours.qcow2"), path("theirs.qcow2")
    make(rng, original)
    shutil.copy(original, ours)
    shutil.copy(original, theirs)
    for _ in range(4):
        wanted = options(rng)
        a = qsnap("amend", "-f", "qcow2", "-o", wanted, ours, want=None)
        b = qemu_img("amend", "-f", "qcow2", "-o", wanted, theirs, want=None)
        if a.status != b.status:
            raise Wrong(f"-o {wanted}: {a}\n{b}")
        if a.status == 0 and facts(ours) != facts(theirs):
            raise Wrong(f"-o {wanted}: {facts(ours)} is not {facts(theirs)}")
        if a.status:  # qemu-img may have done a part of it
            shutil.copy(ours, theirs)
        qemu_img("check", ours)
        qsnap("check", ours)
        qemu_img("compare", ours, theirs)
        for snapshot in facts(ours).get("snapshots", []):
            qsnap("convert", "-l", "id=" + snapshot["id"], "-O", "raw", ours, path("a.raw"))
            qsnap("convert", "-l", "id=" + snapshot["id"], "-O", "raw", original, path("b.raw"))
            qemu.same_files(path("a.raw"), path("b.raw"))


def bitmaps_are_not_lost():
    """qemu-img loses them and says 0; ours says why not."""
    for program, want in ((qemu.QEMU_IMG, 0), (qemu.QSNAP, 1)):
        image = path("bitmaps.qcow2")
        qemu.remove(image)
        qemu_img("create", "-q", "-f", "qcow2", image, "1M")
        qemu_img("bitmap", "--add", image, "b")
        run(program, "amend", "-f", "qcow2", "-o", "compat=0.10", image, want=want)
        there = "bitmaps" in facts(image)["format-specific"]["data"]
        if there != (program == qemu.QSNAP):
            raise Wrong(f"{program}: bitmaps there: {there}")
        run(qemu.QSNAP, "check", image, want=None if program == qemu.QEMU_IMG else 0)


def zeros_of_snapshots_stay():
    """qemu-img wipes clusters that an entry says to be zero and a snapshot has as data; ours gives each its own."""
    for backing in ([], ["-b", "base.qcow2", "-F", "qcow2"]):
        image, states = path("zeros.qcow2"), ([], ["-l", "s1"], ["-l", "s2"])
        qemu.remove(image)
        qemu_img("create", "-q", "-f", "qcow2", *backing, "-o", "cluster_size=4k", image, str(SIZE))
        qemu_io(image, ["write -P 1 0 256k", "write -z 64k 64k"])
        qemu_img("snapshot", "-c", "s1", image)
        qemu_io(image, ["write -z 16k 8k", "write -z 600k 64k"])
        qemu_img("snapshot", "-c", "s2", image)
        qemu_io(image, ["write -z -u 128k 8k", "write -P 3 900k 8k"])
        for i, state in enumerate(states):
            qemu_img("convert", *state, "-O", "raw", image, path(f"want{i}"))
        for program in (qemu.QEMU_IMG, qemu.QSNAP):
            changed, kept = path("changed.qcow2"), []
            shutil.copy(image, changed)
            run(program, "amend", "-f", "qcow2", "-o", "compat=0.10", changed)
            for i, state in enumerate(states):
                qemu_img("convert", *state, "-O", "raw", changed, path("got"))
                with open(path("got"), "rb") as got, open(path(f"want{i}"), "rb") as want:
                    kept.append(got.read() == want.read())
            if program == qemu.QSNAP:
                if kept != [True] * 3:
                    raise Wrong(f"backing {backing}: disk and snapshots kept: {kept}")
                qemu_img("check", changed)
                qsnap("check", changed)
                qemu_io(changed, ["write -P 9 0 2M"])
                qemu_img("convert", "-l", "s1", "-O", "raw", changed, path("got"))
                qemu.same_files(path("got"), path("want1"))
            elif all(kept):
                print(f"{program} keeps all of it: this test can compare more")


def a_data_file_changes_its_name():
    image = path("data.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={path('d1')}", image, "1M")
    qemu_io(image, ["write -P 7 0 1M"])
    os.rename(path("d1"), path("d2"))
    shutil.copy(path("d2"), path("d1"))
    qsnap("amend", "-o", f"data_file={path('d2')}", image)
    os.unlink(path("d1"))
    qemu_io(image, ["read -P 7 0 1M"])
    qemu_img("check", image)


report = qemu.Report()
report.seeds(15, "amend", one)
for test in (bitmaps_are_not_lost, zeros_of_snapshots_stay, a_data_file_changes_its_name):
    report.test("amend: " + test.__name__.replace("_", " "), test)
report.finish()
