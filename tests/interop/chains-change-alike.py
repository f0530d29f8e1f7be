#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 400
"""commit, rebase and resize of random chains: the disk shows what it must, byte for byte, the backing file what qemu-img makes of
it, and every image passes qemu-img's check. Then the cases in which qemu-img changes what an internal snapshot shows."""
import os
import random
import shutil

import qemu
from qemu import Wrong, qemu_img, qemu_io, qsnap, same_files

KIB, MIB = 1 << 10, 1 << 20


def path(name, folder="ours"):
    return os.path.join(qemu.TMP, folder, name)


def fresh():
    for folder in ("ours", "theirs"):
        shutil.rmtree(path("", folder), ignore_errors=True)
        os.makedirs(path("", folder))


def flat(name, folder="ours", image_format="qcow2", options=()):
    out = os.path.join(qemu.TMP, "flat.raw")
    qemu_img("convert", *options, "-f", image_format, "-O", "raw", path(name, folder), out)
    with open(out, "rb") as file:
        return file.read()


def same_bytes(what, got, want):
    if len(got) != len(want):
        raise Wrong(f"{what}: {len(got)} bytes instead of {len(want)}")
    if got != want:
        at = next(i for i, (a, b) in enumerate(zip(got, want)) if a != b)
        raise Wrong(f"{what}: byte {at:#x} is {got[at]:#04x} instead of {want[at]:#04x}")


