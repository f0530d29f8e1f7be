/* SPDX-License-Identifier: Apache-2.0
 *
 * The qcow2 codec: bytes to structs and back (FORMAT.md §3 to §9). No I/O, no allocation, no assert on input; every decoder
 * is total: any bytes give a struct or an error. Limits of FORMAT.md §14 are enforced here. The engine is elsewhere.
 */
#ifndef QSNAP_QCOW2_FORMAT_H
#define QSNAP_QCOW2_FORMAT_H

#include "qcow2/geometry.h"

/* ---- limits, FORMAT.md §14 ---- */
enum {
	QCOW2_MIN_CLUSTER_BITS = 9,
	QCOW2_MAX_CLUSTER_BITS = 21,
	QCOW2_MAX_L1_BYTES = 32 << 20,
	QCOW2_MAX_REFTABLE_BYTES = 8 << 20,
	QCOW2_MAX_SNAPSHOTS = 65536,
	QCOW2_MAX_SNAPSHOT_TABLE_BYTES = 64 << 20,
	QCOW2_MAX_SNAPSHOT_EXTRA = 1024,
	QCOW2_MAX_BITMAPS = 65535,
	QCOW2_MAX_BITMAP_DIRECTORY_BYTES = 64 << 20,
	QCOW2_MAX_BITMAP_TABLE_ENTRIES = 0x8000000,
	QCOW2_MAX_BACKING_NAME = 1023,
	QCOW2_MAX_BITMAP_NAME = 1023,
	QCOW2_MAX_BITMAP_BYTES = 512 << 20, /* one bitmap's data clusters together */
	QCOW2_MIN_GRANULARITY_BITS = 9,
	QCOW2_MAX_GRANULARITY_BITS = 31,
};

/* ---- header, FORMAT.md §3 (qcow2/format_header.c) ---- */

#define QCOW2_MAGIC 0x514649fbu

enum qcow2_incompatible {          /* FORMAT.md §3.3 */
	INCOMPAT_DIRTY = 1 << 0,   /* FORMAT.md §12.1 */
	INCOMPAT_CORRUPT = 1 << 1, /* FORMAT.md §12.2 */
	INCOMPAT_DATA_FILE = 1 << 2,
	INCOMPAT_COMPRESSION = 1 << 3,
	INCOMPAT_EXTENDED_L2 = 1 << 4,
	INCOMPAT_KNOWN = 31,
};
enum qcow2_compatible { COMPAT_LAZY_REFCOUNTS = 1 << 0 };                              /* FORMAT.md §3.4 */
enum qcow2_autoclear { AUTOCLEAR_BITMAPS = 1 << 0, AUTOCLEAR_DATA_FILE_RAW = 1 << 1 }; /* FORMAT.md §3.5 */

struct header {
	uint32_t version; /* 2 or 3 */
	uint64_t backing_offset;
	uint32_t backing_len;
	uint32_t cluster_bits;
	uint64_t size; /* virtual size, bytes; decoded as whole sectors of 512, as QEMU takes it (FORMAT.md §3.1) */
	uint32_t crypt_method;
	uint32_t l1_entries;
	uint64_t l1_offset;
	uint64_t reftable_offset;
	uint32_t reftable_clusters;
	uint32_t snapshot_count;
	uint64_t snapshots_offset;
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order;
	uint32_t header_length; /* 72 for version 2 */
	uint8_t compression_type;
};

enum { QCOW2_HEADER_V2_BYTES = 72, QCOW2_HEADER_V3_BYTES = 112 };
/* The fixed parts of entries of other tables, in bytes (FORMAT.md §8.2, §9.2, §4.4). */
enum { QCOW2_SNAPSHOT_ENTRY_BYTES = 40, QCOW2_BITMAP_ENTRY_BYTES = 24, QCOW2_BITMAPS_EXTENSION_BYTES = 24 };
enum qcow2_compression { QCOW2_COMPRESSION_DEFLATE = 0, QCOW2_COMPRESSION_ZSTD = 1 }; /* FORMAT.md §3.6 */

/* Decodes and validates the fixed part. `len` is what could be read of the first cluster, at least 72 bytes (104 for v3) or
 * ERR_CORRUPT. Unknown incompatible bits and encryption are not refused here (info may want to name them): the opener does. */
