/* SPDX-License-Identifier: Apache-2.0
 *
 * qcow2: images as they are read. Opening one image or a whole backing chain, walking its merged extents, reading bytes
 * through it, its snapshots and bitmaps. Writing a new image: qcow2/writer.h. Checking one: qcow2/check.h.
 *
 * Threads: everything here is for one thread at a time, except `struct reader`: each thread has its own and may read extents
 * of the same chain at once.
 */
#ifndef QSNAP_QCOW2_H
#define QSNAP_QCOW2_H

#include "io/io.h"
#include "qcow2/codec.h"
#include "qcow2/format.h"

enum image_format { IMAGE_AUTO, IMAGE_RAW, IMAGE_QCOW2 };

/* ---- one image (qcow2/open.c, snapshot.c, bitmap.c) ---- */

struct qcow2_snapshot {  /* FORMAT.md §8 */
	char *id, *name; /* owned; cut at the first NUL as every reader does */
	struct snapshot_entry entry;
	uint64_t disk_size; /* the entry's, or the header's where it has none */
};
struct qcow2_bitmap { /* FORMAT.md §9 */
	char *name;
	struct bitmap_entry entry;
};

/* An opened qcow2 file. Fields are for reading only. */
struct qcow2 {
	struct io *file; /* borrowed from the layer */
	struct header h;
	struct geometry g;
	char *backing_name;   /* NULL: none; as stored */
	char *backing_format; /* NULL: not stored */
	char *data_file_name; /* NULL: not stored */
	struct qcow2_snapshot *snapshots;
	uint32_t snapshot_count;
	struct qcow2_bitmap *bitmaps; /* only when autoclear bit 0 vouches for them */
	uint32_t bitmap_count;
	struct bitmaps_extension bitmap_directory; /* all zero when there are none to trust */
	/* the L1 that is read: the active one, or a selected snapshot's */
	uint64_t l1_offset;
	uint32_t l1_entries;
	uint64_t size; /* virtual size of what is read, bytes */
	int snapshot;  /* index of the selected snapshot, -1: the active state */
	/* for qcow2/ itself: the header as it was read, and a digest of the selected snapshot's L1 */
	uint8_t header_bytes[QCOW2_HEADER_V3_BYTES];
	uint8_t l1_digest[32];
};

enum qcow2_open_flags {
	/* info, check: unknown incompatible features of check kind still refused, the data file is not needed, the corrupt bit
	 * is no obstacle */
	QCOW2_OPEN_INSPECT = 1,
	/* --untrusted: no backing name, no data file, no unknown feature or extension, no encryption */
	QCOW2_OPEN_STRICT = 2,
	/* check -r: a refcount table that cannot be used, too many snapshots, too much extra data of one are let in; the snapshots
	 * beyond the limits are then not in the list. Such an image is for qcow2_repair only. */
	QCOW2_OPEN_REPAIR = 4,
};
/* Reads header, extensions, snapshot table and bitmap directory. Encrypted images: ERR_UNSUPPORTED; unknown incompatible
 * features: ERR_UNSUPPORTED naming them (FORMAT.md §4.3). `file` is borrowed. Free with qcow2_close. */
int qcow2_open(struct qcow2 **out, struct io *file, unsigned flags, struct error *e);
void qcow2_close(struct qcow2 *q);
/* True when the file's first bytes are a qcow2 header's magic and a version QEMU would take (probing, as QEMU does). */
bool qcow2_probe(const uint8_t *bytes, size_t len);

/* How a snapshot is meant: qemu-img's `-l` takes "snapshot.id=X", "snapshot.name=X", else id or name. */
struct snapshot_query {
	const char *id, *name; /* either may be NULL; both: both must match */
	const char *any;       /* name first, then id, as QEMU's convert -l */
	bool refuse_ambiguous; /* two candidates: ERR_USAGE that lists them */
};
/* Index into q->snapshots, or -1 with ERR_NOT_FOUND / ERR_USAGE. */
int qcow2_snapshot_find(const struct qcow2 *q, const struct snapshot_query *query, struct error *e);
/* From now on the image reads as snapshot `index` did: its L1, its own size (FORMAT.md §8.4). */
int qcow2_snapshot_select(struct qcow2 *q, uint32_t index, struct error *e);
/* After the last data read of a selected snapshot: ERR_CHANGED unless the header still leads to the same entry and the L1
 * bytes on disk are the same as at selection. */
