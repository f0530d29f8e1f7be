#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 240
"""Standard output as a pipe takes raw, qcow2 and compressed qcow2 of any chain; what arrives is a sound image."""
import os
import subprocess

import qemu
from qemu import Wrong, qemu_img

WAYS = [["-O", "raw"], ["-O", "qcow2"], ["-O", "qcow2", "-c"], ["-O", "qcow2", "-c", "--two-pass"],
        ["-O", "qcow2", "-o", "extended_l2=on"], ["-O", "qcow2", "-o", "cluster_size=512"],
        ["-O", "qcow2", "-o", "compat=0.10,cluster_size=4096"], ["-O", "qcow2", "-c", "-o", "compression_type=zstd,refcount_bits=1"],
        ["-O", "qcow2", "-o", "preallocation=metadata"]]


def through_a_pipe(arguments, out):
    """Reads in pieces of odd sizes, as a network would; the reader must not be able to seek."""
    command = [qemu.QSNAP, "convert", *arguments, "-"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with open(out, "wb") as file:
        while piece := child.stdout.read1(31013):
            file.write(piece)
    errors = child.stderr.read().decode()
    if child.wait():
        raise Wrong(f"`{' '.join(command)}`: status {child.returncode}: {errors}")


def one(seed):
    image = qemu.image(seed)
    flat, out = os.path.join(image.folder, "flat.raw"), os.path.join(image.folder, "piped")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", image.path, flat)
    for way in WAYS:
        output = way[1]
        for source, kind in ((image.path, "qcow2"), (flat, "raw")):
            try:
                through_a_pipe(["-f", kind, *way, source], out)
                if output == "qcow2":
                    qemu_img("check", "-q", "-f", "qcow2", out)
                    qemu_img("compare", "-q", "-f", "qcow2", "-F", "raw", out, flat)
                else:
                    qemu.same_files(out, flat)
            except Wrong as why:
                raise Wrong(f"{image}\n{' '.join(way)} of {kind}: {why}") from None


def reader_goes_away():
    """`qsnap convert ... - | head -c 1`: an error, not a crash and not a hang."""
    path = os.path.join(qemu.TMP, "zeros.raw")
    with open(path, "wb") as file:
        file.write(os.urandom(8 << 20))
    child = subprocess.Popen([qemu.QSNAP, "convert", "-f", "raw", "-O", "qcow2", "-c", path, "-"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    child.stdout.read(1)
    child.stdout.close()
    child.stderr.read()
    status = child.wait(timeout=30)
    if status not in (1, -13):
        raise Wrong(f"status {status} when nobody reads")


report = qemu.Report()
report.test("pipes: the reader goes away", reader_goes_away)
report.seeds(12, "pipes carry whole images,", one)
report.finish()
