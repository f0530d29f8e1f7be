# SPDX-License-Identifier: Apache-2.0
"""The disks that bench/run measures with, made once into a cache folder.

The main one is an ext4 file system of real files (a seeded sample of this machine's /usr) as one qcow2 of 64 KiB clusters;
what qemu-img and mke2fs can make they make. Images of many scattered clusters (overlays, 8 TiB) are written here, since no
tool makes them in reasonable time; `qemu-img check` passes each.
"""
import multiprocessing
import os
import random
import shutil
import struct
import subprocess

CLUSTER = 65536
ROOTS = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/share", "/usr/include", "/usr/local")


class Plan:
    """How large the disk is: the one of the table, or a small one for a try."""

    def __init__(self, quick):
        self.virtual = (1 << 30) if quick else (8 << 30)
        self.content = 300_000_000 if quick else 2_400_000_000
        self.layers = 8 if quick else 32
        self.long = 16 if quick else 64
        self.scattered = 100 if quick else 600
        self.large = (64 << 30) if quick else (1 << 40)
        self.huge = (512 << 30) if quick else (8 << 40)
        self.deep = 40 if quick else 200
        self.name = "quick" if quick else "full"


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout.decode(errors='replace')}")


def sample_files(total):
    """A seeded choice of regular files below ROOTS, of `total` bytes or all there are."""
    found = []
    for root in ROOTS:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                try:
                    info = os.lstat(path)
                except OSError:
                    continue
                if 0 < info.st_size < (256 << 20) and os.path.isfile(path) and not os.path.islink(path) and os.access(path, os.R_OK):
                    found.append((path, info.st_size))
    random.Random(20).shuffle(found)
    size, chosen = 0, []
    for path, length in found:
        if size + length > total:
            continue
        chosen.append(path)
        size += length
    return chosen, size


def make_ext4(raw, virtual, content):
    """A raw ext4 disk of real files; tells how many bytes they are."""
    chosen, size = sample_files(content)
    tree = raw + ".tree"
    shutil.rmtree(tree, ignore_errors=True)
    for path in chosen:
        target = tree + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(path, target)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-E", "root_owner=0:0,hash_seed=6e8a0c5e-0f2f-4c53-9a0b-1f2d3c4b5a69", "-U",
        "6e8a0c5e-0f2f-4c53-9a0b-1f2d3c4b5a69", "-d", tree, raw, f"{virtual >> 10}k")
    shutil.rmtree(tree)
    return size


