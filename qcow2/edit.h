/* SPDX-License-Identifier: Apache-2.0
 *
 * edit: one qcow2 image changed in place. Bytes, zeros and discards with copy-on-write; its size; its internal snapshots; its
 * header. What a crash leaves at any moment is the old state or the new one of whatever was asked last and not yet flushed,
 * and at worst leaked clusters beside it (FORMAT.md §12.4).
 *
 * How: what changes in L2 tables and refcount blocks stays in memory until edit_flush, or until memory for tables runs out; it
 * is then committed as one, in the order of FORMAT.md §12.4. Guest data goes to the file at once, into clusters that
 * nothing on disk points to.
 *
 * Threads: one at a time for everything here.
 */
#ifndef QSNAP_QCOW2_EDIT_H
#define QSNAP_QCOW2_EDIT_H

#include "qcow2/qcow2.h"
#include "qcow2/writer.h"

struct edit;

struct edit_opts {
	/* what unallocated clusters show, of any size; NULL: zeros. Borrowed; closed by the caller after edit_close */
	struct io *backing;
	size_t cache_bytes; /* of tables kept in memory; 0: 32 MiB */
	bool keep_dirty; /* check: an image marked as dirty is not repaired first, one marked as corrupt is no error */
	struct progress *progress;
};

/* `l`: an opened qcow2 layer whose file can be written and whose lock is held (chain_open with `write` and IO_LOCK_WRITE),
 * showing its active state. Writes nothing, unless the image is marked as dirty (FORMAT.md §12.1): then its refcounts are made
 * right first. ERR_CORRUPT when it is marked as corrupt, or when its tables overlap. While it is open, l->q is the editor's. */
int edit_open(struct edit **out, struct layer *l, const struct edit_opts *opts, struct error *e);
/* Flushes, gives bitmaps back to the file, closes. Also after a failure of another call: then what can be kept is. NULL is
 * allowed; `e` as always. */
int edit_close(struct edit *ed, struct error *e);

/* A layer of an opened chain with an editor on it, over what lies below it (qcow2/edited.c). */
struct edited {
	struct chain below; /* count 0: nothing is */
	struct io *backing;
	struct edit *ed;
};
/* The chain outlives it; it must not move in memory. After a failure there is nothing to close. */
int edited_open(struct edited *d, const struct chain *c, unsigned layer, struct progress *progress, struct error *e);
int edited_close(struct edited *d, struct error *e);

/* ---- guest bytes (qcow2/edit_read.c, edit_write.c, edit_zero.c): ranges must lie within the disk, ERR_USAGE ---- */

int edit_read(struct edit *ed, void *buf, size_t len, uint64_t guest, struct error *e);
int edit_write(struct edit *ed, const void *buf, size_t len, uint64_t guest, struct error *e);
enum edit_zero_flags {
	EDIT_MAY_UNMAP = 1, /* host clusters may be given up */
	EDIT_SAY_ZERO = 2,  /* even where nothing shows from below: another backing file is to come */
};
int edit_zero(struct edit *ed, uint64_t guest, uint64_t len, unsigned flags, struct error *e);
/* Whole clusters read as zeros from now on and are given up (FORMAT.md §5.6); the rest of the range stays. */
int edit_discard(struct edit *ed, uint64_t guest, uint64_t len, struct error *e);
/* One whole cluster (shorter at the disk's end, padded by the editor), stored compressed if that makes it smaller. */
int edit_write_compressed(struct edit *ed, const void *buf, size_t len, uint64_t guest, struct error *e);
/* What is at `guest`, of this layer alone: ABSENT means that the backing shows. Merged up to `len`. */
int edit_extent(struct edit *ed, uint64_t guest, uint64_t len, struct extent *out, struct error *e);
/* [guest, guest + len) becomes unallocated, so that the backing shows again; whole clusters only, ERR_USAGE. */
int edit_forget(struct edit *ed, uint64_t guest, uint64_t len, struct error *e);
/* The whole disk becomes unallocated, and what that sets free leaves the file. No bitmap is told: for a disk whose backing shows
 * the same. Durable on return. */
int edit_empty(struct edit *ed, struct error *e);
/* All that was done is on stable storage. */
int edit_flush(struct edit *ed, struct error *e);

/* The image as an io: read, write, zero, extent, flush, truncate. Closing it leaves the editor open. */
int edit_io(struct io **out, struct edit *ed, struct error *e);

