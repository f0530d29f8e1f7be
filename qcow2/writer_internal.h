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

struct writer {
	struct image_create c; /* strings borrowed */
	struct geometry g;
	struct io *file, *data; /* data: the external data file or NULL; both borrowed */
	uint64_t next;          /* host: end of all that is allocated, cluster-aligned; after finish: the file's length */
	uint64_t tail;       /* host: where the next compressed cluster may begin, inside a used cluster; 0: nowhere */
	uint64_t guest_next; /* guest: where the next call may begin */
	bool ascending;      /* see writer_ascending */
	bool short_tail;     /* the last cluster was handed out and lies partly behind the disk's end */

	uint8_t *l1; /* as stored */
	uint64_t l1_entries;
	struct writer_tables l2;   /* the last one is being filled */
	uint64_t *l2_index;        /* L1 index of each of them */
	struct writer_tables refs; /* refcount blocks ref_first, ref_first + 1, ... */
	uint64_t ref_first;
	uint8_t *reftable; /* as stored; ref_first entries are set */
	size_t reftable_room;

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
/* `len` bytes for a compressed cluster, behind the one before if that can be; counted in each cluster they touch. */
int writer_host_pack(struct writer *w, size_t len, uint64_t *host, struct error *e);
/* Makes a range of data read as zeros, as far as the mode of preallocation wants it done. */
int writer_host_blank(struct writer *w, uint64_t host, uint64_t len, struct error *e);

/* ---- qcow2/writer_map.c ---- */

/* Entries of `n` guest clusters: raw, raw + step, ...; `bitmap` goes to each extended entry. */
int writer_map_run(struct writer *w, uint64_t guest, uint64_t n, uint64_t raw, uint64_t step, uint64_t bitmap,
	struct error *e);
/* Writes waiting L2 tables: when there are enough of them, all but the one being filled; `all`: every one, now. */
int writer_map_flush(struct writer *w, bool all, struct error *e);

/* ---- qcow2/writer_header.c ---- */

/* Encodes w->h, the extensions and the backing name into w->header. */
int writer_header_build(struct writer *w, uint8_t *cluster, struct error *e);

#endif
