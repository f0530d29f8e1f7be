#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 240
"""Through a link named qemu-img, ours answers as qemu-img 10 does: the same text on standard output, the same exit status, and,
where a command makes a file, the same disk in it. Error texts may differ; their being there may not."""
import os
import re
import shlex
import shutil

import qemu
from qemu import Wrong, qemu_img, qemu_io, run

READ_ONLY = """
info plain.qcow2|info --output=json plain.qcow2|info v2.qcow2|info ext.qcow2|info snap.qcow2|info --output=json snap.qcow2
info over.qcow2|info --backing-chain over.qcow2|info --backing-chain --output=json over.qcow2|info raw.img|info -f raw raw.img
info --output=json raw.img|info -f raw plain.qcow2|info bitmap.qcow2|info --output=json bitmap.qcow2|info data.qcow2|info lost.qcow2
info --backing-chain lost.qcow2|info absent|info -f qcow2 raw.img|info -f nonsense raw.img|info --output=xml raw.img|info -U plain.qcow2
info|info plain.qcow2 raw.img|info --nonsense|info --output json plain.qcow2|info dirty.qcow2|info corrupt.qcow2
map plain.qcow2|map --output=json plain.qcow2|map over.qcow2|map --output=json over.qcow2|map raw.img|map -f raw raw.img
map --output=json -f raw raw.img|map comp.qcow2|map --output=json comp.qcow2|map --output=json -s 64k -l 128k over.qcow2
map --output=json -s 70000 over.qcow2|map -s 1M -l 1k --output=json over.qcow2|map lost.qcow2|map absent|map --output=json data.qcow2
map --output=json ext.qcow2|map --output=json -s 8G over.qcow2|map --start-offset=64k --max-length=64k --output=json plain.qcow2
check plain.qcow2|check --output=json plain.qcow2|check -q plain.qcow2|check leak.qcow2|check --output=json leak.qcow2|check -q leak.qcow2
check broken.qcow2|check --output=json broken.qcow2|check raw.img|check --output=json -f raw raw.img|check absent|check lost.qcow2
check -f raw plain.qcow2|check snap.qcow2|check comp.qcow2|check --output=json comp.qcow2|check dirty.qcow2|check corrupt.qcow2|check -U over.qcow2
compare plain.qcow2 plain.qcow2|compare plain.qcow2 over.qcow2|compare -s plain.qcow2 comp.qcow2|compare -q plain.qcow2 over.qcow2
compare -f raw -F raw raw.img raw.img|compare -f raw -F raw raw.img longer.img|compare -f raw -F raw -s raw.img longer.img
compare -f raw -F raw raw.img longest.img|compare plain.qcow2|compare plain.qcow2 absent|compare absent plain.qcow2|compare -f qcow2 raw.img raw.img
compare plain.qcow2 comp.qcow2|compare -p plain.qcow2 plain.qcow2|compare -s over.qcow2 over.qcow2|compare plain.qcow2 raw.img
measure --size 1G|measure --size 1G -O qcow2|measure --size 1G -O raw --output=json|measure --size 1T -O qcow2 -o cluster_size=512
measure -O qcow2 plain.qcow2|measure -O raw plain.qcow2|measure -O qcow2 over.qcow2|measure -O qcow2 --output=json comp.qcow2
measure -O qcow2 -o cluster_size=2M plain.qcow2|measure -O qcow2 -o extended_l2=on plain.qcow2|measure -O qcow2 -o refcount_bits=64 plain.qcow2
measure -O qcow2 -o preallocation=full plain.qcow2|measure -O qcow2 -o preallocation=metadata --size 10G|measure -O qcow2 -l s1 snap.qcow2
measure -O qcow2 bitmap.qcow2|measure -O raw -f raw raw.img|measure|measure --size 1G plain.qcow2|measure -O vmdk --size 1G|measure absent
measure --size -1|measure --size 1G -O qcow2 -o nonsense=1|measure -O qcow2 -o data_file=d --size 1G|measure -O qcow2 data.qcow2
measure --size 1000 -O raw|measure --size 1000 -O qcow2|measure -O qcow2 -f raw raw.img|measure -O qcow2 -o compat=0.10 --size 1G
snapshot -l snap.qcow2|snapshot -l plain.qcow2|snapshot snap.qcow2|snapshot -l absent|snapshot -l raw.img|snapshot -U -l snap.qcow2
nonsense|convert|convert a|convert absent out|convert -O nonsense plain.qcow2 out|convert -f nonsense plain.qcow2 out|convert -S 100 plain.qcow2 out
convert -m 17 plain.qcow2 out|convert -m 0 plain.qcow2 out|convert -c -O raw plain.qcow2 out|convert --target-is-zero plain.qcow2 out
convert -B base.qcow2 -O qcow2 plain.qcow2 out|convert -l nosuch -O raw snap.qcow2 out|convert -n -O raw plain.qcow2 nosuchfile
convert -O qcow2 -o cluster_size=100 plain.qcow2 out|convert -O qcow2 -o nonsense=on plain.qcow2 out|convert -O qcow2 -o refcount_bits=3 plain.qcow2 out
convert -t nonsense plain.qcow2 out|convert -T nonsense plain.qcow2 out|convert -r x plain.qcow2 out|convert -C -S 4k plain.qcow2 out
convert -C -c -O qcow2 plain.qcow2 out|convert --skip-broken-bitmaps -O qcow2 plain.qcow2 out|convert --bitmaps -O raw bitmap.qcow2 out
convert -O qcow2 -o compression_type=zstd,compat=0.10 plain.qcow2 out|convert -O qcow2 -o extended_l2=on,cluster_size=4k plain.qcow2 out
create|create -f qcow2 out|create -f qcow2 out nonsense|create -f qcow2 out -5|create -f nonsense out 1M|create -f qcow2 -b base.qcow2 out
create -f qcow2 -o refcount_bits=7 out 1M|create -f qcow2 -o cluster_size=4M out 1M|create -f qcow2 -o compat=9 out 1M|create -f raw -b x out 1M
create -f qcow2 -b nosuch -F qcow2 out|create -f qcow2 -o preallocation=nonsense out 1M|create -f qcow2 out 100E|create -f qcow2 out 1M 2M
create -f qcow2 -o compat=0.10,lazy_refcounts=on out 1M|create -f qcow2 -o encryption=on out 1M|create -f qcow2 -b out -F qcow2 out 1M
dd if=absent of=out|dd of=out|dd if=raw.img|dd if=raw.img of=out bs=0|dd if=raw.img of=out nonsense=1|dd -O nonsense if=raw.img of=out|dd if=raw.img of=out count=-1
"""
MAKING = """
create -f qcow2 out 64M|create -f qcow2 -o cluster_size=2M,lazy_refcounts=on out 1G|create -f raw out 1000|create out 1M|create -q -f qcow2 out 1M
create -f qcow2 -b base.qcow2 -F qcow2 out|create -f qcow2 -b base.qcow2 -F qcow2 out 10M|create -f qcow2 -b raw.img -F raw out
create -f qcow2 -o compat=0.10 out 10240K|create -f qcow2 -b base.qcow2 -o backing_fmt=qcow2,compat=0.10 out 20480K
create -f qcow2 -o compat=1.1,lazy_refcounts out 5120K|create -f qcow2 -o preallocation=falloc,compat=1.1 out 1M|create -u -f qcow2 -b nosuch -F qcow2 out 1M
create -f qcow2 -o extended_l2=on,compression_type=zstd out 3M|create -f raw -o preallocation=full out 1M|create -f qcow2 -o size=3M out
create -f qcow2 -o refcount_bits=1 -o cluster_size=512 out 1k|create -f qcow2 out 0|create -f qcow2 -o data_file=out.data out 1M|create -f qcow2 out 1.5G
dd if=raw.img of=out|dd if=raw.img of=out bs=1k count=3|dd if=raw.img of=out bs=1k skip=2|dd if=raw.img of=out bs=3 count=5|dd -O qcow2 if=raw.img of=out
dd -f qcow2 -O raw if=plain.qcow2 of=out bs=64k skip=1 count=7|dd if=raw.img of=out bs=1M skip=100|dd -f qcow2 -O qcow2 if=over.qcow2 of=out bs=1M
dd -f raw if=raw.img of=out bs=512 count=1|dd -U if=raw.img of=out bs=100 skip=1|dd -O qcow2 if=over.qcow2 of=out bs=64k count=3 skip=2
convert -O raw plain.qcow2 out|convert plain.qcow2 out|convert -f raw -O qcow2 raw.img out|convert -O qcow2 -o compat=0.10 raw.img out
convert -O qcow2 -c comp.qcow2 out|convert -p -O raw over.qcow2 out|convert -q -O qcow2 over.qcow2 out|convert -O qcow2 -B base.qcow2 -F qcow2 over.qcow2 out
convert -O qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 over.qcow2 out|convert -O raw -l s1 snap.qcow2 out|convert -O raw -m 8 -W plain.qcow2 out
convert -O qcow2 -o cluster_size=4k,refcount_bits=1 comp.qcow2 out|convert -t writethrough -T none -O raw plain.qcow2 out|convert -S 0 -O raw over.qcow2 out
convert -O raw raw.img odd.img out|convert -f raw -O qcow2 odd.img out|convert -f raw -O raw odd.img out|convert -U -O raw plain.qcow2 out
"""
FOLDER = os.path.join(qemu.TMP, "alike")
LINK = os.path.join(qemu.TMP, "link", "qemu-img")
# What differs on purpose, and why (README.md says it to the reader).
ON_PURPOSE = {
    "convert -m 0 plain.qcow2 out": "a number of threads like any other: serial",
}


