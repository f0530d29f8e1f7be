#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 240
"""On XFS and btrfs a conversion shares blocks with its source, unasked; the bytes are those of an ordinary conversion."""
import hashlib
import os
import subprocess

import qemu
from qemu import Wrong, qemu_img, qsnap

SIZE = 64 << 20


def used(path):
    """Bytes that the file system gave out; asked of the whole file system, since shared blocks count in each file."""
    os.sync()
    info = os.statvfs(path)
    return (info.f_blocks - info.f_bfree) * info.f_frsize


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def fill(folder):
    raw = os.path.join(folder, "disk.raw")
    with open(raw, "wb") as file:
        for at in range(0, SIZE, 1 << 20):
            file.seek(at)
            file.write(os.urandom(900 << 10))
        file.truncate(SIZE)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, os.path.join(folder, "disk.qcow2"))
    qemu_img("create", "-q", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", os.path.join(folder, "top.qcow2"))
    qemu.qemu_io(os.path.join(folder, "top.qcow2"), ["write -P 7 3M 5M", "write -P 9 20480k 64k", "write -c -P 8 40M 64k", "write -z 50M 1M"])


def shares(folder, source, output, options, most):
    out = os.path.join(folder, "out")
    qemu.remove(out)
    before = used(folder)
    qsnap("convert", "-f", "qcow2", "-O", output, *options, os.path.join(folder, source), out)
    grown = used(folder) - before
    raw = os.path.join(folder, "flat.raw")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", os.path.join(folder, source), raw)
    qsnap("compare", "-f", output, "-F", "raw", out, raw)
    qemu_img("compare", "-q", "-f", output, "-F", "raw", out, raw)
    if output == "qcow2":
        qemu_img("check", "-q", "-f", "qcow2", out)
    kept = digest(out)
    qemu.remove(out, raw)
    qsnap("convert", "--no-reflink", "-f", "qcow2", "-O", output, *options, os.path.join(folder, source), out)
    plain = digest(out)
    qemu.remove(out)
    if grown > most:
        raise Wrong(f"{grown} bytes more are in use after the conversion, not at most {most}")
    if kept != plain:
        raise Wrong("other bytes than without sharing")


def writes_apart(folder):
    """A copy that shares blocks is still a copy."""
    out = os.path.join(folder, "out")
    qsnap("convert", "-f", "qcow2", "-O", "raw", os.path.join(folder, "disk.qcow2"), out)
    before = digest(os.path.join(folder, "disk.qcow2"))
    with open(out, "r+b") as file:
        file.write(b"x" * SIZE)
    if digest(os.path.join(folder, "disk.qcow2")) != before:
        raise Wrong("a write into the copy changed the source")
    qemu.remove(out)


def on(kind, report):
    disk, folder = os.path.join(qemu.TMP, kind + ".disk"), os.path.join(qemu.TMP, kind)
    with open(disk, "wb") as file:
        file.truncate(700 << 20)
    os.makedirs(folder, exist_ok=True)
    try:
        qemu.run("mkfs." + kind, "-q", disk)
        device = qemu.run("losetup", "-f", "--show", disk).out.strip()
    except (Wrong, OSError) as why:
        report.skip(f"reflinks on {kind}", str(why).splitlines()[0])
        return
    try:
        qemu.run("mount", device, folder)
        try:
            fill(folder)
            some = 8 << 20
            for name, arguments in {
                    "raw": ("disk.qcow2", "raw", [], some), "qcow2": ("disk.qcow2", "qcow2", [], some),
                    "chain to raw": ("top.qcow2", "raw", [], some), "chain to qcow2": ("top.qcow2", "qcow2", [], some),
                    "raw, threads 0": ("disk.qcow2", "raw", ["--threads", "0"], some),
                    "qcow2 of other clusters": ("disk.qcow2", "qcow2", ["-o", "cluster_size=2M"], SIZE + 2 * some),
                    "qcow2 with -C": ("disk.qcow2", "qcow2", ["-C"], some)}.items():
                report.test(f"reflinks on {kind}: {name}", shares, folder, *arguments)
            report.test(f"reflinks on {kind}: a copy is a copy", writes_apart, folder)
        finally:
            subprocess.run(["umount", folder], check=False)
    except Wrong as why:
        report.skip(f"reflinks on {kind}", str(why).splitlines()[0])
    finally:
        subprocess.run(["losetup", "-d", device], check=False)


result = qemu.Report()
if os.geteuid() != 0:
    print("mounting a file system needs root")
    raise SystemExit(77)
for file_system in ("xfs", "btrfs"):
    on(file_system, result)
result.finish()
