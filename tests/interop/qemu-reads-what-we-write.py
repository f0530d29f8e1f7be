#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 300
"""Images written by ours with every option: qemu-img finds nothing wrong in them and the same bytes; the options are as asked."""
import itertools
import os
import random

import qemu
from qemu import QEMU_IMG, Wrong, qemu_img, qsnap

FOLDER = os.path.join(qemu.TMP, "written")
os.makedirs(FOLDER, exist_ok=True)
OUT = os.path.join(FOLDER, "out.qcow2")
DATA = os.path.join(FOLDER, "out.data")
KEYS = {"compat": "compat", "refcount_bits": "refcount-bits", "lazy_refcounts": "lazy-refcounts", "extended_l2": "extended-l2",
        "compression_type": "compression-type"}


def source(seed, size):
    """A raw disk with text, noise, zeros and holes."""
    path = os.path.join(FOLDER, f"source{seed}-{size}.raw")
    if os.path.exists(path):
        return path
    rng = random.Random(seed)
    with open(path, "wb") as file:
        file.truncate(size)
        at = 0
        while at < size:
            length = min(size - at, rng.choice([512, 4096, 70000, 200000]))
            kind = rng.randrange(4)
            file.seek(at)
            if kind == 0:
                file.write(rng.randbytes(length))
            elif kind == 1:
                file.write((b"line %d of many\n" % rng.randrange(1 << 30) * (length // 8))[:length])
            elif kind == 2:
                file.write(bytes(length))
            at += length
    return path


def judge(out, raw, asked):
    qemu_img("check", "-q", "-f", "qcow2", out)
    for _, peer in qemu.PEERS:
        qemu.run(peer, "compare", "-q", "-f", "qcow2", "-F", "raw", out, raw)
    info = qemu_img("info", "--output=json", "-f", "qcow2", out).json()
    told = info["format-specific"]["data"]
    for word in filter(None, asked.split(",")):
        key, value = word.split("=", 1)
        if key == "cluster_size":
            if info["cluster-size"] != int(value):
                raise Wrong(f"cluster size {info['cluster-size']}, not {value}")
        elif key in KEYS and (told["compat"] == "1.1" or key in ("compat", "refcount_bits")):
            want = {"on": True, "off": False}.get(value, int(value) if key == "refcount_bits" else value)
            if told.get(KEYS[key]) != want:
                raise Wrong(f"{key} is {told.get(KEYS[key])}, not {want}")


def written(options, flags, size, raw=None):
    raw = raw or source(1, size)
    qemu.remove(OUT, DATA)
    qsnap("convert", "-f", "raw", "-O", "qcow2", *flags, *(["-o", options] if options else []), raw, OUT)
    judge(OUT, raw, options)
    qsnap("check", "-q", "-f", "qcow2", OUT)


def created(options, size):
    """create: the same file as qemu-img's in what it tells, and what it reserves."""
    mine, other = OUT, os.path.join(FOLDER, "theirs.qcow2")
    qemu.remove(mine, other, DATA)
    qsnap("create", "-q", "-f", "qcow2", "-o", options, mine, size)
    ours = qemu_img("info", "--output=json", mine).json()
    qemu_img("check", "-q", "-f", "qcow2", mine)
    qemu.remove(DATA)
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, other, size)
    theirs = qemu_img("info", "--output=json", other).json()
    for key in ("virtual-size", "format", "cluster-size", "format-specific", "dirty-flag"):
        if ours.get(key) != theirs.get(key):
            raise Wrong(f"create: {key}: ours {ours.get(key)}, qemu-img's {theirs.get(key)}")
    if "preallocation=f" in options and ours["actual-size"] < size:
        raise Wrong(f"create: {ours['actual-size']} bytes reserved of {size}")
    if "cluster_size=512" in options:
        return  # whose holes of the file lie where metadata lies, which is everybody's own
    maps = [qemu_img("map", "--output=json", "-f", "qcow2", path).json() for path in (mine, other)]
    shown = [[(e["start"], e["length"], e["zero"], e["data"], "offset" in e) for e in m] for m in maps]
    # with clusters below the file system's blocks, the holes that the map shows depend on where tables lie
    if shown[0] != shown[1] and not any(text in options for text in ("falloc", "full", "cluster_size=512")):
        raise Wrong(f"create: map: ours {shown[0][:5]}, qemu-img's {shown[1][:5]}")


report = qemu.Report()

SIZE = 3 * (1 << 20) + 512 * 7
for cluster in qemu.SIZES:
    size = SIZE if cluster < 1 << 18 else 4 * SIZE
    for options, flags in ((f"cluster_size={cluster}", []), (f"cluster_size={cluster},compression_type=zstd", ["-c"]),
                           (f"cluster_size={cluster}", ["-c"])):
        report.test(f"convert {' '.join(flags)} -o {options}", written, options, flags, size)
for bits in (1, 2, 4, 8, 16, 32, 64):
    for cluster, flags in itertools.product((512, 65536), ([], ["-c"])):
        options = f"cluster_size={cluster},refcount_bits={bits}"
        report.test(f"convert {' '.join(flags)} -o {options}", written, options, flags, SIZE)
for options in ("compat=0.10", "compat=1.1,lazy_refcounts=on", "extended_l2=on", "extended_l2=on,cluster_size=16384",
                "extended_l2=on,cluster_size=2097152", "preallocation=metadata", "preallocation=falloc", "preallocation=full",
                "preallocation=metadata,cluster_size=512", "preallocation=metadata,extended_l2=on"):
    report.test(f"convert -o {options}", written, options, [], SIZE)
    report.test(f"create -o {options}", created, options, 64 << 20)
for bits in (1, 64):
    report.test(f"create -o refcount_bits={bits},cluster_size=1024", created, f"refcount_bits={bits},cluster_size=1024", 5 << 20)
for raw_file in ("on", "off"):
    options = f"data_file={DATA},data_file_raw={raw_file}"
    report.test(f"convert -o data_file=...,data_file_raw={raw_file}", written, options, [], SIZE)
    report.test(f"create -o data_file=...,data_file_raw={raw_file}", created, options, 8 << 20)
for flags in (["-S", "0"], ["-S", "512"], ["-S", "64k"], ["--threads", "0"], ["-W", "-m", "4"], ["-t", "none", "-T", "none"],
              ["-t", "directsync"], ["-t", "unsafe"], ["-t", "writeback"], ["-C"], ["-p"], ["-q"], ["-r", "500M"]):
    report.test(f"convert {' '.join(flags)}", written, "", flags, SIZE)
for codec, levels in (("zlib", ["fastest", 1, 4, 9, 12]), ("zstd", ["fastest", 1, 3, 10, 19])):
    for level in levels:
        options = f"compression_type={codec},compression_level={level}"
        report.test(f"convert -c -o {options}", written, options, ["-c"], SIZE)
report.test("convert -c -o window=4k", written, "window=4k", ["-c"], SIZE)
for size in (512, 1024, 65536, 65536 + 512, (512 << 20) + 512):
    report.test(f"convert of {size} bytes", written, "", [], size, source(2, size) if size < 1 << 20 else source(1, SIZE))


def random_options(seed):
    """Ours from a random chain of qemu-io's, with random options."""
    image = qemu.image(seed)
    o, rng = qemu.choose(seed + 7)
    o["prealloc"] = rng.choice(["off", "off", "metadata"])
    flags = ["-c"] if rng.random() < 0.5 and o["prealloc"] == "off" else []
    text = qemu.options(o)
    flags += rng.choice([[], ["-S", "0"], ["-S", "512"], ["--threads", str(rng.randrange(9))], ["--recompress"]])
    flat = os.path.join(FOLDER, "flat.raw")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", image.path, flat)
    qemu.remove(OUT)
    try:
        qsnap("convert", "-f", "qcow2", "-O", "qcow2", *flags, "-o", text, image.path, OUT)
        judge(OUT, flat, text)
    except Wrong as why:
        raise Wrong(f"{image}\n{why}") from None


report.seeds(15, "qemu reads what we write, random options,", random_options)
report.finish()