def write_qcow2(path, virtual, clusters, read_cluster, backing=None):
    """A version 3 image with these guest clusters (ascending numbers are not needed) allocated in the order given.
    read_cluster(n) gives the bytes of the n-th of them, None leaves a hole in the file. Data lies behind all metadata."""
    per_table = CLUSTER // 8
    l1_entries = -(-virtual // (CLUSTER * per_table))
    l1_clusters = -(-l1_entries * 8 // CLUSTER)
    tables = sorted({guest // per_table for guest in clusters})
    fixed = 1 + 1 + l1_clusters + len(tables)
    blocks = 0
    while blocks * (CLUSTER // 2) < fixed + blocks + len(clusters):
        blocks += 1
    data_at = fixed + blocks
    total = data_at + len(clusters)
    header = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, virtual, 0, l1_entries, 2 * CLUSTER, CLUSTER, 1, 0, 0,
                         0, 0, 0, 4, 104)
    if backing:
        extensions = struct.pack(">II8s", 0xE2792ACA, 5, b"qcow2") + bytes(8)
        name = os.fsencode(backing)
        header = header[:8] + struct.pack(">QI", 104 + len(extensions), len(name)) + header[20:] + extensions + name
    table_at = {table: (2 + l1_clusters + i) * CLUSTER for i, table in enumerate(tables)}
    l1 = bytearray(l1_clusters * CLUSTER)
    for table, host in table_at.items():
        struct.pack_into(">Q", l1, table * 8, host | 1 << 63)
    with open(path, "wb") as out:
        out.write(header)
        out.seek(CLUSTER)
        out.write(struct.pack(f">{blocks}Q", *(((fixed + i) * CLUSTER) for i in range(blocks))))
        out.seek(2 * CLUSTER)
        out.write(l1)
        for i, guest in enumerate(clusters):
            out.seek(table_at[guest // per_table] + guest % per_table * 8)
            out.write(struct.pack(">Q", (data_at + i) * CLUSTER | 1 << 63))
        out.seek(fixed * CLUSTER)
        out.write(b"\0\1" * total)
        for i in range(len(clusters)):
            data = read_cluster(i)
            if data is not None:
                out.seek((data_at + i) * CLUSTER)
                out.write(data)
        out.truncate(total * CLUSTER)


class Cache:
    """The source images by name; each is made when first asked for."""

    def __init__(self, folder, plan, qemu_img):
        self.folder, self.plan, self.qemu_img = os.path.join(folder, plan.name), plan, qemu_img
        os.makedirs(self.folder, exist_ok=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def get(self, name):
        """The files that image `name` consists of, itself first. They are made in a process of their own: a started program's
        largest resident set counts from what its parent had."""
        make = getattr(self, "make_" + name)
        child = multiprocessing.get_context("fork").Process(target=make)
        child.start()
        child.join()
        if child.exitcode:
            raise SystemExit(f"the source image {name} could not be made")
        return make()

    def once(self, name, make, sound=True):
        path = self.path(name)
        if not os.path.exists(path):
            print(f"  making {name} ...", flush=True)
            temporary = self.path("making." + name)
            if os.path.exists(temporary):
                os.unlink(temporary)
            make(temporary)
            if sound:
                run(self.qemu_img, "check", "-q", "-f", "qcow2", temporary)
            os.rename(temporary, path)
        return path

    def make_plain(self):
        def make(temporary):
            raw = self.path("disk.raw")
            size = make_ext4(raw, self.plan.virtual, self.plan.content)
            run(self.qemu_img, "convert", "-f", "raw", "-O", "qcow2", raw, temporary)
            os.unlink(raw)
            with open(self.path("content"), "w", encoding="ascii") as out:
                out.write(f"{size}\n")
        return [self.once("plain.qcow2", make)]

    def content(self):
        with open(self.path("content"), encoding="ascii") as file:
            return int(file.read())

    def compressed(self, codec):
        plain = self.make_plain()[0]
        return [self.once(f"{codec}.qcow2", lambda t: run(self.qemu_img, "convert", "-W", "-m", "16", "-c", "-o",
                                                          f"compression_type={codec}", "-O", "qcow2", plain, t))]

    def make_zlib(self):
        return self.compressed("zlib")

    def make_zstd(self):
        return self.compressed("zstd")

    def donor(self):
        """Real bytes for overlays: this machine's shared libraries, one after the other."""
        chosen, _ = sample_files(64 << 20)
        data = b"".join(open(path, "rb").read() for path in chosen)
        return data + bytes(-len(data) % CLUSTER)

    def overlay(self, seed, count, donor, backing, path):
        rng = random.Random(seed)
        clusters = sorted(rng.sample(range(self.plan.virtual // CLUSTER), count))
        pieces = [rng.randrange(len(donor) // CLUSTER) * CLUSTER for _ in clusters]
        write_qcow2(path, self.plan.virtual, clusters, lambda i: donor[pieces[i]:pieces[i] + CLUSTER], backing)

    def make_pair(self):
        """Two compressed layers: the disk and an overlay that replaces some of it."""
        base = self.make_zlib()[0]

        def make(temporary):
            loose = self.path("loose.qcow2")
            self.overlay(7, self.plan.scattered * 4, self.donor(), os.path.basename(base), loose)
            run(self.qemu_img, "convert", "-c", "-O", "qcow2", "-B", os.path.basename(base), "-F", "qcow2", loose, temporary)
            os.unlink(loose)
        return [self.once("pair.qcow2", make), base]

    def make_chain(self):
        return self.chain_of(self.plan.layers)

    def make_chain64(self):
        """64 with the disk below; the first ones are those of the shorter chain."""
        return self.chain_of(self.plan.long - 1)

    def chain_of(self, layers):
        """Overlays with scattered clusters over the disk."""
        files = self.make_plain()
        donor = None
        for layer in range(layers):
            below = os.path.basename(files[0])
            name = f"chain{layer + 1}.qcow2"
            if donor is None and not os.path.exists(self.path(name)):
                donor = self.donor()
            files.insert(0, self.once(name, lambda t, b=below, n=layer: self.overlay(100 + n, self.plan.scattered, donor, b, t)))
        return files

    def make_large(self):
        return [self.once("large.qcow2", lambda t: run(self.qemu_img, "create", "-q", "-f", "qcow2", "-o",
                                                       "preallocation=metadata", t, str(self.plan.large)))]

    def damaged_large(self, name, damage):
        """The same, damaged: damage(file, clusters, entry, refcount) with the host offsets of a guest cluster's L2 entry and of a host
        cluster's refcount."""
        def make(temporary):
            run("cp", "--sparse=always", self.make_large()[0], temporary)
            with open(temporary, "r+b", buffering=0) as file:
                size, _, l1_entries, l1_at, table_at = struct.unpack(">QIIQQ", os.pread(file.fileno(), 32, 24))
                tables = [x & ~(1 << 63) for x in struct.unpack(f">{l1_entries}Q", os.pread(file.fileno(), l1_entries * 8, l1_at))]
                blocks = struct.unpack(f">{CLUSTER // 8}Q", os.pread(file.fileno(), CLUSTER, table_at))
                damage(file.fileno(), size // CLUSTER, lambda n: tables[n // 8192] + n % 8192 * 8,
                       lambda n: blocks[n // 32768] + n % 32768 * 2)
        return [self.once(name, make, sound=False)]

    def make_leaked(self):
        """One cluster in a hundred is referred to no more."""
        def damage(file, clusters, entry, _):
            for n in random.Random(10).sample(range(clusters), clusters // 100):
                os.pwrite(file, bytes(8), entry(n))
        return self.damaged_large("leaked.qcow2", damage)

    def make_corrupted(self):
        """One refcount in a hundred is 0 or 2, one COPIED bit in a hundred is missing."""
        def damage(file, clusters, entry, refcount):
            rng = random.Random(11)
            for n in rng.sample(range(clusters), clusters // 100):
                os.pwrite(file, struct.pack(">H", rng.randrange(2) * 2), refcount(n))
            for n in rng.sample(range(clusters), clusters // 100):
                old = os.pread(file, 1, entry(n))[0]
                os.pwrite(file, bytes([old & 0x7F]), entry(n))
        return self.damaged_large("corrupted.qcow2", damage)

    def make_saved(self):
        def make(temporary):
            run("cp", "--sparse=always", self.make_large()[0], temporary)
            run(self.qemu_img, "snapshot", "-c", "s", temporary)
        return [self.once("saved.qcow2", make)]

    def make_written(self):
        def make(temporary):
            run("cp", "--sparse=always", self.make_plain()[0], temporary)
            run(self.qemu_img, "snapshot", "-c", "s", temporary)
        return self.after_writes(self.once("plain-saved.qcow2", make), self.plan.virtual, 20000)

    def make_written_large(self):
        return self.after_writes(self.make_saved()[0], self.plan.large, 2000)

    def after_writes(self, image, size, count):
        """The image, what it is after random writes of 4 KiB, and these as commands for qemu-io."""
        rng = random.Random(12)

        def make_commands(temporary):
            with open(temporary, "w", encoding="ascii") as out:
                out.writelines(f"write -q -P {rng.randrange(1, 256)} {rng.randrange(size // 4096) * 4096} 4096\n" for _ in range(count))
                out.write("flush\n")
        stem = image.removesuffix(".qcow2")
        commands = self.once(os.path.basename(stem) + ".commands", make_commands, sound=False)

        def make(temporary):
            run("cp", "--sparse=always", image, temporary)
            with open(commands, "rb") as lines:
                qemu_io = os.path.join(os.path.dirname(self.qemu_img), "qemu-io")
                subprocess.run([qemu_io, "-t", "unsafe", "-f", "qcow2", temporary], stdin=lines, stdout=subprocess.DEVNULL, check=True)
        return [image, self.once(os.path.basename(stem) + "-written.qcow2", make), commands]

    def make_states(self):
        """The same with two snapshots, between which one cluster in a hundred was written to."""
        def make(temporary):
            run("cp", "--sparse=always", self.make_large()[0], temporary)
            run(self.qemu_img, "snapshot", "-c", "s1", temporary)
            clusters = self.plan.large // CLUSTER
            changed = sorted(random.Random(9).sample(range(clusters), clusters // 100))
            commands = "".join(f"write -q -z {n * CLUSTER} {CLUSTER}\n" for n in changed)
            qemu_io = os.path.join(os.path.dirname(self.qemu_img), "qemu-io")
            subprocess.run([qemu_io, "-t", "unsafe", "-f", "qcow2", temporary], input=commands.encode(), stdout=subprocess.DEVNULL, check=True)
            run(self.qemu_img, "snapshot", "-c", "s2", temporary)
        return [self.once("states.qcow2", make)]

    def make_huge(self):
        """One cluster in 1024, each where no neighbour is, in random order in the file; every fourth has data."""
        def make(temporary):
            rng = random.Random(8)
            guests = [n * 1024 + rng.randrange(1023) for n in range(self.plan.huge // CLUSTER // 1024)]
            rng.shuffle(guests)
            write_qcow2(temporary, self.plan.huge, guests, lambda i: rng.randbytes(512) * 128 if i % 4 == 0 else None)
        return [self.once("huge.qcow2", make)]

    def make_deep(self):
        """A long chain of thin layers over an empty disk."""
        files = []
        for layer in range(self.plan.deep):
            below = os.path.basename(files[0]) if files else None

            def make(temporary, b=below, n=layer):
                rng = random.Random(1000 + n)
                clusters = sorted(rng.sample(range(self.plan.virtual // CLUSTER), 200))
                write_qcow2(temporary, self.plan.virtual, clusters, lambda i: rng.randbytes(512) * 128, b)
            files.insert(0, self.once(f"deep{layer + 1}.qcow2", make))
        return files