int header_decode(const uint8_t *buf, size_t len, struct header *h, struct error *e);
/* The same for a repair: a refcount table that cannot be used and more snapshots than allowed pass. */
int header_decode_damaged(const uint8_t *buf, size_t len, struct header *h, struct error *e);
/* What header_decode demands beyond that. */
int header_check_reftable(const struct header *h, struct error *e);
int header_check_snapshot_count(const struct header *h, struct error *e);
/* Writes 72, 104 or 112 bytes to buf, as version and header_length say; returns how many. */
size_t header_encode(const struct header *h, uint8_t *buf);
/* Makes `bytes`, the file's header that was decoded as `from`, say what `to` says, where these differ; what decoding drops stays.
 * [*first, *end): the bytes that were set; empty when nothing differs. Returns what header_encode would. */
size_t header_patch(uint8_t *bytes, const struct header *from, const struct header *to, size_t *first, size_t *end);
void header_geometry(const struct header *h, struct geometry *g);
/* What header_decode demands of the active L1 table; a snapshot's must pass it too before it is used (FORMAT.md §8.2). ERR_LIMIT
 * or ERR_CORRUPT: too large, too small for a disk of `disk_size` bytes, unaligned, beyond 2^63. */
int l1_table_check(const struct geometry *g, uint64_t host, uint32_t entries, uint64_t disk_size, struct error *e);

/* ---- header extensions, FORMAT.md §4 (qcow2/format_extension.c) ---- */

enum extension_type {
	EXT_END = 0,
	EXT_BACKING_FORMAT = 0xe2792aca, /* FORMAT.md §10.2 */
	EXT_FEATURE_NAMES = 0x6803f857,
	EXT_BITMAPS = 0x23852875,
	EXT_CRYPTO = 0x0537be77,
	EXT_DATA_FILE = 0x44415441,
};
struct extension {
	uint32_t type;
	uint32_t len;
	const uint8_t *data; /* points into the buffer given */
};
/* Iterates: *pos starts at header_length; 1 = *out filled, 0 = end, -1 = ERR_CORRUPT. `end` is where extensions must stop
 * (the backing name's offset, or the cluster's end), within buf. */
int extension_next(const uint8_t *buf, size_t end, size_t *pos, struct extension *out, struct error *e);
/* Appends one with its padding; returns the new position, or 0 when it does not fit into `cap`. */
size_t extension_encode(uint8_t *buf, size_t cap, size_t pos, uint32_t type, const void *data, uint32_t len);
/* The name of feature bit `bit` (0..63) of `kind` (0 incompatible, 1 compatible, 2 autoclear) in the feature table's data;
 * false if it has none. The name is NUL-terminated, unprintable bytes replaced. FORMAT.md §4.3. */
bool feature_name(const struct extension *table, unsigned kind, unsigned bit, char name[47]);
/* The feature table that our writer puts into new images; returns its length. */
size_t feature_table_encode(uint8_t *buf, size_t cap);

struct bitmaps_extension { /* FORMAT.md §4.4 */
	uint32_t count;
	uint64_t directory_bytes;
	uint64_t directory_offset;
};
int bitmaps_extension_decode(const struct extension *x, uint32_t cluster_size, struct bitmaps_extension *out,
	struct error *e);
size_t bitmaps_extension_encode(const struct bitmaps_extension *b, uint8_t buf[24]);

/* ---- mapping entries, FORMAT.md §5 (qcow2/format_entry.c) ---- */

#define ENTRY_COPIED (1ull << 63)
#define ENTRY_COMPRESSED (1ull << 62)
#define ENTRY_ZERO 1ull
#define ENTRY_OFFSET_MASK 0x00fffffffffffe00ull
#define ENTRY_L1_RESERVED 0x7f000000000001ffull
#define ENTRY_L2_RESERVED 0x3f000000000001feull
#define REFTABLE_OFFSET_MASK 0xfffffffffffffe00ull

enum cluster_type {
	CLUSTER_UNALLOCATED,
	CLUSTER_ZERO_PLAIN,
	CLUSTER_ZERO_ALLOC, /* reads zeros, keeps a host cluster */
	CLUSTER_NORMAL,     /* with extended L2 the bitmaps say which subclusters count */
	CLUSTER_COMPRESSED,
};

struct l2_entry {
	enum cluster_type type;
	bool copied;
	uint64_t host;  /* of the cluster, or of the compressed stream's first byte */
	uint32_t csize; /* COMPRESSED: bytes up to the end of its last sector */
	/* bit i = subcluster i is data / reads as zeros; without extended L2 only bit 0. 0 if COMPRESSED */
	uint32_t alloc, zero;
};