int qcow2_snapshot_verify(struct qcow2 *q, struct error *e);

struct snapshot_usage {     /* bytes of host clusters, tables included */
	uint64_t exclusive; /* only this snapshot refers to them: what deleting it would free */
	uint64_t shared;    /* other snapshots or the active state do, too */
};
struct layer;
/* One for each of q->snapshots. Reads every table of every snapshot. An error when the image is damaged, or its refcounts are
 * dirty. */
int qcow2_snapshots_usage(struct layer *l, unsigned threads, struct snapshot_usage *out, struct error *e);

/* One state of an image, for who looks at two of them: the active one, a snapshot (by its index), or what is selected. */
struct qcow2_state {
	uint64_t l1_offset;
	uint32_t l1_entries; /* 0: nothing is allocated, all is left to the backing file */
	uint64_t size;       /* virtual size, bytes */
	int snapshot;        /* its index, -1: none */
	uint8_t l1_digest[32];
};
void qcow2_state_active(const struct qcow2 *q, struct qcow2_state *out);
int qcow2_state_of_snapshot(const struct qcow2 *q, uint32_t index, struct qcow2_state *out, struct error *e);
void qcow2_state_selected(const struct qcow2 *q, struct qcow2_state *out);
/* qcow2_snapshot_verify of a state; 0 when it is no snapshot. */
int qcow2_state_verify(const struct qcow2 *q, const struct qcow2_state *state, struct error *e);

/* Bytes that hold the bits of q->bitmaps[index]; the disk's size and the granularity tell (FORMAT.md §9.4). */
uint64_t qcow2_bitmap_bytes(const struct qcow2 *q, uint32_t index);
/* `len` of these bytes from `at` on, bits behind the disk's end cleared. The flag "in use" is for the caller to look at. */
int qcow2_bitmap_read(const struct qcow2 *q, uint32_t index, uint64_t at, uint8_t *to, size_t len, struct error *e);
/* Index of the bitmap with this name, -1: none. */
int qcow2_bitmap_find(const struct qcow2 *q, const char *name);

/* ---- a backing chain (qcow2/chain.c, qcow2/name.c) ---- */

struct layer {
	char *path; /* of the file that was opened, as QEMU would name it */
	enum image_format format;
	bool probed;
	struct io *file; /* owned */
	struct io *data; /* owned when an external data file, else == file */
	struct qcow2 *q; /* owned; NULL for raw */
	uint64_t size;   /* virtual size of what is read */
};
struct chain {
	struct layer *layers; /* [0] is the top */
	unsigned count;
	uint64_t size; /* of the top, bytes */
};

struct chain_opts {
	enum image_format format; /* of the top; AUTO probes it */
	bool no_backing;          /* only the top: info, check */
	bool inspect;             /* QCOW2_OPEN_INSPECT */
	bool repair;              /* QCOW2_OPEN_REPAIR for the top, which may be marked as corrupt; with `write` */
	bool untrusted;           /* QCOW2_OPEN_STRICT; AUTO is refused */
	bool direct;              /* O_DIRECT for all files */
	enum io_lock_mode lock;
	bool write;                            /* open the top for writing */
	bool unsafe;                           /* with write: what is written is not flushed to disk */
	unsigned write_layer;                  /* with write: this layer below, too; 0: none */
	const struct snapshot_query *snapshot; /* read this snapshot of the top; NULL: the active state */
	unsigned max_depth;                    /* 0: 200 */
	/* Asked before a backing or data file is opened, and may set the format that it is to be read as; -1: it is not opened. NULL:
	 * all may be. */
	int (*allow)(void *ctx, const char *path, enum image_format *format, struct error *e);
	void *allow_ctx;
	uint64_t max_virtual_size; /* 0: no limit */
};
/* Opens `name` (a path, "file:PATH", or "json:{...}" of drivers file, host_device, raw, qcow2) and its backing files. Relative
 * backing names resolve against the folder of the layer that names them (FORMAT.md §10.3). A backing file's format comes from
 * the layer that names it; without one it is probed as QEMU does. Loops (device, inode) and depth: ERR_LIMIT. Backing layers get
 * read locks. */
int chain_open(struct chain **out, const char *name, const struct chain_opts *opts, struct error *e);
void chain_close(struct chain *c); /* NULL is allowed */
void cleanup_chain(struct chain **c);
#define AUTO_CHAIN __attribute__((cleanup(cleanup_chain)))
/* The uppermost layer that is read from the file or device `path`, by whatever name, also as its external data file; -1: none. */
int chain_find_file(const struct chain *c, const char *path);
/* The path in a name that can be no more than that, a target's: behind "file:" or "host_device:", or all of it. Points into
 * `name`; NULL for another protocol and for no name. */
