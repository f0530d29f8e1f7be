# SPDX-License-Identifier: Apache-2.0
"""What `make demo` shows: an ext4 disk of this machine's own files on a chain of three images, flattened and verified.

base.qcow2 is made by qsnap (compressed), the two overlays by `qsnap create`. Part 1 of qsnap does not write in place or take
internal snapshots: that is done here by qemu-io and qemu-img, from the packages that the tests need. Everything else is qsnap.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QSNAP = os.path.join(TOP, "build/qsnap")
ROOTS = ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/share/doc", "/usr/lib", "/usr/share")
CONTENT, CHANGE, CLUSTER = 400_000_000, 25_000_000, 65536
PROGRESS = sys.stdout.isatty()
table = []


def step(text):
    print(f"\n{text}", flush=True)


def run(*command, show=True, quiet=False):
    """Runs it, showing the command as one could type it; seconds."""
    words = [str(word) for word in command]
    if show:
        print("  $ " + " ".join(os.path.basename(words[0]) if i == 0 else word for i, word in enumerate(words)), flush=True)
    begin = time.monotonic()
    done = subprocess.run(words, stdout=subprocess.DEVNULL if quiet else None, check=False)
    if done.returncode:
        sys.exit(f"demo: {words[0]} ended with status {done.returncode}")
    return time.monotonic() - begin


def note(what, seconds, *files):
    size = sum(os.stat(path).st_size for path in files)
    used = sum(os.stat(path).st_blocks * 512 for path in files)
    table.append((what, f"{seconds:.2f} s" if seconds else "", f"{size / 1e6:,.1f}", f"{used / 1e6:,.1f}"))


def choose(limit, seen):
    """Files of this machine, `limit` bytes or all there are, none twice."""
    size, chosen = 0, []
    for root in ROOTS:
        room = limit if root == ROOTS[-1] else max(limit // 3, limit - size - limit // 2)
        used = 0
        for folder, folders, names in os.walk(root):
            folders.sort()
            for path in (os.path.join(folder, name) for name in sorted(names)):
                if path in seen or os.path.islink(path) or not os.path.isfile(path) or not os.access(path, os.R_OK) or " " in path:
                    continue
                length = os.path.getsize(path)
                if 0 < length < 30_000_000 and size + length <= limit and used + length <= room:
                    seen.add(path)
                    chosen.append(path)
                    size += length
                    used += length
    return chosen, size


def change(disk, folder, files):
    """Writes these files into the file system on the raw disk, without mounting it (and without root)."""
    commands = os.path.join(os.path.dirname(disk), "debugfs.cmd")
    with open(commands, "w", encoding="utf-8") as out:
        out.write(f"mkdir /{folder}\n")
        for number, path in enumerate(files):
            out.write(f"write {path} /{folder}/{number}-{os.path.basename(path)}\n")
    subprocess.run(["debugfs", "-w", "-f", commands, disk], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def write_differences(old, new, image, compressed):
    """qemu-io writes into `image` each cluster in which the raw disks differ; every third one compressed when asked."""
    pieces = tempfile.mkdtemp(prefix="pieces.", dir=os.path.dirname(image))
    words, count = ["qemu-io", "-f", "qcow2"], 0
    with open(old, "rb") as a, open(new, "rb") as b:
        size = os.path.getsize(new)
        for at in range(0, size, CLUSTER):
            before, after = a.read(CLUSTER), b.read(CLUSTER)
            if before != after:
                piece = os.path.join(pieces, str(count))
                with open(piece, "wb") as out:
                    out.write(after)
                flag = "-c " if compressed and count % 3 == 0 else ""
                words += ["-c", f"write -q {flag}-s {piece} {at} {len(after)}"]
                count += 1
    run(*words, image, show=False)
    print(f"  (qemu-io wrote {count} clusters into {os.path.basename(image)})")
    shutil.rmtree(pieces)


def flatten(title, source, target, *options):
    progress = ["-p"] if PROGRESS else []
    seconds = run(QSNAP, "convert", *progress, *options, source, target)
    note(title, seconds, target)


def main():
    work = tempfile.mkdtemp(prefix="qsnap-demo.", dir=os.environ.get("DEMO_DIR", "/var/tmp"))
    os.chdir(work)
    try:
        show()
    finally:
        if os.environ.get("DEMO_KEEP") != "1":
            os.chdir("/")
            shutil.rmtree(work, ignore_errors=True)
        else:
            print(f"The images are in {work}")


def make_chain(seen):
    files, size = choose(CONTENT, seen)
    step(f"A disk of 1 GiB: ext4 with {size / 1e6:.0f} MB in {len(files)} files of this machine")
    for path in files:
        os.makedirs("tree" + os.path.dirname(path), exist_ok=True)
        shutil.copyfile(path, "tree" + path)
    run("mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", "tree", "disk.raw", "1g")
    shutil.rmtree("tree")

    step("A chain of three: base (compressed) <- middle <- top, with an internal snapshot in top")
    flatten("base.qcow2, compressed", "disk.raw", "base.qcow2", "-c", "-f", "raw", "-O", "qcow2")
    run(QSNAP, "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "middle.qcow2")
    for image, folder, snapshot in (("middle.qcow2", "one", None), ("top.qcow2", "two", None), ("top.qcow2", "three", "before-three")):
        if image == "top.qcow2" and not snapshot:
            run(QSNAP, "create", "-q", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", image)
        if snapshot:
            run("qemu-img", "snapshot", "-c", snapshot, image)
            shutil.copyfile("disk.raw", "snapshot.raw")
        subprocess.run(["cp", "--sparse=always", "disk.raw", "next.raw"], check=True)
        change("next.raw", folder, choose(CHANGE, seen)[0])
        write_differences("disk.raw", "next.raw", image, compressed=snapshot is None)
        os.rename("next.raw", "disk.raw")
    for image in ("middle.qcow2", "top.qcow2"):
        note(image, 0, image)


def show():
    make_chain(set())
    step("What qsnap says about it")
    run(QSNAP, "info", "top.qcow2")
    run(QSNAP, "snapshot", "-l", "top.qcow2")
    run(QSNAP, "check", "top.qcow2")

    step("Flattened")
    flatten("flat.raw (chain of 3 → raw)", "top.qcow2", "flat.raw", "-O", "raw")
    flatten("flat.qcow2 (chain of 3 → qcow2 -c)", "top.qcow2", "flat.qcow2", "-c", "-O", "qcow2")
    flatten("before-three.raw (the snapshot → raw)", "top.qcow2", "before-three.raw", "-l", "before-three", "-O", "raw")

    step("Verified")
    for image, options in (("flat.raw", ["-F", "raw"]), ("flat.qcow2", ["-F", "qcow2"])):
        run(QSNAP, "compare", "-f", "qcow2", *options, "top.qcow2", image)
    run(QSNAP, "check", "flat.qcow2")
    run("cmp", "disk.raw", "flat.raw")
    run("cmp", "snapshot.raw", "before-three.raw")
    run("e2fsck", "-fn", "flat.raw")
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "disk.raw", "flat.qcow2")

    print(f"\n{'':40} {'time':>9} {'length MB':>12} {'on disk MB':>12}")
    for what, seconds, size, used in table:
        print(f"{what:40} {seconds:>9} {size:>12} {used:>12}")
    print("\nAll verified: both flat images read as the chain does, the file system in them is sound.")


main()
