#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random chains made by qemu-img and qemu-io: qsnap's map and its content are those of qemu-img.

usage: map-matches-qemu-img.py [ROUNDS [SEED]]      QSNAP=path of qsnap (default build/qsnap)
"""
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile

QSNAP = os.path.abspath(os.environ.get("QSNAP", "build/qsnap"))


def run(*argv, may_fail=False):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode and not may_fail:
        raise SystemExit("%s: status %d\n%s" % (" ".join(argv), p.returncode, p.stderr.decode()))
    return p.stdout


def writes(rnd, size, cluster, compressed_only, can_compress, can_discard):
    """qemu-io commands that leave all kinds of clusters behind."""
    commands = []
    for _ in range(rnd.randrange(1, 14)):
        kind = "c" if compressed_only else rnd.choice("wwwwzzd" + ("cc" if can_compress else ""))
        if kind == "c":
            at = rnd.randrange(0, max(1, size // cluster)) * cluster
            n = min(cluster, size - at)
            if n % cluster and at + n != size:
                continue
            commands.append("write -c -P %d %d %d" % (rnd.randrange(1, 255), at, n))
            continue
        unit = rnd.choice([512, 4096, cluster])
        at = rnd.randrange(0, max(1, size // unit)) * unit
        n = min(rnd.randrange(1, 6) * rnd.choice([unit, cluster]), size - at)
        if n <= 0:
            continue
        if kind == "w":
            commands.append("write -P %d %d %d" % (rnd.randrange(1, 255), at, n))
        elif kind == "z":
            commands.append("write -z %s %d %d" % (rnd.choice(["", "-u"]), at, n))
        elif can_discard:
            commands.append("discard %d %d" % (at, n))
    return commands


def make_layer(rnd, name, below, below_format, base_size):
    """Creates one layer; returns its format."""
    size = max(512, int(base_size * rnd.choice([1, 1, 1, 0.5, 1.7])) // 512 * 512)
    if below is None and rnd.random() < 0.3:
        run("qemu-img", "create", "-q", "-f", "raw", name, str(size))
        args = sum([["-c", c] for c in writes(rnd, size, 65536, False, False, True)], [])
        run("qemu-io", "-f", "raw", "-d", "unmap", *args, name)
        return "raw"
    cluster = 1 << rnd.randrange(9, 22)
    extended = cluster >= 16384 and rnd.random() < 0.4
    old = not extended and rnd.random() < 0.2
    opts = ["cluster_size=%d" % cluster]
    if extended:
        opts.append("extended_l2=on")
    if old:
        opts.append("compat=0.10")
    elif rnd.random() < 0.3:
        opts.append("compression_type=zstd")
    data_file = below is None and not old and rnd.random() < 0.25
    if data_file:
        opts.append("data_file=" + name + ".data")
        if rnd.random() < 0.5:
            opts.append("data_file_raw=on")
    if (below is None or extended) and rnd.random() < 0.2 and "data_file_raw=on" not in opts:
        opts.append("preallocation=metadata")
    backing = ["-b", below, "-F", below_format] if below else []
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", ",".join(opts), *backing, name, str(size))
    commands = writes(rnd, size, cluster, False, not data_file, not (old and below))
    # A compressed write over an allocated cluster fails: the others count.
    run("qemu-io", "-f", "qcow2", "-d", "unmap", *sum([["-c", c] for c in commands], []), name, may_fail=True)
    return "qcow2"


def normal(text):
    """The extents with neighbours merged that differ in nothing but their place."""
    out = []
    for x in json.loads(text):
        x.pop("compressed", None)
        last = out[-1] if out else None
        if last and all(last[k] == x[k] for k in ("depth", "present", "zero", "data")) and (
                last.get("offset", -1) + last["length"] == x["offset"] if "offset" in x else "offset" not in last):
            last["length"] += x["length"]
        else:
            out.append(x)
    return out


def known_difference(ours, theirs):
    """QEMU gives a host offset for parts of an extended cluster that are not allocated; no reader can use it."""
    def strip(xs):
        return json.dumps([dict(x, offset=x.get("offset") if x["present"] else None) for x in xs], sort_keys=True)

    def merged(xs):
        return normal(json.dumps([{k: v for k, v in x.items() if k != "offset" or x["present"]} for x in xs]))
    return strip(merged(ours)) == strip(merged(theirs))


def compare(name, fmt):
    ours = normal(run(QSNAP, "map", "--output=json", "-f", fmt, name))
    theirs = normal(run("qemu-img", "map", "--output=json", "-f", fmt, name))
    if ours != theirs and not known_difference(ours, theirs):
        for a, b in zip(ours + [None] * len(theirs), theirs + [None] * len(ours)):
            if a != b:
                raise SystemExit("map of %s differs:\n qsnap    %s\n qemu-img %s" % (name, a, b))
    run("qemu-img", "convert", "-f", fmt, "-O", "raw", name, name + ".theirs")
    run(QSNAP, "convert", "-f", fmt, "-O", "raw", name, name + ".ours")
    sums = []
    for which in (".theirs", ".ours"):
        with open(name + which, "rb") as f:
            sums.append(hashlib.sha256(f.read()).hexdigest())
        os.unlink(name + which)
    if sums[0] != sums[1]:
        raise SystemExit("content of %s differs" % name)


def one_round(rnd, folder):
    os.chdir(folder)
    below = below_format = None
    base_size = rnd.choice([1, 3, 7, 20]) * (1 << 20) + rnd.choice([0, 512, 66048])
    for i in range(rnd.randrange(1, 6)):
        name = "layer%d" % i
        fmt = make_layer(rnd, name, below, below_format, base_size)
        compare(name, fmt)
        below, below_format = name, fmt


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    for i in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            try:
                one_round(random.Random(seed + i), folder)
            except SystemExit as e:
                keep = tempfile.mkdtemp(prefix="map-differs-")
                run("cp", "-a", folder + "/.", keep)
                raise SystemExit("round with seed %d (images kept in %s): %s" % (seed + i, keep, e))
            finally:
                os.chdir("/")
    print("%d random chains from seed %d: same map, same content" % (rounds, seed))


if __name__ == "__main__":
    main()