const char *image_plain_path(const char *name, struct error *e);
/* The absolute or relative file name that `backing` means when `of` names it; owned by the caller. */
char *image_backing_path(const char *of, const char *backing, struct error *e);
const char *image_format_name(enum image_format f); /* "raw", "qcow2" */
/* "raw" or "qcow2"; anything else is ERR_UNSUPPORTED (a format QEMU knows) or ERR_USAGE. */
int image_format_parse(const char *text, enum image_format *out, struct error *e);

/* ---- merged extents (qcow2/walk.c, qcow2/layer_walk.c) ---- */

enum walk_flags {
	/* holes of the files beneath allocated clusters come out as ZERO with host (what `map` shows and what convert need not
	 * read); only asked where the image looks preallocated */
	WALK_FILE_HOLES = 1,
};
struct walk;
/* A cursor over layers [0, below) of the chain (below = chain->count for all of it; deeper ones count as absent). One sweep over
 * each layer's tables when asked in ascending order; memory is a few KiB a layer, whatever the cluster size. The file under
 * a walk is read with pread in table windows, never mapped. Free with walk_free. */
int walk_new(struct walk **out, struct chain *c, unsigned below, unsigned flags, struct error *e);
/* The merged extent that begins at `start`, at most up to `end` (<= chain size): neighbouring clusters of one kind whose host
 * ranges follow each other are one extent; a compressed cluster is one extent by itself; a zero or absent run may be as long
 * as it is. Past the end of a shorter backing file: ABSENT with the depth of the layer above (FORMAT.md §10.4). */
int walk_extent(struct walk *w, uint64_t start, uint64_t end, struct extent *out, struct error *e);
void walk_free(struct walk *w);

/* ---- what differs between two states of one image (qcow2/diff.c) ---- */

enum diff_kind {
	DIFF_DATA,    /* the image itself holds what `to` shows there */
	DIFF_ZERO,    /* `to` reads as zeros there, by metadata alone */
	DIFF_BACKING, /* `to` shows data of its backing file */
	DIFF_GONE,    /* beyond the end of `to` */
};
struct diff_extent {
	uint64_t start, end; /* guest */
	enum diff_kind kind;
	bool added; /* beyond the end of `from` */
};
struct diff;
/* A cursor over the ranges that the two states of the top layer do not surely share: told from metadata, which knows that
 * equal clusters are equal data, but not that different clusters are different data. Each L2 table is read once when asked
 * in ascending order, and none that both states have; memory is a few windows. The states and the chain are borrowed. */
int diff_new(struct diff **out, const struct chain *c, const struct qcow2_state *from, const struct qcow2_state *to,
	struct error *e);
/* 1: *out is the first such range in [start, limit), neighbours of one kind as one; 0: there is none. */
int diff_next(struct diff *d, uint64_t start, uint64_t limit, struct diff_extent *out, struct error *e);
void diff_free(struct diff *d); /* NULL is allowed */

/* ---- bytes of extents (qcow2/reader.c): one per thread ---- */

struct reader;
int reader_new(struct reader **out, struct error *e);
void reader_free(struct reader *r);
/* Reads [offset_in, offset_in + len) of the extent into buf. Compressed clusters are decoded whole; the last one is kept. */
int reader_read(struct reader *r, const struct extent *x, uint64_t offset_in, void *buf, size_t len, struct error *e);
/* Reads a COMPRESSED extent's stream: decodes it into `cluster` (a whole cluster) to prove it, and tells where the stream lies
 * and how long it is without foreign bytes behind it. *stream is valid until the next call. */
int reader_stream(struct reader *r, const struct extent *x, void *cluster, const uint8_t **stream, size_t *stream_len,
	struct error *e);

/* The whole chain as one io: read and extent. Owns neither chain nor files; close before the chain. */
int chain_io(struct io **out, struct chain *c, struct error *e);

/* ---- facts for info and measure (qcow2/facts.c) ---- */

/* True when all metadata seems preallocated: allocated clusters cover more of the file than its blocks do, so that
 * WALK_FILE_HOLES is worth asking (FORMAT.md §5.6). */
bool qcow2_looks_preallocated(const struct layer *l);

#endif
