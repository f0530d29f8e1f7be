# SPDX-License-Identifier: Apache-2.0
"""Builds small qcow2 images byte by byte, so that a case can say exactly what is wrong with one (FORMAT.md §2 to §9).

An Image hands out host clusters in order: header, refcount table, refcount block, L1, then what is asked for. finish() gives the bytes
with right refcounts; put() damages them afterwards. Nothing here uses another program."""
import struct
import zlib

COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = 1, 2, 4, 8, 16
OFFSET = 0x00FFFFFFFFFFFE00
END, BACKING_FORMAT, FEATURE_NAMES, BITMAPS, CRYPTO, DATA_FILE_NAME = 0, 0xE2792ACA, 0x6803F857, 0x23852875, 0x0537BE77, 0x44415441


def pattern(n, size):
    """A cluster's worth of bytes that differ from cluster to cluster."""
    return bytes((n * 37 + i * 11 + (i >> 8)) & 0xFF for i in range(size))


class Image:
    def __init__(self, bits=9, version=3, clusters=64, order=4, incompatible=0, compatible=0, autoclear=0):
        self.bits, self.cs, self.version, self.order = bits, 1 << bits, version, order
        self.extended = bool(incompatible & EXTENDED_L2)
        self.entry = 16 if self.extended else 8
        self.per_l2 = self.cs // self.entry
        self.size = clusters * self.cs
        self.features = [incompatible, compatible, autoclear]
        self.l1_entries = max(1, -(-clusters // self.per_l2))
        self.clusters = []  # bytes of each host cluster
        self.references = {}
        self.snapshots, self.extensions, self.backing = [], [], b""
        self.header = self.new()
        self.reftable = self.new()
        self.refblock = self.new()
        self.l1 = self.new(-(-self.l1_entries * 8 // self.cs))
        self.header_length = 112

    # ---- host clusters ----
    def new(self, count=1, data=b""):
        host = len(self.clusters) * self.cs
        data = bytes(data).ljust(count * self.cs, b"\0")
        for i in range(count):
            self.clusters.append(bytearray(data[i * self.cs : (i + 1) * self.cs]))
            self.references[host // self.cs + i] = 1
        return host

    def refer(self, host, count=1):
        self.references[host // self.cs] = self.references.get(host // self.cs, 0) + count

    def put(self, host, value, kind="Q"):
        data = value if isinstance(value, bytes) else struct.pack(">" + kind, value)
        for i, byte in enumerate(data):
            self.clusters[(host + i) // self.cs][(host + i) % self.cs] = byte

    def get(self, host):
        return struct.unpack_from(">Q", self.clusters[host // self.cs], host % self.cs)[0]

    # ---- guest clusters ----
    def l2(self, guest):
        """Where the L2 entry of a guest cluster lies; its table is made if need be."""
        at = self.l1 + guest // self.per_l2 * 8
        if not self.get(at):
            self.put(at, COPIED | self.new())
        return (self.get(at) & OFFSET) + guest % self.per_l2 * self.entry

    def set(self, guest, entry, bitmap=0):
        self.put(self.l2(guest), entry)
        if self.extended:
            self.put(self.l2(guest) + 8, bitmap)

    def write(self, guest, data=None, flags=COPIED, bitmap=0xFFFFFFFF):
        at = self.l2(guest)  # first, so that a new table comes before the data
        host = self.new(1, pattern(guest, self.cs) if data is None else data)
        self.put(at, flags | host)
        if self.extended:
            self.put(at + 8, bitmap)
        return host

    def compress(self, data):
        c = zlib.compressobj(9, zlib.DEFLATED, -12)
        return c.compress(data) + c.flush()

    def compressed_entry(self, host, length):
        sectors = (host + length - 1) // 512 - host // 512
        return COMPRESSED | sectors << (62 - (self.bits - 8)) | host

    def write_compressed(self, guest, data=None, stream=None):
        """One compressed cluster at the start of host clusters of its own."""
        data = pattern(guest, self.cs) if data is None else data
        stream = self.compress(data) if stream is None else stream
        self.l2(guest)
        host = self.new(-(-len(stream) // self.cs), stream)
        self.set(guest, self.compressed_entry(host, len(stream)))
        return host

    # ---- snapshots, extensions ----
    def snapshot(self, name=b"s", extra=24, size=None, entries=None):
        """Takes a snapshot of what is there: the L1 is copied, what it leads to is shared, COPIED goes."""
        l1 = self.new(-(-self.l1_entries * 8 // self.cs))
        for i in range(self.l1_entries):
            table = self.get(self.l1 + 8 * i) & OFFSET
            self.put(self.l1 + 8 * i, table)
            self.put(l1 + 8 * i, table)
            if not table:
                continue
            self.refer(table)
            for k in range(0, self.cs, self.entry):
                e = self.get(table + k)
                if not e & COMPRESSED and e & OFFSET:
                    self.put(table + k, e & ~COPIED)
                    self.refer(e & OFFSET)
        size = self.size if size is None else size
        entries = self.l1_entries if entries is None else entries
        ident = b"%d" % (len(self.snapshots) + 1)
        fields = struct.pack(">QIHHIIQII", l1, entries, len(ident), len(name), 1700000000, 0, 0, 0, extra)
        data = fields + struct.pack(">QQQ", 0, size, 2**64 - 1).ljust(extra, b"\0")[:extra] + ident + name
        self.snapshots.append(data.ljust(-(-len(data) // 8) * 8, b"\0"))
        return l1

    def own(self, guest):
        """Gives the active state its own table and cluster again, as a write after a snapshot does."""
        at = self.l1 + guest // self.per_l2 * 8
        old = self.get(at) & OFFSET
        if not self.get(at) & COPIED:
            new = self.new(1, self.clusters[old // self.cs])
            self.put(at, COPIED | new)
            self.references[old // self.cs] -= 1
        host = self.get(self.l2(guest)) & OFFSET
        if host:
            self.references[host // self.cs] -= 1
        return self.write(guest, pattern(guest + 100, self.cs))

    def extend(self, kind, data):
        self.extensions.append(struct.pack(">II", kind, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0"))

    def bitmap(self, name=b"b", flags=2, granularity=16, entries=(), kind=1):
        """A directory of one bitmap. `entries` are those of its table; None: a data cluster is made."""
        made = [COPIED & 0 | self.new(1, b"\x55" * 8) if e is None else e for e in entries]
        table = self.new(1, b"".join(struct.pack(">Q", e) for e in made))
        entry = struct.pack(">QIIBBHI", table, len(made), flags, kind, granularity, len(name), 0) + name
        entry = entry.ljust(-(-len(entry) // 8) * 8, b"\0")
        self.directory, self.bitmap_table = self.new(1, entry), table
        self.extend(BITMAPS, struct.pack(">IIQQ", 1, 0, len(entry), self.directory))
        self.features[2] |= 1

    # ---- the whole ----
    def finish(self):
        snapshots, table = 0, b"".join(self.snapshots)
        if table:
            snapshots = self.new(-(-len(table) // self.cs), table)
        v3 = self.version >= 3
        extensions = b"".join(self.extensions) + (bytes(8) if self.extensions or self.backing else b"")
        start = self.header_length if v3 else 72
        self.backing_at = start + len(extensions) if self.backing else 0
        fields = (0x514649FB, self.version, self.backing_at, len(self.backing), self.bits, self.size, 0, self.l1_entries,
            self.l1, self.reftable, 1, len(self.snapshots), snapshots)
        header = struct.pack(">IIQIIQIIQQIIQ", *fields)
        if v3:
            header += struct.pack(">QQQII", *self.features, self.order, self.header_length)
        self.snapshot_table = snapshots
        self.put(0, (header.ljust(start, b"\0")[:start] + extensions + self.backing))
        self.put(self.reftable, self.refblock)
        for cluster, count in self.references.items():
            self.set_refcount(cluster, count)
        return self

    def set_refcount(self, cluster, count):
        width = 1 << self.order
        if width >= 8:
            self.put(self.refblock + cluster * width // 8, count.to_bytes(width // 8, "big"))
            return
        at, shift = self.refblock + cluster * width // 8, cluster * width % 8
        byte = self.clusters[at // self.cs][at % self.cs] & ~(((1 << width) - 1) << shift)
        self.put(at, bytes([byte | count << shift]))

    def data(self):
        return b"".join(self.clusters)

    def save(self, name="image", length=None):
        with open(name, "wb") as out:
            out.write(self.data() if length is None else self.data()[:length])
        return self

    def content(self, clusters, size=None, name="expected"):
        """Writes what the image must read as: {guest cluster: bytes or None for its pattern}."""
        out = bytearray(self.size)
        for guest, data in clusters.items():
            data = pattern(guest, self.cs) if data is None else data
            out[guest * self.cs : guest * self.cs + len(data)] = data
        with open(name, "wb") as f:
            f.write(out[: size or self.size])
