/* SPDX-License-Identifier: Apache-2.0
 *
 * What the writer's files share. Host space only grows: `next` is its end. Two kinds of table wait in memory until it pays
 * to write many of them at once: L2 tables of guest ranges that are done with, and refcount blocks of host ranges that
 * nobody counts into any more. Both are written at `next` when a call begins, never while a range is being handed out, so
 * that a caller who writes each range at once writes everything in ascending order.
 */
#ifndef QSNAP_QCOW2_WRITER_INTERNAL_H
#define QSNAP_QCOW2_WRITER_INTERNAL_H

#include "qcow2/writer.h"

enum { WRITER_BATCH_BYTES = 1 << 20 }; /* of waiting tables of one kind, before they are written */

/* Tables of one cluster each, one behind the other. */
struct writer_tables {
	uint8_t *bytes;
	size_t count, room; /* clusters */
};

/* L1 of the state that is being written. */
struct writer_l1 {
	uint8_t *bytes; /* as stored */
	uint64_t entries;
	uint64_t limit; /* guest: what it may map */
};

/* Bytes that grow, for tables that are written at the end. */
struct writer_buffer {
	uint8_t *bytes;
	size_t len;
};

struct writer {
	struct image_create c; /* strings borrowed */
	struct geometry g;
	struct io *file, *data; /* data: the external data file or NULL; both borrowed */
	uint64_t next;       /* host: end of all that is allocated, cluster-aligned; after finish: the file's length */
	uint64_t tail;       /* host: where the next compressed cluster may begin, inside a used cluster; 0: nowhere */
	uint64_t guest_next; /* guest: where the next call may begin */
	bool ascending;      /* see writer_ascending */
	uint64_t blank;      /* bytes before `next` that lie behind the disk's end, in a cluster handed out last */

	struct writer_l1 l1, active_l1; /* active_l1: put aside while a snapshot is written */
	struct writer_tables l2;        /* the last one is being filled */
	uint64_t *l2_index;             /* L1 index of each of them */
	struct writer_tables refs;      /* refcount blocks ref_first, ref_first + 1, ... */
	uint64_t ref_first;
	uint8_t *reftable; /* as stored; ref_first entries are set */
	size_t reftable_room;
	bool keep_refs; /* clusters may be referred to again: no refcount block is written before the end */

	bool in_snapshot;
	struct snapshot_entry snapshot; /* the one being written; strings borrowed */
	struct writer_buffer snapshots; /* the snapshot table so far */
	struct bitmap_entry bitmap;     /* the one being written; name borrowed */
	uint8_t *bitmap_table;          /* NULL: none is being written */
	struct writer_buffer bitmaps;   /* the bitmap directory so far */
	struct bitmaps_extension bitmaps_ext;

	struct header h; /* offsets are filled in by writer_finish */
	uint8_t *header; /* a cluster: what is, or will be, at the file's beginning */
	bool header_first;
};

/* ---- qcow2/writer_refcount.c ---- */

/* One more reference to each of `n` host clusters; `cluster` is an index. */
int writer_refs_add(struct writer *w, uint64_t cluster, uint64_t n, struct error *e);
uint64_t writer_refs_get(const struct writer *w, uint64_t cluster);
/* Writes the blocks that are complete when there are enough of them. */
int writer_refs_flush_due(struct writer *w, struct error *e);
/* The rest of the blocks and the table, whose place goes to the header, and behind them room for `last_clusters` more.
 * Nothing can be allocated after it. */
int writer_refs_finish(struct writer *w, uint64_t last_clusters, uint64_t *last_host, struct error *e);
/* Makes room for `count` tables; new ones are zero. */
int writer_tables_grow(struct writer *w, struct writer_tables *t, size_t count, struct error *e);

/* ---- qcow2/writer_host.c ---- */

/* `clusters` new host clusters at the end, counted once each. */
int writer_host_append(struct writer *w, uint64_t clusters, uint64_t *host, struct error *e);
/* New clusters for these bytes, written at once; what is left of the last cluster is of no meaning. */
int writer_host_write(struct writer *w, const void *bytes, size_t len, uint64_t *host, struct error *e);
/* `len` bytes for a compressed cluster, behind the one before if that can be; counted in each cluster they touch. */
int writer_host_pack(struct writer *w, size_t len, uint64_t *host, struct error *e);
/* Makes a range of data read as zeros, as far as the mode of preallocation wants it done. */
int writer_host_blank(struct writer *w, uint64_t host, uint64_t len, struct error *e);

/* ---- qcow2/writer_map.c ---- */

#define ALL_SUBCLUSTERS 0xffffffffull

/* Entries of `n` guest clusters: raw, raw + step, ...; `bitmap` goes to each extended entry. */
int writer_map_run(struct writer *w, uint64_t guest, uint64_t n, uint64_t raw, uint64_t step, uint64_t bitmap,
	struct error *e);
/* Writes waiting L2 tables: when there are enough of them, all but the one being filled; `all`: every one, now. */
int writer_map_flush(struct writer *w, bool all, struct error *e);

/* Sets COPIED where it has a meaning: in what the active disk alone refers to (FORMAT.md §7.5). */
static inline uint64_t writer_copied(const struct writer *w)
{
	return w->in_snapshot ? 0 : ENTRY_COPIED;
}

/* ---- qcow2/writer.c ---- */

/* L1 for a guest range of `limit` bytes. */
int writer_l1_new(const struct writer *w, struct writer_l1 *l1, uint64_t limit, struct error *e);
/* Every call begins here: the gap before it is dealt with, its range is taken, waiting tables are written. */
int writer_advance(struct writer *w, uint64_t guest, uint64_t len, struct error *e);
/* Completes the state that is being written, up to its L2 tables: those of guest ranges nobody mentioned, and zeros behind
 * the disk's end. */
int writer_complete_state(struct writer *w, struct error *e);
int writer_flush_due(struct writer *w, struct error *e);

/* ---- qcow2/writer_snapshot.c, qcow2/writer_bitmap.c ---- */

/* Write the tables of what there is, and tell the header. */
int writer_snapshots_finish(struct writer *w, struct error *e);
int writer_bitmaps_finish(struct writer *w, struct error *e);
/* Room for `more` bytes at the buffer's end. */
uint8_t *writer_buffer_extend(struct writer_buffer *b, size_t more, size_t limit, const char *what, struct error *e);

/* ---- qcow2/writer_header.c ---- */

/* Encodes w->h, the extensions and the backing name into w->header. */
int writer_header_build(struct writer *w, uint8_t *cluster, struct error *e);

#endif
