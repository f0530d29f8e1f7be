#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# time limit: 300
"""Random images of every kind, written by qemu-io, read by ours: the bytes and what info, map, check, measure tell are qemu-img's."""
import os

import qemu
from qemu import Wrong, qemu_img, qsnap, same_files


def in_folder(folder, name):
    return os.path.join(folder, name)


def different(what, ours, theirs):
    if ours == theirs:
        return
    if isinstance(ours, list) and isinstance(theirs, list):
        for i, (a, b) in enumerate(zip(ours, theirs)):
            if a != b:
                raise Wrong(f"{what} differs at [{i}]: ours {a}, qemu-img's {b} (lengths {len(ours)}, {len(theirs)})")
    raise Wrong(f"{what} differs:\n  ours       {ours}\n  qemu-img's {theirs}")


def bytes_are_the_same(image):
    ours, theirs = in_folder(image.folder, "ours.raw"), in_folder(image.folder, "theirs.raw")
    for version, peer in qemu.PEERS:
        qemu.run(peer, "convert", "-f", "qcow2", "-O", "raw", image.path, theirs)
        qsnap("convert", "-f", "qcow2", "-O", "raw", image.path, ours)
        try:
            same_files(ours, theirs)
        except Wrong as why:
            raise Wrong(f"convert -O raw, against qemu-img {version}: {why}") from None
    qsnap("compare", "-f", "qcow2", "-F", "raw", image.path, theirs)
    for name in image.names:
        qemu_img("convert", "-f", "qcow2", "-O", "raw", "-l", name, image.path, theirs)
        qsnap("convert", "-f", "qcow2", "-O", "raw", "-l", name, image.path, ours)
        same_files(ours, theirs)
    copy = in_folder(image.folder, "copy.qcow2")
    qsnap("convert", "-f", "qcow2", "-O", "qcow2", image.path, copy)
    qemu_img("check", "-q", copy)
    qemu_img("compare", "-q", image.path, copy)


def without_more(value):
    """What ours tells of a snapshot beyond qemu-img, under its own name, must be there, and is left out."""
    if isinstance(value, list):
        return [without_more(item) for item in value]
    if not isinstance(value, dict):
        return value
    more = ("virtual-size", "exclusive-bytes", "shared-bytes") if "vm-state-size" in value else ()
    for key in more:
        if not isinstance(value.get(key), int):
            raise Wrong(f"no {key} in {value}")
    return {key: without_more(item) for key, item in value.items() if key not in more}


def told_the_same(image):
    if not qemu.MODERN:
        return
    for words in (["info", "--output=json"], ["info", "--output=json", "--backing-chain"], ["map", "--output=json"],
                  ["check", "--output=json"], ["measure", "--output=json", "-O", "raw"], ["measure", "--output=json", "-O", "qcow2"]):
        format_option = ["-f", "qcow2"] if words[0] != "info" else []
        theirs = qemu_img(*words, *format_option, image.path, want=None)
        ours = qsnap(*words, *format_option, image.path, want=theirs.status)
        if theirs.out.strip():
            different(" ".join(words), without_more(ours.json()), theirs.json())


def one(seed):
    image = qemu.image(seed)
    try:
        bytes_are_the_same(image)
        told_the_same(image)
    except Wrong as why:
        raise Wrong(f"{image}\n{why}") from None


report = qemu.Report()
report.seeds(len(qemu.FORCED), "we read what qemu writes,", one)
if not qemu.MODERN:
    report.skip("what we tell equals qemu-img's JSON", "no qemu-img 10 to compare with")
report.finish()