def make_files():
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)
    os.makedirs(os.path.dirname(LINK), exist_ok=True)
    qemu.remove(LINK)
    os.symlink(qemu.QSNAP, LINK)
    os.chdir(FOLDER)
    for name, options in (("plain", ""), ("base", ""), ("comp", "cluster_size=4096"), ("v2", "compat=0.10"), ("ext", "extended_l2=on"),
                          ("snap", "lazy_refcounts=on"), ("bitmap", ""), ("leak", ""), ("broken", ""), ("dirty", ""), ("corrupt", ""),
                          ("data", "data_file=data.raw,data_file_raw=on")):
        qemu_img("create", "-q", "-f", "qcow2", *(["-o", options] if options else []), name + ".qcow2", "2M")
        qemu_io(name + ".qcow2", ["write -P 1 0 300k", "write -z 512k 64k"] + (["write -P 2 1M 4k"] if name != "comp" else
                                                                              ["write -c -P 2 1M 4k", "write -c -P 3 1028k 4k"]))
    qemu_img("snapshot", "-c", "s1", "snap.qcow2")
    qemu_io("snap.qcow2", ["write -P 7 1M 64k"])
    qemu_img("bitmap", "--add", "bitmap.qcow2", "b")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "over.qcow2", "3M")
    qemu_io("over.qcow2", ["write -P 9 128k 64k", "write -z 0 64k"])
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", "nowhere.qcow2", "-F", "qcow2", "lost.qcow2", "1M")
    for name, size in (("raw.img", 1 << 20), ("longer.img", 2 << 20), ("longest.img", 2 << 20), ("odd.img", 70001)):
        with open(name, "wb") as file:
            file.write(b"raw" * 20000)
            file.truncate(size)
            if name == "longest.img":
                file.seek(3 << 19)
                file.write(b"end")
    patch("leak.qcow2", 2 * 65536 + 2 * 5, b"\0\2")  # a refcount too high
    patch("broken.qcow2", 2 * 65536 + 2 * 5, b"\0\0")  # and too low
    patch("dirty.qcow2", 79, b"\1")
    patch("corrupt.qcow2", 79, b"\2")


