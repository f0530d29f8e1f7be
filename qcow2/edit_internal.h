/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the editor share (FORMAT.md §12.4).
 *
 * Three things hold at any moment, so that a commit may happen at any moment: refcounts in memory are at least the references in
 * memory and on disk; an L2 entry in memory points only to data that was given to the file; a reference that was taken
 * away is counted until the commit after it (edit_drop).
 */
#ifndef QSNAP_QCOW2_EDIT_INTERNAL_H
#define QSNAP_QCOW2_EDIT_INTERNAL_H

#include "qcow2/edit.h"
#include "qcow2/internal.h"

/* ---- tables in memory (qcow2/edit_cache.c) ---- */

enum table_kind { TABLE_L2, TABLE_REFBLOCK };
struct table {
	uint64_t host;
	uint8_t *bytes; /* cluster_size */
	enum table_kind kind;
	bool fresh;                    /* nothing on disk points to it yet */
	uint32_t dirty_from, dirty_to; /* bytes that disk does not have yet; equal: none */
	unsigned pins;
	bool used; /* asked for since the hand came by */
	struct table *next_in_bucket;
};
struct table_cache {
	struct table **buckets;
	struct table **all;
	size_t count, max, bucket_mask, hand;
};
/* The table at `host`, read if need be and pinned. May commit to make room. Give it back with table_put. */
int table_get(struct edit *ed, enum table_kind kind, uint64_t host, struct table **out, struct error *e);
/* The same for clusters just allocated: zeros, fresh, all dirty. */
int table_new(struct edit *ed, enum table_kind kind, uint64_t host, struct table **out, struct error *e);
void table_put(struct table *t);
void table_dirty(struct table *t, uint32_t from, uint32_t to);
/* Forgets the table at `host`, dirty or not, if it is there. */
void table_forget(struct edit *ed, uint64_t host);
/* Forgets all tables; all must be clean: edit_commit before. For operations that work on the file itself. */
void tables_forget_all(struct edit *ed);
int cache_init(struct edit *ed, size_t bytes, struct error *e);
void cache_free(struct edit *ed);

/* ---- the editor (qcow2/edit.c) ---- */

struct run_of_clusters {
	uint64_t host, clusters;
};

enum { BITS_PAGE_BYTES = 4096 };
struct edit_bitmaps;
struct bits { /* a set of host clusters */
	uint8_t **pages;
	uint64_t page_count;
};
int bits_set(struct bits *b, uint64_t first, uint64_t n, struct error *e);
void bits_clear(struct bits *b, uint64_t first, uint64_t n);
bool bits_any(const struct bits *b, uint64_t first, uint64_t n);
void bits_free(struct bits *b);

struct edit {
	struct layer *l;
	struct qcow2 *q; /* its header is what the file has; changed by edit_put_header only */
	struct io *file, *data, *backing;
	struct geometry g;
	bool has_data_file, changed, broken; /* broken: a write failed half-way; nothing more is written */
	struct progress *progress;

	/* tables that are always in memory, in host byte order */
	uint64_t *l1;
	uint32_t l1_entries;
	uint32_t l1_dirty_from, l1_dirty_to; /* entries */
	uint64_t *reftable;
	uint64_t reftable_entries; /* as many as its clusters hold */
	uint64_t reftable_dirty_from, reftable_dirty_to;

	struct table_cache cache;
	struct bits metadata; /* clusters that no data may be written to: header, tables of all kinds that are known */

	uint64_t free_cursor;            /* host; below it no cluster is free */
	uint64_t packed_at;              /* where the next compressed cluster may begin; 0: nowhere */
	struct run_of_clusters *dropped; /* references to give up once the pointers are gone for good */
	size_t dropped_count, dropped_room;
	bool unflushed; /* data or tables were written since the last flush of the files */
	bool committing;
	bool say_zero; /* EDIT_SAY_ZERO, while it is at work */
	bool punch;    /* clusters that become free are given back to the file system at once */

	struct reader *reader;
	uint8_t *bounce; /* EDIT_BOUNCE bytes or a cluster, whichever is more */
	size_t bounce_bytes;
	struct codec *codec;
	struct edit_bitmaps *bitmaps; /* NULL: there are none that follow our writes */
};

/* Reads L1 and refcount table again and finds out what metadata there is, after work on the file itself. ERR_CORRUPT when tables
 * overlap or lie outside the file. */