/* ---- size (qcow2/edit_resize.c) ---- */

/* To `size` bytes (multiple of 512). Shrinking gives up what lies behind. Growing shows zeros, also where the backing is longer.
 * Enabled bitmaps follow. */
int edit_resize(struct edit *ed, uint64_t size, enum prealloc prealloc, struct error *e);

/* ---- internal snapshots (qcow2/snapshot_create.c, snapshot_apply.c, snapshot_delete.c) ---- */

struct snapshot_new {
	const char *name; /* shorter than 64 KiB */
	const char *id;   /* NULL: the next number, as QEMU counts */
	uint32_t date_sec, date_nsec;
	uint64_t vm_clock_nsec, icount; /* icount UINT64_MAX: none */
	bool widen;                     /* refcounts that are too narrow are made wider first */
	unsigned threads;
};
/* The next id as QEMU counts: one more than the highest number that an id begins with. */
void snapshot_next_id(const struct qcow2 *q, char id[24]);
/* All that can make it impossible is looked at before the first write: then ERR_LIMIT or ERR_CORRUPT, nothing changed. */
int edit_snapshot_create(struct edit *ed, const struct snapshot_new *n, struct error *e);
/* The active state becomes snapshot `index` (of q->snapshots) again, its size included, by one write of one sector. `widen`: as of a
 * new snapshot; ERR_LIMIT without it. */
int edit_snapshot_apply(struct edit *ed, uint32_t index, bool widen, unsigned threads, struct error *e);
/* The same, and what the active state was becomes the snapshot `present`, by the same write: as edit_snapshot_create before it would
 * have done, but for the time that takes. */
int edit_snapshot_switch(struct edit *ed, uint32_t index, const struct snapshot_new *present, struct error *e);
/* A whole cluster at `guest`, which shows the backing file in snapshot `index`: `bytes` are what it shows there, zeros behind the
 * end of its disk (qcow2/snapshot_fill.c). ERR_UNSUPPORTED with extended L2 entries. */
int edit_snapshot_fill(struct edit *ed, uint32_t index, uint64_t guest, const void *bytes, struct error *e);
int edit_snapshot_delete(struct edit *ed, uint32_t index, unsigned threads, struct error *e);

/* ---- persistent bitmaps (qcow2/bitmap_change.c, FORMAT.md §9) ---- */

/* A new bitmap, clean, that follows writes. `granularity` in bytes, 0: the default. Messages of all five are qemu-img's. */
int edit_bitmap_add(struct edit *ed, const char *name, uint64_t granularity, struct error *e);
int edit_bitmap_remove(struct edit *ed, const char *name, struct error *e);
int edit_bitmap_clear(struct edit *ed, const char *name, struct error *e);
int edit_bitmap_enable(struct edit *ed, const char *name, bool on, struct error *e);
/* Sets all bits that bitmap `source` of `from` has; `from` may be another image, opened for reading, or the edited one. */
int edit_bitmap_merge(struct edit *ed, const char *name, const struct qcow2 *from, const char *source, struct error *e);

/* ---- header (qcow2/edit_header.c) ---- */

/* Strings of the header; NULL: none. Crash-proof: the old ones or the new ones (FORMAT.md §12.4). */
struct header_strings {
	const char *backing_name, *backing_format, *data_file_name;
};
int edit_set_strings(struct edit *ed, const struct header_strings *s, struct error *e);

/* Refcounts of another width: 1, 2, 4, 8, 16, 32 or 64 bits (qcow2/refcount_widen.c). ERR_LIMIT when one is too high for it: nothing is
 * changed then. Crash-proof: the old structure or the new one. */
int edit_set_refcount_bits(struct edit *ed, unsigned bits, struct error *e);

/* ---- options (qcow2/amend.c) ---- */

/* What an image is to be; what it is already stays as it is. */
struct image_amend {
	unsigned version; /* 2 or 3 */
	unsigned refcount_bits;
	bool lazy_refcounts, data_file_raw;
	uint64_t size;         /* of the disk, bytes */
	const char *data_file; /* another name for the external data file; NULL: the same */
};
/* What cannot be is ERR_USAGE or ERR_UNSUPPORTED before the first write; else each step leaves a whole image. Messages are
 * qemu-img's. */
int edit_amend(struct edit *ed, const struct image_amend *a, struct error *e);

#endif