def patch(name, at, data):
    with open(name, "r+b") as file:
        file.seek(at)
        file.write(data)


def clean():
    qemu.remove("out", "out.data")


def both(words):
    clean()
    theirs = run(qemu.QEMU_IMG, *words, want=None)
    made = os.path.exists("out")
    content = None
    if made and theirs.status == 0:
        kind = qemu_img("info", "--output=json", "-U", "out", want=None)
        content = kind.json().get("format") if kind.status == 0 else None
        os.rename("out", "theirs")
        if os.path.exists("out.data"):
            os.rename("out.data", "theirs.data")
    clean()
    ours = run(LINK, *words, want=None)
    return ours, theirs, made, content


def steps(text):
    """Without the progress, whose steps are everybody's own."""
    if "/100%)" not in text:
        return text
    return " ".join(re.sub(r"\([0-9.]+/100%\)", "", text).split())


def same_answer(words):
    ours, theirs, made, _ = both(words)
    if ours.status < 0 or ours.status > 128:
        raise Wrong(f"crashed: {ours}")
    if ours.status != theirs.status:
        raise Wrong(f"status {ours.status}, not {theirs.status}\nours: {ours}\ntheirs: {theirs}")
    # where create fails, qemu-img has told of its success before
    if steps(ours.out) != steps(theirs.out) and not (theirs.status and words[0] == "create"):
        raise Wrong(f"other text\nours:\n{ours.out[:1500]}\ntheirs:\n{theirs.out[:1500]}")
    if theirs.status and theirs.err.strip() and not ours.err.strip():
        raise Wrong(f"fails without a word: {ours}")
    if theirs.status and os.path.exists("out") and not made:
        raise Wrong("leaves a file behind")


def same_product(words):
    same_answer(words)
    _, theirs, _, kind = both(words)
    if theirs.status:
        raise Wrong(f"qemu-img fails: {theirs}")
    if not os.path.exists("out"):
        raise Wrong("makes no file")
    if kind == "qcow2":
        if "-u" not in words:
            qemu_img("compare", "-q", "theirs", "out")
            qemu_img("check", "-q", "out")
        mine, other = (qemu_img("info", "--output=json", name).json() for name in ("out", "theirs"))
        for key in ("virtual-size", "cluster-size", "backing-filename", "backing-filename-format", "format-specific"):
            if mine.get(key) != other.get(key):
                raise Wrong(f"{key}: {mine.get(key)}, not {other.get(key)}")
    else:
        qemu.same_files("out", "theirs")


if not qemu.MODERN:
    print("no qemu-img 10 to compare with")
    raise SystemExit(77)
make_files()
report = qemu.Report()
for text, test in ((READ_ONLY, same_answer), (MAKING, same_product)):
    for line in text.strip().replace("\n", "|").split("|"):
        if line in ON_PURPOSE:
            continue
        report.test(f"as qemu-img: {line}", test, shlex.split(line))
report.finish()
