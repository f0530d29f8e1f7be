# SPDX-License-Identifier: Apache-2.0
"""Judges images of the disks of the small guest (tests/vm/guest/writer.c writes them; what a record is stands there, too).

The writer puts record N to the ring of disk A, to a file on A's ext4, to the ring of B, to a file on B's ext4, each durably
before the next. So images are of one instant only if the newest records of these four places, in that order, never grow
and differ by at most one; and each place holds, without a hole, all records that it reaches back to.
"""
import errno
import os
import re
import shutil
import struct
import subprocess
import tempfile
import zlib

RECORD, RING_START, RING_SIZE, EXT4_START = 512, 1 << 20, 4 << 20, 8 << 20
SEGMENT_RECORDS, SEGMENTS_KEPT = 1024, 7  # the writer keeps one more, which goes when a new one begins
ZEROS = bytes(1 << 20)
RING, FILES = 0, 1
NAMES = {RING: "ring", FILES: "files"}
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
NEEDS_RECOVERY = 4


class Wrong(Exception):
    """What is wrong with the images."""


def tool(*command, want=(0,)):
    command = [str(word) for word in command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
                          check=False, env={**os.environ, "PATH": PATH, "LC_ALL": "C"})
    if done.returncode not in want:
        raise Wrong(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout[-1500:]}")
    return done.stdout


def parse(block, disk, kind):
    """The number of a whole record of that place, or None when there was never one; Wrong for anything else."""
    if block == ZEROS[:RECORD]:
        return None
    magic, number, at, of_kind = struct.unpack_from("<8sQII", block)
    if magic != b"qsnaprec":
        raise Wrong(f"not a record: {block[:16]!r}")
    if zlib.crc32(block[:-4]) != struct.unpack("<I", block[-4:])[0]:
        raise Wrong(f"record {number} is not whole")
    if (at, of_kind) != (disk, kind):
        raise Wrong(f"record {number} belongs to disk {'ABCD'[at]}, {NAMES.get(of_kind, of_kind)}")
    return number


def blocks(data):
    return [data[i:i + RECORD] for i in range(0, len(data), RECORD)]


def read_ring(data, disk):
    """The oldest and newest record of a ring that must have every one between."""
    numbers = []
    for slot, block in enumerate(blocks(data)):
        try:
            number = parse(block, disk, RING)
        except Wrong as why:
            raise Wrong(f"sector {slot} of the ring: {why}") from None
        if number is not None and number % (RING_SIZE // RECORD) != slot:
            raise Wrong(f"sector {slot} of the ring has record {number}")
        numbers.append(number)
    found = sorted(number for number in numbers if number is not None)
    return without_hole(found, max(1, found[-1] - RING_SIZE // RECORD + 1) if found else 0)


def without_hole(found, oldest):
    """(oldest, newest); `oldest` is the one that must still be there."""
    if not found:
        return 0, 0
    missing = sorted(set(range(oldest, found[-1] + 1)) - set(found))
    if missing:
        raise Wrong(f"records {missing[0]}..{missing[-1]} ({len(missing)}) are missing below record {found[-1]}")
    return oldest, found[-1]


def read_files(folder, disk):
    """The same of the files, each with the records of one segment."""
    found, segments = [], sorted(int(name[4:]) for name in os.listdir(folder) if re.fullmatch(r"log\.\d+", name))
    for segment in segments:
        with open(os.path.join(folder, f"log.{segment:08d}"), "rb") as file:
            data = file.read()
        for i, block in enumerate(blocks(data)):
            wanted = segment * SEGMENT_RECORDS + i
            try:
                number = parse(block, disk, FILES) if len(block) == RECORD else None
            except Wrong as why:
                raise Wrong(f"log.{segment:08d}, place {i}: {why}") from None
            if number is None and wanted == 0:
                continue  # there is no record 0
            if number != wanted:
                raise Wrong(f"log.{segment:08d}, place {i}: record {number} instead of {wanted}")
            found.append(number)
    if not found:
        return 0, 0
    oldest = max(1, (found[-1] // SEGMENT_RECORDS - SEGMENTS_KEPT + 1) * SEGMENT_RECORDS)
    return without_hole(found, oldest)


def next_data(fd, at, end):
    """Where the next bytes that are no hole begin; block devices have none."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as why:
        return end if why.errno == errno.ENXIO else at


def copy_part(source, start, target):
    """The file from `start` on, holes for zeros."""
    with open(source, "rb", buffering=0) as file, open(target, "wb") as out:
        end = file.seek(0, os.SEEK_END)
        at = start
        while (at := next_data(file.fileno(), at, end)) < end:
            file.seek(at)
            data = file.read(min(len(ZEROS), end - at))
            if data != ZEROS[:len(data)]:
                out.seek(at - start)
                out.write(data)
            at += len(data)
        out.truncate(end - start)


def check_ext4(path, quiesced):
    """Leaves the image clean, journal replayed; Wrong when it is not what a crash, or a freeze, may leave."""
    with open(path, "rb") as file:
        file.seek(1024)
        block = file.read(1024)
    if block[56:58] != b"\x53\xef":
        raise Wrong("no ext4 file system")
    if struct.unpack_from("<I", block, 96)[0] & NEEDS_RECOVERY:
        if quiesced:
            raise Wrong("the journal of the file system needs recovery")
        tool("e2fsck", "-fy", "-E", "journal_only", path, want=(0, 1))
    tool("e2fsck", "-fn", path)


def flat(path, work):
    """The image as a raw file: itself, or a copy."""
    with open(path, "rb") as file:
        if file.read(4) != b"QFI\xfb":
            return path
    target = os.path.join(work, "flat.raw")
    program = os.environ.get("CHECK_WITH", "")
    tool(*([program, "convert"] if program else ["qemu-img", "convert"]), "-f", "qcow2", "-O", "raw", path, target)
    return target


def check_disk(path, disk, quiesced):
    """The newest record of the ring and of the files of one image."""
    with tempfile.TemporaryDirectory(prefix="check-disks.", dir=os.environ.get("TEST_TMP")) as work:
        image = flat(path, work)
        with open(image, "rb") as file:
            file.seek(RING_START)
            _, ring = read_ring(file.read(RING_SIZE), disk)
        ext4 = os.path.join(work, "ext4")
        copy_part(image, EXT4_START, ext4)
        check_ext4(ext4, quiesced)
        files = os.path.join(work, "files")
        os.mkdir(files)
        tool("debugfs", "-R", f"rdump / {files}", ext4)
        _, newest = read_files(files, disk)
        shutil.rmtree(files)
    return ring, newest


def check_disks(paths, quiesced=False, least=0, most=None):
    """The newest record of each place of all images, [(ring, files), ...]; Wrong tells what is wrong."""
    found = []
    for disk, path in enumerate(paths):
        try:
            found.append(check_disk(path, disk, quiesced))
        except Wrong as why:
            raise Wrong(f"disk {'ABCD'[disk]} ({path}): {why}") from None
    line = [number for pair in found for number in pair]
    told = tell(found)
    if sorted(line, reverse=True) != line or line[0] - line[-1] > 1:
        raise Wrong(f"not of one instant: {told}")
    if line[-1] < least:
        raise Wrong(f"records are lost: {told}, and {least} had been told of before")
    if most is not None and line[0] > most:
        raise Wrong(f"records of later: {told}, after record {most}")
    return found


def tell(found):
    return ", ".join(f"{'ABCD'[disk]}: ring {ring}, files {files}" for disk, (ring, files) in enumerate(found))