def some_size(rng):
    return rng.randrange(1, 6 * MIB // 512) * 512


def some_options(rng):
    """Features of one layer; qemu.choose knows what goes together."""
    o, _ = qemu.choose(rng.randrange(1 << 30))
    o.update(data_file=False, data_file_raw=False, snapshots=0, bitmaps=0, prealloc="off")
    qemu.settle(o, {})
    return o


def write_raw(rng, name, size):
    commands = []
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(size // 512) * 512
        length = min(size - at, rng.choice([512, 4096, 300 * KIB, MIB]))
        commands.append(f"{rng.choice(['write -P 0', 'write -z -u', f'write -P {rng.randrange(1, 255)}'])} {at} {length}")
    qemu_io(path(name), commands, "raw")


def make_layer(rng, name, backing):
    o, size = some_options(rng), some_size(rng)
    qemu_img("create", "-q", "-f", "qcow2", "-o", qemu.options(o), *backing, path(name), size)
    commands = qemu.writes(rng, size, o, rng.randrange(0, 14))
    if commands:
        qemu_io(path(name), commands)
    # qemu-io's discards beside compressed clusters leave an image that its own check finds wrong, now and then
    if qemu_img("check", "-q", path(name), want=None).status:
        make_layer(rng, name, backing)


def make_chain(rng, depth):
    """layer0 (the lowest), layer1, ...; each with its own size and features. Tells the formats."""
    formats = []
    for i in range(depth):
        if i == 0 and rng.random() < 0.4:
            size = some_size(rng)
            qemu_img("create", "-q", "-f", "raw", path("layer0"), size)
            write_raw(rng, "layer0", size)
            formats.append("raw")
            continue
        make_layer(rng, f"layer{i}", ["-b", f"layer{i - 1}", "-F", formats[i - 1]] if i else [])
        formats.append("qcow2")
    return formats


def check_all(formats):
    for i, image_format in enumerate(formats):
        if image_format == "qcow2":
            qemu_img("check", "-q", path(f"layer{i}"))
            qsnap("check", "-q", path(f"layer{i}"))


def twins():
    shutil.rmtree(path("", "theirs"))
    shutil.copytree(path(""), path("", "theirs"))


def commit_keeps_the_disk(seed):
    rng = random.Random(seed)
    fresh()
    depth = rng.randrange(2, 6)
    formats = make_chain(rng, depth)
    top, base = f"layer{depth - 1}", rng.randrange(depth - 1)
    options = ["-b", f"layer{base}"] if base < depth - 2 or rng.random() < 0.3 else rng.choice([[], ["-d"]])
    base = base if options[:1] == ["-b"] else depth - 2
    before, base_before = flat(top), flat(f"layer{base}", image_format=formats[base])
    twins()
    qsnap("commit", "-q", "-f", "qcow2", "--threads", rng.choice("012"), *options, path(top))
    check_all(formats)
    same_bytes("the disk", flat(top), before)
    base_after = flat(f"layer{base}", image_format=formats[base])
    same_bytes("the base", base_after, before + base_before[len(before):])
    if qemu_img("commit", "-q", "-f", "qcow2", *options, path(top, "theirs"), want=None).status == 0:
        same_bytes("qemu-img's base", flat(f"layer{base}", "theirs", formats[base]), base_after)
    if not options:
        allocated = [e for e in qemu_img("map", "--output=json", path(top)).json() if e["depth"] == 0 and e["present"]]
        if allocated:
            raise Wrong(f"the top still has {allocated}")


def rebase_keeps_the_disk(seed):
    rng = random.Random(seed)
    fresh()
    depth = rng.randrange(2, 6)
    formats = make_chain(rng, depth)
    top, onto = f"layer{depth - 1}", rng.randrange(-1, depth - 1)
    name, backing = "", ["-b", ""]
    if onto >= 0:
        name = f"layer{onto}"
        backing = ["-b", name, "-F", formats[onto]]
    if rng.random() < 0.3:  # a stranger
        name = "other"
        make_layer(rng, name, [])
        backing = ["-b", "other", "-F", "qcow2"]
    before = flat(top)
    twins()
    compress = ["-c"] if rng.random() < 0.2 else []
    qsnap("rebase", "-f", "qcow2", "--threads", rng.choice("012"), *compress, *backing, path(top))
    check_all(formats)
    same_bytes("the disk", flat(top), before)
    info = qemu_img("info", "--output=json", path(top)).json()
    if info.get("backing-filename", "") != name:
        raise Wrong(f"backing file {info.get('backing-filename')} instead of {name}")
    qemu_img("rebase", "-f", "qcow2", *compress, *backing, path(top, "theirs"), want=None)


def resize_shows_zeros(seed):
    rng = random.Random(seed)
    fresh()
    formats = make_chain(rng, rng.randrange(1, 4))
    top, image_format = f"layer{len(formats) - 1}", formats[-1]
    want = flat(top, image_format=image_format)
    for _ in range(4):
        size = some_size(rng)
        prealloc = rng.choice(["off", "off", "falloc", "full"] + ["metadata"] * (image_format == "qcow2"))
        options = ["--preallocation", prealloc] if size > len(want) else ["--shrink"]
        size_text = rng.choice([str(size), f"{size - len(want):+d}"])
        qsnap("resize", "-q", "-f", image_format, *options, path(top), size_text)
        want = want[:size] + bytes(max(0, size - len(want)))
        check_all(formats)
        same_bytes(f"after {size_text} {options}", flat(top, image_format=image_format), want)
        if rng.random() < 0.5:
            at = rng.randrange(size // 512) * 512
            qemu_io(path(top), [f"write -P 77 {at} 512"], image_format)
            want = want[:at] + bytes([77]) * 512 + want[at + 512:]


# ---- internal snapshots: what qemu-img changes without a word ----

def overlay_with_snapshot():
    fresh()
    qemu_img("create", "-q", "-f", "raw", path("base"), "1M")
    qemu_io(path("base"), ["write -P 1 0 1M"], "raw")
    qemu_img("create", "-q", "-f", "raw", path("other"), "1M")
    qemu_io(path("other"), ["write -P 2 0 1M"], "raw")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", path("top"))
    qemu_io(path("top"), ["write -P 3 0 64k"])
    qemu_img("snapshot", "-c", "before", path("top"))
    qemu_io(path("top"), ["write -P 4 128k 64k"])
    twins()


def refuses(*arguments):
    def sums():
        names = sorted(os.listdir(path("")))
        return [(name, open(path(name), "rb").read()) for name in names]
    before = sums()
    done = qsnap(*arguments, path("top"), want=1)
    if "'before' (id 1)" not in done.err:
        raise Wrong(f"it does not name the snapshot: {done.err}")
    if sums() != before:
        raise Wrong("something was changed")


def snapshot_shows(folder):
    return flat("top", folder, options=["-l", "before"])


def a_snapshot_that_would_change(verb, *options):
    overlay_with_snapshot()
    want = snapshot_shows("ours")
    qemu_img(verb, *options, path("top", "theirs"))
    if snapshot_shows("theirs") == want:
        raise Wrong("qemu-img kept the snapshot: this test shows nothing")
    refuses(verb, *options)
    same_bytes("the snapshot", snapshot_shows("ours"), want)


def a_snapshot_that_stays(verb, *options):
    """The same with a new backing file that shows the same where the snapshot has nothing, or with nothing written there."""
    overlay_with_snapshot()
    qemu_io(path("top"), ["discard 128k 64k"])
    qemu_img("snapshot", "-d", "before", path("top"))
    qemu_img("snapshot", "-c", "before", path("top"))
    qemu_io(path("top"), ["write -P 9 128k 64k", "write -P 3 0 64k"])
    shutil.copy(path("base"), path("copy"))
    want, disk = snapshot_shows("ours"), flat("top")
    qsnap(verb, "-q", *options, path("top"))
    qemu_img("check", "-q", path("top"))
    same_bytes("the snapshot", snapshot_shows("ours"), want)
    same_bytes("the disk", flat("top"), disk)


def states(name):
    """What the disk and each snapshot show, at their own sizes."""
    found = {"": flat(name)}
    for snapshot in qemu_img("info", "--output=json", path(name)).json().get("snapshots", []):
        qsnap("convert", "-f", "qcow2", "-l", "id=" + snapshot["id"], "-O", "raw", path(name), path("out"))
        with open(path("out"), "rb") as file:
            found[snapshot["id"]] = file.read()
    return found


def flattened_snapshots_stay(seed):
    """commit and rebase with --flatten-snapshots: nothing is refused, and each snapshot shows what it did."""
    rng = random.Random(seed)
    fresh()
    depth = rng.randrange(2, 5)
    formats = make_chain(rng, depth)
    top = f"layer{depth - 1}"
    data = qemu_img("info", "--output=json", path(top)).json()["format-specific"]["data"]
    if data.get("corrupt"):  # qemu-io was not content with its own compressed clusters
        return
    few = data.get("extended-l2") or data.get("refcount-bits", 16) < 4
    for _ in range(rng.randrange(1, 4)):
        if few:
            break
        qsnap("snapshot", "-c", "s", path(top))
        size = qemu_img("info", "--output=json", path(top)).json()["virtual-size"]
        if data["compat"] != "0.10" and rng.random() < 0.3:
            size = some_size(rng)
            qsnap("resize", "-q", "--shrink", "-f", "qcow2", path(top), size)
        at = rng.randrange(size // 512) * 512
        qsnap("io", "-f", "qcow2", "-c", f"write -P 77 {at} {min(size - at, rng.choice([512, 300 * KIB]))}", path(top))
    before = states(top)
    if rng.random() < 0.5:
        make_layer(rng, "other", [])
        words = ["rebase", *rng.choice([["-b", ""], ["-b", "other", "-F", "qcow2"], ["-b", "layer0", "-F", formats[0]]])]
    else:
        words = ["commit", "-q", *rng.choice([[], ["-d"], ["-b", "layer0"]])]
    qsnap(*words, "-f", "qcow2", "--threads", rng.choice("012"), "--flatten-snapshots", path(top))
    check_all(formats)
    after = states(top)
    for name, want in before.items():
        same_bytes(f"{words}: state '{name}'", after[name], want)
    if not few:
        qsnap("snapshot", "-a", "id=1", path(top))
        same_bytes("the first snapshot, gone back to", flat(top), before["1"])
        check_all(formats)


def resize_keeps_snapshots():
    overlay_with_snapshot()
    want = snapshot_shows("ours")
    qsnap("resize", "-q", "--shrink", path("top"), "512k")
    qsnap("resize", "-q", path("top"), "3M")
    done = qsnap("convert", "-l", "before", "-O", "raw", path("top"), path("out"))
    assert done.status == 0
    with open(path("out"), "rb") as file:
        same_bytes("the snapshot", file.read(), want)
    same_bytes("the disk", flat("top"), b"\3" * 65536 + b"\1" * 65536 + b"\4" * 65536 + b"\1" * (512 * KIB - 3 * 65536)
               + bytes(3 * MIB - 512 * KIB))


def stale_clusters_in_preallocated_ones():
    """Clusters that a shrunk disk gave up and a grown one gets again."""
    fresh()
    qemu_img("create", "-q", "-f", "qcow2", path("top"), "4M")
    qemu_io(path("top"), ["write -P 7 0 4M"])
    qsnap("resize", "-q", "--shrink", path("top"), "1M")
    qsnap("resize", "-q", "--preallocation=metadata", path("top"), "4M")
    same_bytes("the disk", flat("top"), b"\7" * MIB + bytes(3 * MIB))


def main():
    report = qemu.Report()
    report.seeds(10, "commit keeps the disk", commit_keeps_the_disk)
    report.seeds(10, "rebase keeps the disk", rebase_keeps_the_disk)
    report.seeds(8, "resize shows zeros", resize_shows_zeros)
    report.seeds(8, "flattened snapshots stay", flattened_snapshots_stay)
    report.test("commit refuses to change a snapshot", a_snapshot_that_would_change, "commit", "-q")
    report.test("... of a layer above the base", a_snapshot_that_would_change, "commit", "-q", "-b", "base")
    report.test("rebase refuses to change a snapshot", a_snapshot_that_would_change, "rebase", "-b", "other", "-F", "raw")
    report.test("... and so without a backing file", a_snapshot_that_would_change, "rebase", "-b", "")
    report.test("rebase onto the same content keeps one", a_snapshot_that_stays, "rebase", "-b", "copy", "-F", "raw")
    report.test("resize keeps a snapshot's size", resize_keeps_snapshots)
    report.test("preallocated clusters show nothing old", stale_clusters_in_preallocated_ones)
    return report.failed > 0


if __name__ == "__main__":
    raise SystemExit(main())