int edit_reload(struct edit *ed, struct error *e);
/* Notes that clusters hold metadata from now on. */
int edit_add_metadata(struct edit *ed, uint64_t host, uint64_t bytes, struct error *e);
/* Before the first change of anything: what opening for writing changes in the header (unknown autoclear bits, bitmaps in use). */
int edit_begin_change(struct edit *ed, struct error *e);
/* Marks the image as corrupt and refuses all further writing: a table would have been overwritten. Returns -1. */
int edit_mark_corrupt(struct edit *ed, uint64_t host, const char *what, struct error *e);
/* Writes to the image file. edit_write_file refuses a range that holds metadata, edit_write_table is for metadata. */
int edit_write_data(struct edit *ed, const void *buf, size_t len, uint64_t host, struct error *e);
int edit_write_table(struct edit *ed, const void *buf, size_t len, uint64_t host, const char *what, struct error *e);
/* Makes all that was written so far durable, data file included. */
int edit_sync(struct edit *ed, struct error *e);

/* ---- commit (qcow2/edit_commit.c) ----
 * order: 1 data, fresh tables, refcounts; flush. 2 refcount table; flush. 3 L2 and L1 entries; flush. 4 dropped references
 * are taken off the refcounts, in memory: the next commit writes them. */
int edit_commit(struct edit *ed, struct error *e);
/* Its first part without the flush: all refcount blocks as they are in memory. */
int edit_write_refblocks(struct edit *ed, struct error *e);
/* Before work on the file itself: it has all that is in memory, drops included, and no table is in memory. */
int edit_settle(struct edit *ed, struct error *e);

/* ---- refcounts (qcow2/refs.c) ---- */

/* The count of one cluster as it is in memory; 0 beyond what the table can describe. */
int refs_get(struct edit *ed, uint64_t host, uint64_t *count, struct error *e);
/* One more reference to a cluster: 0 done, 1 its count is at the maximum (nothing has happened). */
int refs_add(struct edit *ed, uint64_t host, struct error *e);
/* One less for each cluster, after the next commit. Call it when the pointer is gone in memory. */
int edit_drop(struct edit *ed, uint64_t host, uint64_t clusters, struct error *e);
/* What a cluster that is no longer mapped refers to: nothing, one host cluster, or those that a compressed one touches. */
int edit_drop_entry(struct edit *ed, const struct l2_entry *x, struct error *e);
/* For a commit: the counts go down in memory now. */
int refs_drop_now(struct edit *ed, struct error *e);
/* The refcount block of `host`, made when it is missing: *made, and then free clusters have to be looked for again, since the
 * block took one. Pinned. */
int refblock_for_write(struct edit *ed, uint64_t host, struct table **out, bool *made, struct error *e);
/* The missing refcount block of `host`, in the free cluster `at`; where that has none either, its own instead. Pinned. */
int refblock_make(struct edit *ed, uint64_t host, uint64_t at, struct table **out, struct error *e);

/* ---- allocation (qcow2/alloc.c, alloc_grow.c) ---- */

/* `clusters` neighbours that were free, now with a refcount of 1. May commit. */
int alloc_clusters(struct edit *ed, uint64_t clusters, uint64_t *host, struct error *e);
/* Between 1 and `want` neighbours, the first that are free; for data. */
int alloc_some(struct edit *ed, uint64_t want, uint64_t *host, uint64_t *got, struct error *e);
/* `len` bytes for a compressed cluster, packed behind the one before; each host cluster that is touched counts one more. */
int alloc_packed(struct edit *ed, uint32_t len, uint64_t *host, struct error *e);
/* Makes the refcount table long enough for the block of `host`. */
int alloc_grow_table(struct edit *ed, uint64_t host, struct error *e);

/* ---- L1 and L2 (qcow2/edit_map.c) ---- */

/* The L2 table of `guest` for reading; NULL in *out: there is none. Pinned. */
int map_table(struct edit *ed, uint64_t guest, struct table **out, struct error *e);
/* The same for writing: made or copied from a shared one (COPIED of its entries from the refcounts) when need be. */
int map_table_for_write(struct edit *ed, uint64_t guest, struct table **out, struct error *e);
/* ERR_CORRUPT unless the L2 table that a snapshot's L1 entry `index` leads to may be written to. */
int map_check_snapshots_table(const struct edit *ed, uint64_t index, uint64_t host, struct error *e);
/* The decoded entry of `guest` in its table (NULL: unallocated). */
int map_entry(struct edit *ed, const struct table *t, uint64_t guest, struct l2_entry *out, struct error *e);
void map_set(struct edit *ed, struct table *t, uint64_t guest, uint64_t raw, uint64_t bitmap);
/* L1 entry `index` leads nowhere any more. What its table referred to is for the caller to give up. */
void map_unlink(struct edit *ed, uint64_t index);

