#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 240
"""The options of convert, one by one and together: targets over a backing file, existing targets, parts, snapshots, bitmaps."""
import hashlib
import os
import random
import subprocess
import time

import qemu
from qemu import Wrong, qemu_img, qemu_io, qsnap, same_files

MIB = 1 << 20


def path(name):
    return os.path.join(qemu.TMP, name)


def chain():
    """base <- middle <- top, each with something of its own; fresh each time."""
    base, middle, top = path("base.qcow2"), path("middle.qcow2"), path("top.qcow2")
    qemu.remove(base, middle, top)
    qemu_img("create", "-q", "-f", "qcow2", base, "4M")
    qemu_io(base, ["write -P 1 0 1M", "write -P 2 2M 300k"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", middle)
    qemu_io(middle, ["write -P 3 512k 64k", "write -z 2M 64k", "write -c -P 4 3M 64k"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", top)
    qemu_io(top, ["write -P 5 128k 4k", "write -z 0 64k", "write -P 6 3584k 512k"])
    return base, middle, top


def flat(source, *options):
    out = path("flat.raw")
    qemu_img("convert", *options, "-O", "raw", source, out)
    return out


def over_a_backing_file(below, output_options=()):
    base, middle, top = chain()
    backing = {"base": base, "middle": middle}[below]
    if "-c" in output_options:  # a layer of the source is known by whatever name
        out = path("named.qcow2")
        qsnap("convert", "-O", "qcow2", "-B", "file:" + backing, "-F", "qcow2", top, out)
        same_files(flat(out), (qemu_img("convert", "-O", "raw", top, path("want.raw")), path("want.raw"))[1])
    out, theirs = path("over.qcow2"), path("theirs.qcow2")
    qsnap("convert", "-f", "qcow2", "-O", "qcow2", "-B", os.path.basename(backing), "-F", "qcow2", *output_options, top, out)
    qemu_img("check", "-q", out)
    same_files(flat(out), (qemu_img("convert", "-O", "raw", top, path("want.raw")), path("want.raw"))[1])
    info = qemu_img("info", "--output=json", out).json()
    if info["backing-filename"] != os.path.basename(backing) or info["backing-filename-format"] != "qcow2":
        raise Wrong(f"backing file {info.get('backing-filename')}, {info.get('backing-filename-format')}")
    if below == "base":
        return  # qemu-img's target lacks what lies in the layers between: a difference on purpose
    plain = [word for word in output_options if word == "-c"]
    qemu_img("convert", "-f", "qcow2", "-O", "qcow2", "-B", os.path.basename(backing), "-F", "qcow2", *plain, top, theirs)
    maps = [qemu_img("map", "--output=json", name).json() for name in (out, theirs)]
    shown = [[(e["start"], e["length"], e["depth"], e["zero"], e["data"]) for e in m] for m in maps]
    if shown[0] != shown[1]:
        raise Wrong(f"other layers than qemu-img's target:\n{shown[0]}\n{shown[1]}")


def over_a_base_longer_than_the_middle():
    """Where the middle layer ends early the source reads zeros, whatever the target's backing file has there."""
    base, middle, top = path("base.qcow2"), path("middle.qcow2"), path("top.qcow2")
    out, want = path("over.qcow2"), path("want.raw")
    qemu.remove(base, middle, top)
    qemu_img("create", "-q", "-f", "qcow2", base, "4M")
    qemu_io(base, ["write -P 1 0 4M"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", middle, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", top, "3M")
    qemu_io(top, ["write -P 3 128k 64k", "write -P 4 2M 64k"])
    qemu_img("convert", "-O", "raw", top, want)
    for below in ("base.qcow2", "middle.qcow2"):
        for options in ([], ["-c"], ["-o", "compat=0.10"], ["-o", "cluster_size=2M"], ["-o", "cluster_size=512"], ["-S", "0"]):
            qsnap("convert", "-O", "qcow2", "-B", below, "-F", "qcow2", *options, top, out)
            same_files(flat(out), want)


def into_an_existing_overlay(options):
    """-n without -B copies all that the source shows, whatever the existing image's own backing file has."""
    _, middle, top = chain()
    other, out = path("other.qcow2"), path("existing")
    qemu.remove(other, out)
    below = middle if "-B" in options else other
    qemu_img("create", "-q", "-f", "qcow2", other, "4M")
    qemu_io(other, ["write -P 66 0 4M"])
    qemu_img("create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", out)
    qsnap("convert", "-f", "qcow2", "-O", "qcow2", "-n", *options, top, out)
    same_files(flat(out), (qemu_img("convert", "-O", "raw", top, path("want.raw")), path("want.raw"))[1])


def many_tiny_sources():
    part, out = path("tiny"), path("joined")
    with open(part, "wb") as file:
        file.write(b"x")
    sources = [part] * 900
    for kind, options in (("raw", []), ("qcow2", []), ("qcow2", ["-c"])):
        qemu.remove(out)
        qsnap("convert", "-f", "raw", "-O", kind, *options, *sources, out)
        with open(flat(out, "-f", kind), "rb") as file:
            if file.read() != (b"x" + bytes(511)) * len(sources):
                raise Wrong(f"{len(sources)} sources to {kind}: other bytes")


def into_an_existing(kind, options, create):
    _, _, top = chain()
    out = path("existing")
    qemu.remove(out)
    qemu_img("create", "-q", "-f", kind, *create, out, "4M")
    if "--target-is-zero" not in options:
        qemu_io(out, ["write -P 77 0 4M"], kind)
    inode = os.stat(out).st_ino
    qsnap("convert", "-f", "qcow2", "-O", kind, "-n", *options, top, out)
    if kind == "raw" and os.stat(out).st_ino != inode:
        raise Wrong("-n made a new file")
    want = path("want.raw")
    qemu_img("convert", "-O", "raw", top, want)
    same_files(flat(out, "-f", kind), want)
    if kind == "qcow2":
        qemu_img("check", "-q", "-f", "qcow2", out)


def several_sources(kind):
    base, _, top = chain()
    part = path("part.raw")
    with open(part, "wb") as file:
        file.write(random.Random(4).randbytes(70000 // 512 * 512))
    out, theirs = path("joined"), path("theirs")
    for options in ([], ["-c"] if kind == "qcow2" else ["-S", "0"]):
        qemu.remove(out, theirs)
        sources = [top, base]
        qsnap("convert", "-O", kind, *options, *sources, out)
        qemu_img("convert", "-O", kind, *options, *sources, theirs)
        same_files(flat(out, "-f", kind), (qemu_img("convert", "-f", kind, "-O", "raw", theirs, path("want.raw")), path("want.raw"))[1])
    qemu.remove(out, theirs)
    qsnap("convert", "-f", "raw", "-O", kind, part, part, part, out)
    qemu_img("convert", "-f", "raw", "-O", kind, part, part, part, theirs)
    same_files(flat(out, "-f", kind), (qemu_img("convert", "-f", kind, "-O", "raw", theirs, path("want.raw")), path("want.raw"))[1])


def sparse(size):
    """-S: which zero runs become holes shows in the file's blocks; the bytes are always the same."""
    source = path("holes.raw")
    with open(source, "wb") as file:
        file.truncate(4 * MIB)
        for at in range(0, 4 * MIB, 128 << 10):
            file.seek(at)
            file.write(b"data" * 1024 + bytes(16 << 10) + b"more" * 1024)
    out, theirs = path("sparse.raw"), path("theirs.raw")
    qemu.remove(out, theirs)
    qsnap("convert", "-f", "raw", "-O", "raw", "-S", size, source, out)
    qemu_img("convert", "-f", "raw", "-O", "raw", "-S", size, source, theirs)
    same_files(out, source)
    mine, others = os.stat(out).st_blocks, os.stat(theirs).st_blocks
    if mine > others:
        raise Wrong(f"-S {size}: {mine} blocks, qemu-img {others}")
    if size == "0" and mine * 512 < 4 * MIB:
        raise Wrong(f"-S 0 left holes: {mine} blocks")


def snapshot_of_other_size(grow):
    """Beyond qemu-img: the snapshot comes at its own size."""
    image, before, out = path("sizes.qcow2"), path("before.raw"), path("snapshot.out")
    qemu.remove(image, out)
    qemu_img("create", "-q", "-f", "qcow2", image, "3M")
    qemu_io(image, ["write -P 11 0 100k", "write -P 12 2900k 172k"])
    qemu_img("convert", "-O", "raw", image, before)
    qemu_img("snapshot", "-c", "then", image)
    if grow:
        qemu_img("resize", "-q", image, "5M")
        qemu_io(image, ["write -P 13 3M 2M", "write -P 14 0 1M"])
    else:
        qemu_img("snapshot", "-c", "grown", image)
        qemu_io(image, ["write -P 14 0 1M"])
    for name in ("then", "snapshot.name=then", "snapshot.id=1", "1"):
        for kind in ("raw", "qcow2"):
            qemu.remove(out)
            qsnap("convert", "-f", "qcow2", "-O", kind, "-l", name, image, out)
            same_files(flat(out, "-f", kind), before)
    done = qsnap("convert", "-f", "qcow2", "-O", "raw", "-l", "absent", image, path("none"), want=1)
    if os.path.exists(path("none")) or "absent" not in done.err:
        raise Wrong(f"an unknown snapshot: {done}")


def dirty_ranges(image):
    """What the bitmap `one` says, as QEMU serves it."""
    socket = path("nbd.sock")
    qemu.remove(socket)
    server = subprocess.Popen(["qemu-nbd", "-r", "-f", "qcow2", "-B", "one", "-k", socket, image])
    try:
        for _ in range(100):
            if os.path.exists(socket):
                break
            time.sleep(0.05)
        return qemu_img("map", "--output=json", "--image-opts",
                        f"driver=nbd,server.type=unix,server.path={socket},x-dirty-bitmap=qemu:dirty-bitmap:one").json()
    finally:
        server.terminate()
        server.wait()


def bitmaps():
    image, out = path("bitmaps.qcow2"), path("bitmaps.out")
    qemu.remove(image, out)
    qemu_img("create", "-q", "-f", "qcow2", image, "8M")
    qemu_img("bitmap", "--add", "-g", "64k", image, "one")
    qemu_img("bitmap", "--add", "-g", "512", "--disable", image, "two")
    qemu_io(image, ["write -P 1 1M 100k", "write -P 2 6M 1M"])
    qsnap("convert", "-f", "qcow2", "-O", "qcow2", "--bitmaps", image, out)
    qemu_img("check", "-q", out)
    told = [qemu_img("info", "--output=json", name).json()["format-specific"]["data"].get("bitmaps") for name in (image, out)]
    if sorted(map(str, told[0])) != sorted(map(str, told[1] or [])):
        raise Wrong(f"bitmaps {told[1]}, not {told[0]}")
    dirty = [dirty_ranges(name) for name in (image, out)]
    if dirty[0] != dirty[1] or len(dirty[0]) < 3:
        raise Wrong(f"the bitmap has {dirty[1]}, not {dirty[0]}")


def kept_snapshots():
    image, out = path("kept.qcow2"), path("kept.out")
    qemu.remove(image, out)
    qemu_img("create", "-q", "-f", "qcow2", image, "4M")
    for number in range(3):
        qemu_io(image, [f"write -P {number + 1} {number}M 700k", f"write -c -P 9 {3072 + 64 * number}k 64k"])
        qemu_img("snapshot", "-c", f"s{number}", image)
    qemu_io(image, ["write -P 55 100k 3M"])
    qsnap("convert", "-f", "qcow2", "-O", "qcow2", "--keep-snapshots", image, out)
    qemu_img("check", "-q", out)
    names = [[s["name"] for s in qemu_img("info", "--output=json", name).json().get("snapshots", [])] for name in (image, out)]
    if names[0] != names[1]:
        raise Wrong(f"snapshots {names[1]}, not {names[0]}")
    for name in names[0]:
        same_files(flat(out, "-f", "qcow2", "-l", name), (qemu_img("convert", "-O", "raw", "-l", name, image, path("want.raw")),
                                                         path("want.raw"))[1])
    qemu_img("compare", "-q", image, out)


def hashes(kind):
    _, _, top = chain()
    out = path("hashed")
    for algorithm in ("sha256", "sha512", "md5"):
        qemu.remove(out)
        done = qsnap("convert", "-f", "qcow2", "-O", kind, "--hash", algorithm, top, out)
        with open(out, "rb") as file:
            want = hashlib.new(algorithm, file.read()).hexdigest()
        if want not in done.out:
            raise Wrong(f"{algorithm}: {want} expected: {done}")


def salvage():
    """A source that cannot be read in one place (its file ends too early): zeros there, and said so."""
    base, _, _ = chain()
    with open(base, "r+b") as file:
        file.truncate(os.path.getsize(base) - (128 << 10))
    out, theirs = path("salvaged.raw"), path("theirs.raw")
    qsnap("convert", "-f", "qcow2", "-O", "raw", "--salvage", base, out)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", "--salvage", base, theirs)
    same_files(out, theirs)


def salvage_maps(options):
    """Where tables are broken: zeros there, the rest whole, as qemu-img does it."""
    image, out, theirs = path("tables.qcow2"), path("salvaged"), path("theirs.raw")
    qemu.remove(image, out)
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", image, "8M")
    qemu_io(image, ["write -c -P 2 1M 64k", "write -P 1 0 1M", "write -P 1 1088k 7104k"])
    with open(image, "r+b") as file:
        file.seek(40)
        l1 = int.from_bytes(file.read(8), "big")
        file.seek(l1 + 8)
        l2 = int.from_bytes(file.read(8), "big") & ((1 << 56) - 512)
        file.seek(l2 + 7 * 8)
        file.write(((1 << 63) + 0x1234).to_bytes(8, "big"))  # inside the second table: not cluster-aligned
        file.seek(l1 + 2 * 8)
        file.write(((1 << 63) + (1 << 50)).to_bytes(8, "big"))  # the third table: beyond the file
    qsnap("convert", "-O", "raw", image, out, want=1)
    if os.path.exists(out):
        raise Wrong("damage was taken for an image")
    for kind in ("raw", "qcow2"):
        qemu.remove(out)
        done = qsnap("convert", "-f", "qcow2", "-O", kind, "--salvage", *(options if kind == "qcow2" else ()), image, out)
        if "513 unreadable places" not in done.err or "entry 7 (guest offset 0x207000)" not in done.err:
            raise Wrong(f"{done}")
        with open(flat(out, "-f", kind), "rb") as file:
            got = file.read()
        want = bytearray(b"\1" * (8 * MIB))
        want[MIB:MIB + 65536] = b"\2" * 65536
        want[2 * MIB + 7 * 4096:2 * MIB + 8 * 4096] = bytes(4096)
        want[4 * MIB:6 * MIB] = bytes(2 * MIB)
        if got != want:
            raise Wrong(f"{kind}: other bytes")


def scattered(options):
    """Short runs of data among zeros that metadata tells of, behind data that fills every job: nothing of it shows again."""
    rng = random.Random(31)
    base, top = path("full.qcow2"), path("scattered.qcow2")
    qemu.remove(base, top)
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4096", base, "96M")
    qemu_io(base, ["write -P 255 0 64M"])
    qemu_img("create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=64k", "-b", "full.qcow2", "-F", "qcow2", top)
    commands = ["write -z 48M 16M"]
    for at in range(48 * MIB, 96 * MIB, 512 << 10):
        start, length = at + rng.randrange(1000) * 512, rng.choice((512, 1536, 4096, 60 << 10, 200 << 10))
        commands.append(f"write -P {rng.randrange(1, 255)} {start} {min(length, 96 * MIB - start)}")
        commands.append(f"write -z {at + rng.randrange(100) * 4096} {rng.randrange(1, 20) * 512}")
    qemu_io(top, commands)
    want, out = path("want.raw"), path("scattered.out")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", top, want)
    for kind in ("raw", "qcow2"):
        qemu.remove(out)
        qsnap("convert", "-f", "qcow2", "-O", kind, *options, top, out)
        same_files(flat(out, "-f", kind), want)
        mine, others = os.stat(out).st_blocks, os.stat(want).st_blocks
        if kind == "raw" and "-S" not in options and mine > others + 128:  # the file system's own blocks count, too
            raise Wrong(f"{mine} blocks, qemu-img {others}")


def recompressed_equal(codec):
    """Passed through or compressed again: the same disk."""
    source, again = path("c.qcow2"), path("c2.qcow2")
    raw = path("c.raw")
    with open(raw, "wb") as file:
        file.write(b"".join(b"%d is a number\n" % n for n in range(200000)))
        file.truncate(4 * MIB)
    qemu.remove(source, again)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-c", "-o", f"compression_type={codec}", raw, source)
    for options in ([], ["--recompress"], ["-o", f"compression_type={'zstd' if codec == 'zlib' else 'zlib'}"], ["-o", "cluster_size=4096"],
                    ["-o", "refcount_bits=1"]):
        words = ["-c", *options]
        if "-o" not in words:
            words += ["-o", f"compression_type={codec}"]
        qemu.remove(again)
        qsnap("convert", "-f", "qcow2", "-O", "qcow2", *words, source, again)
        qemu_img("check", "-q", again)
        qemu_img("compare", "-q", "-f", "raw", "-F", "qcow2", raw, again)


report = qemu.Report()
for name in ("base", "middle"):
    for extra in ([], ["-c"], ["--threads", "0"]):
        report.test(f"convert -B {name} {' '.join(extra)}", over_a_backing_file, name, extra)
for name, extra, made in (("raw", [], []), ("raw", ["--target-is-zero"], []), ("qcow2", [], []), ("qcow2", ["--target-is-zero"], []),
                          ("qcow2", [], ["-o", "cluster_size=4096,extended_l2=off"]), ("raw", ["-t", "none"], []),
                          ("qcow2", ["--target-is-zero", "--threads", "0"], ["-o", "extended_l2=on"])):
    report.test(f"convert -n {' '.join(extra)} into {name} {' '.join(made)}", into_an_existing, name, extra, made)
report.test("convert -B of a base longer than the layer above it", over_a_base_longer_than_the_middle)
for extra in ([], ["-B", "middle.qcow2", "-F", "qcow2"]):
    report.test(f"convert -n {' '.join(extra)} into an overlay", into_an_existing_overlay, extra)
report.test("convert of many tiny sources", many_tiny_sources)
for name in ("raw", "qcow2"):
    report.test(f"convert of several sources to {name}", several_sources, name)
    report.test(f"convert --hash to {name}", hashes, name)
for name in ("0", "512", "4k", "16k", "64k"):
    report.test(f"convert -S {name}", sparse, name)
for extra in ([], ["-t", "none"], ["-t", "none", "-S", "64k"], ["-t", "none", "-S", "1M"], ["-t", "none", "-S", "0"], ["-t", "none", "-S", "512"]):
    report.test(f"convert {' '.join(extra)} of scattered data", scattered, extra)
report.test("convert -l of a disk that grew", snapshot_of_other_size, True)
report.test("convert -l of a disk with two", snapshot_of_other_size, False)
report.test("convert --bitmaps", bitmaps)
report.test("convert --keep-snapshots", kept_snapshots)
report.test("convert --salvage", salvage)
for extra in ([], ["-c"]):
    report.test(f"convert --salvage {' '.join(extra)} with broken tables", salvage_maps, extra)
for name in ("zlib", "zstd"):
    report.test(f"convert -c of {name} clusters", recompressed_equal, name)
report.finish()