/* One entry of an L2 table as stored (host byte order). `bitmap` is 0 without extended L2. `has_data_file`: offset 0 with COPIED
 * is an allocated cluster (FORMAT.md §11). With extended L2 the type is UNALLOCATED (subclusters may still be zero), NORMAL or
 * COMPRESSED. ERR_CORRUPT names the value: unaligned offset, impossible combination. */
int l2_entry_decode(const struct geometry *g, unsigned version, bool has_data_file, uint64_t raw, uint64_t bitmap,
	struct l2_entry *out, struct error *e);
/* The descriptor of a compressed cluster of `len` bytes at `host` (FORMAT.md §5.4). */
uint64_t l2_compressed_encode(const struct geometry *g, uint64_t host, uint64_t len);
/* The L2 table's offset in an L1 entry; 0 = none. ERR_CORRUPT when unaligned. Reserved bits are ignored as QEMU does. */
int l1_entry_decode(const struct geometry *g, uint64_t raw, uint64_t *l2_offset, struct error *e);

/* ---- refcounts, FORMAT.md §7.3 (qcow2/format_refcount.c) ---- */

uint64_t refcount_get(const uint8_t *block, unsigned order, uint64_t index);
void refcount_put(uint8_t *block, unsigned order, uint64_t index, uint64_t value);
static inline uint64_t refcount_max(unsigned order)
{
	return order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
}

/* ---- snapshot table, FORMAT.md §8 (qcow2/format_snapshot.c) ---- */

struct snapshot_entry {
	uint64_t l1_offset;
	uint32_t l1_entries;
	uint32_t date_sec, date_nsec;
	uint64_t vm_clock_nsec;
	uint64_t vm_state_bytes; /* the 64-bit one where extra data has it */
	uint64_t disk_size;      /* valid if has_disk_size */
	uint64_t icount;         /* UINT64_MAX: none */
	bool has_disk_size, has_icount;
	uint32_t extra_bytes;
	uint16_t id_len, name_len;
	const char *id, *name; /* into the buffer, not terminated, may hold any byte */
	size_t bytes;          /* of the whole entry with its padding */
};
/* Decodes the entry at buf. 0 good; 1: `len` is too short, out->bytes tells how much is needed (at least); -1 ERR_LIMIT. The
 * padding after the last entry may be missing in the file, so out->bytes may be up to 7 more than `len`. */
int snapshot_entry_decode(const uint8_t *buf, size_t len, struct snapshot_entry *out, struct error *e);
/* Encodes with 24 bytes of extra data; returns the entry's bytes, 0 when it does not fit. */
size_t snapshot_entry_encode(const struct snapshot_entry *s, uint8_t *buf, size_t cap);

/* ---- bitmap directory, FORMAT.md §9 (qcow2/format_bitmap.c) ---- */

enum bitmap_flags { BITMAP_IN_USE = 1, BITMAP_AUTO = 2, BITMAP_EXTRA_COMPATIBLE = 4 };

struct bitmap_entry {
	uint64_t table_offset;
	uint32_t table_entries;
	uint32_t flags;
	uint8_t type; /* 1: dirty tracking */
	uint8_t granularity_bits;
	uint16_t name_len;
	uint32_t extra_bytes;
	const char *name; /* into the buffer, not terminated */
	size_t bytes;     /* of the whole entry with its padding */
};
/* ERR_CORRUPT, ERR_LIMIT or ERR_UNSUPPORTED (flags, type, extra data not known). Unique names are for the caller to see to. */
int bitmap_entry_decode(const struct geometry *g, const uint8_t *buf, size_t len, struct bitmap_entry *out,
	struct error *e);
/* Encodes without extra data; returns the entry's bytes, 0 when it does not fit. */
size_t bitmap_entry_encode(const struct bitmap_entry *b, uint8_t *buf, size_t cap);
/* Entries that the table of a bitmap over a disk of `disk_size` bytes must have, unless the bitmap is in use. */
uint64_t bitmap_table_entries(const struct geometry *g, unsigned granularity_bits, uint64_t disk_size);
/* One entry of a bitmap table: offset of a data cluster, or 0 with *all_ones telling the value of the whole cluster. */
int bitmap_table_entry_decode(const struct geometry *g, uint64_t raw, uint64_t *host, bool *all_ones, struct error *e);

#endif