/* Sets an entry and gives up what the old one referred to, unless the new one keeps the host cluster. */
int edit_replace(struct edit *ed, struct table *t, uint64_t guest, uint64_t raw, uint64_t bitmap, struct error *e);

/* ---- guest bytes ---- */

int edit_check_range(const struct edit *ed, uint64_t guest, uint64_t len, struct error *e);
/* [guest, end) becomes unallocated, also beyond the disk's end; whole clusters. No bitmap is told (qcow2/edit_zero.c). */
int edit_forget_clusters(struct edit *ed, uint64_t guest, uint64_t end, struct error *e);
/* Everything from `guest` on, wherever L1 reaches, becomes unallocated; what that sets free leaves the file (qcow2/edit_tail.c). */
int edit_give_up(struct edit *ed, uint64_t guest, struct error *e);
/* The file ends with its last cluster in use (qcow2/edit_tail.c). */
int edit_cut_tail(struct edit *ed, struct error *e);
/* Zeros past the end of the disk. */
int edit_read_padded(struct edit *ed, void *buf, size_t len, uint64_t guest, struct error *e);
/* With extended L2: as much of the range as lies in its first cluster (qcow2/edit_subclusters.c). */
int edit_write_subclusters(struct edit *ed, struct table *t, const uint8_t *buf, uint64_t guest, uint64_t len,
	uint64_t *done, struct error *e);

/* No state says "zero" any more, and each reads as before (qcow2/expand_zeros.c). For images without extended L2 entries and without
 * a data file. */
int edit_expand_zeros(struct edit *ed, struct error *e);

/* ---- header (qcow2/edit_header.c) ---- */

/* Writes the bytes of the fixed header that differ from the file's, in one write within the first sector, and flushes before and
 * after. q->h is then `h`. */
int edit_put_header(struct edit *ed, const struct header *h, struct error *e);
/* Header, strings and the bitmaps extension (count 0: none) together, whatever their lengths (qcow2/edit_start.c). All that they
 * lead to was written; ERR_LIMIT when they do not fit, before the first write. backing_offset and backing_len are found here. */
int edit_put_start(struct edit *ed, const struct header *h, const struct header_strings *strings,
	const struct bitmaps_extension *b, struct error *e);

/* ---- bitmaps that follow our writes (qcow2/edit_bitmap.c, edit_bitmap_store.c) ----
 *
 * The flag "in use" is in the file from before the first change until all is stored, so a crash loses bitmaps and never
 * leaves one that is wrong. What is marked so already is left alone: it is inconsistent. */

struct edit_bitmap {
	uint32_t index;      /* in q->bitmaps */
	uint64_t entry_host; /* of its directory entry */
	uint64_t *table;     /* raw entries, host byte order */
	uint32_t entries;
	uint8_t *bits, *touched; /* `entries` clusters of bits; a byte for each cluster that changed */
};
struct edit_bitmaps {
	struct edit_bitmap *list;
	uint32_t count, room;
	uint64_t bytes; /* of bits, together */
};
/* Reads the enabled bitmaps and marks them as in use; nothing when there are none. */
int edit_bitmaps_begin(struct edit *ed, struct error *e);
/* Reads those too that are not enabled, and marks them: for what changes all of them. */
int edit_bitmaps_load_all(struct edit *ed, struct error *e);
int edit_bitmaps_load(struct edit *ed, bool all, struct error *e);
/* Forgets the one with this index; those behind it count one less. */
void edit_bitmaps_unload(struct edit *ed, uint32_t index);
/* The loaded bitmap `index` of q->bitmaps, NULL: inconsistent or not loaded. */
struct edit_bitmap *edit_bitmaps_find(struct edit *ed, uint32_t index);
/* A guest range was changed: memory only. */
void edit_bitmaps_mark(struct edit *ed, uint64_t guest, uint64_t len);
void edit_bitmap_set(struct edit *ed, struct edit_bitmap *b, uint64_t guest, uint64_t len);
/* Where the directory entry of q->bitmaps[index] is. */
uint64_t edit_bitmap_entry_host(const struct qcow2 *q, uint32_t index);
/* Sets the flags in the file, without a flush. */
int edit_bitmap_flags(struct edit *ed, const struct edit_bitmap *b, uint32_t flags, struct error *e);
/* The same when the disk becomes `size` bytes long; before the header says so. What is new is clean. */
int edit_bitmaps_resize(struct edit *ed, uint64_t size, struct error *e);
/* Writes what changed and marks all as no longer in use. */
int edit_bitmaps_store(struct edit *ed, struct error *e);
void edit_bitmaps_free(struct edit *ed);

#endif
