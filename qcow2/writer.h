/* SPDX-License-Identifier: Apache-2.0
 *
 * A new qcow2 image in one pass (FORMAT.md §15). The writer only ever appends: cluster 0 is kept free for the header, then
 * data, L2 tables and refcount blocks follow in the order in which they are complete, then what is left of these, the
 * refcount table and L1. Nothing but the header needs to be known before, and it is written last; or, for a stream, first,
 * after a dry run on a null io gave it. The bytes are a function of the calls alone.
 *
 * Calls come in ascending guest order, from one thread. Memory: about 1 MiB each of waiting L2 tables and
 * refcount blocks (plus what one call's range adds), L1 and refcount table.
 */
#ifndef QSNAP_QCOW2_WRITER_H
#define QSNAP_QCOW2_WRITER_H

#include "qcow2/qcow2.h"

enum prealloc { PREALLOC_OFF, PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL };

/* The options of `create` and `convert -o`, with qemu-img's defaults from image_create_defaults. Strings are borrowed. */
struct image_create {
	enum image_format format;
	uint64_t size;    /* virtual size, bytes; a multiple of 512 */
	unsigned version; /* 3 (compat=1.1) or 2 (compat=0.10) */
	uint32_t cluster_size;
	uint32_t refcount_bits;
	bool extended_l2, lazy_refcounts, data_file_raw;
	enum prealloc prealloc;
	enum codec_id compression;
	struct codec_level level;                              /* compression_level, window */
	const char *backing_name, *backing_format, *data_file; /* NULL: none */
	/* What is not written is shown by another disk, as with backing_name, which the header does not tell: zeros are explicit. Whoever
	 * reads the image must know which one it is. */
	bool nameless_backing;
};
void image_create_defaults(struct image_create *c, enum image_format format);
/* Checks what the options demand of each other (extended_l2 needs 16 KiB clusters, v2 has no zstd, raw takes only size and
 * preallocation, ...). ERR_USAGE/ERR_UNSUPPORTED with qemu-img's meaning. */
int image_create_check(const struct image_create *c, struct error *e);
/* `create`: a new empty image (preallocated as asked) on `file`, which starts empty. `data`: the external data file or NULL. */
int image_create_run(const struct image_create *c, struct io *file, struct io *data, struct error *e);

struct writer;

/* `file`: where the image goes; `data`: external data file or NULL. Writes nothing yet, but
 * wipes the header that a target which is not new (IO_READS_ZERO) may have. */
int writer_new(struct writer **out, const struct image_create *c, struct io *file, struct io *data, struct error *e);
void writer_free(struct writer *w); /* NULL is allowed; what was written stays, without a header */

/* Before any call: hosts will strictly ascend, as a stream needs it. Costs the room behind a compressed cluster whenever
 * something else follows it. A dry run for a stream must say so too. */
void writer_ascending(struct writer *w);

/* Room for `len` bytes of guest data at `guest` (cluster-aligned; the last cluster of the disk may be short: its rest is
 * zero-filled by the writer's own write of the tail or by the caller's whole-cluster write). Returns in *host where the
 * bytes go, contiguous; the caller writes them, any time before writer_finish (for a stream: at once, before the next call). */
int writer_data(struct writer *w, uint64_t guest, uint64_t len, uint64_t *host, struct error *e);
/* The same for parts of one cluster with extended L2: `alloc` and `zero` are its subcluster bitmaps; the host cluster is whole.
 * With `alloc` 0 there is nothing to write, and without preallocation no host cluster: *host is 0. */
int writer_subclusters(struct writer *w, uint64_t guest, uint32_t alloc, uint32_t zero, uint64_t *host,
	struct error *e);
/* One compressed cluster of `len` bytes: packed right behind the one before where the descriptor and refcount width allow. */
int writer_compressed(struct writer *w, uint64_t guest, size_t len, uint64_t *host, struct error *e);
/* [guest, guest+len) reads as zeros: over a backing file an explicit zero (version 2: allocated, the caller must write zeros: then
 * returns 1 and *host), else nothing to do. Preallocation modes allocate here. */
int writer_zero(struct writer *w, uint64_t guest, uint64_t len, uint64_t *host, struct error *e);
/* Ranges that are not mentioned stay unallocated (or are preallocated). */

/* ---- internal snapshots that travel along (FORMAT.md §8) ----
 *
 * Each snapshot is a state of its own, written before the active disk: begin, then the calls above in ascending guest order
 * from 0, then end. Clusters that an earlier state has, the active disk may share too. From the first snapshot on, refcounts
 * of the whole file stay in memory: 2 bytes a host cluster with 16 bits. Preallocation means the active disk only. */

/* `s`: strings, dates, clocks, icount, disk_size (which it must have), vm_state_bytes; the rest is found here. Strings are
 * borrowed until the end. VM state is written as guest data from writer_vm_state_guest(w, s->disk_size) on. */
int writer_snapshot_begin(struct writer *w, const struct snapshot_entry *s, struct error *e);
int writer_snapshot_end(struct writer *w, struct error *e);
uint64_t writer_vm_state_guest(const struct writer *w, uint64_t disk_size);
/* Like writer_data, for whole clusters that writer_data gave to an earlier state, or to this one, at `host`. 1: a refcount is
 * at its maximum; nothing has happened, the data must be written once more. */
int writer_share(struct writer *w, uint64_t guest, uint64_t len, uint64_t host, struct error *e);
/* The same for what writer_compressed gave for `len` bytes. */
int writer_share_compressed(struct writer *w, uint64_t guest, size_t len, uint64_t host, struct error *e);

/* ---- persistent bitmaps (FORMAT.md §9): after the active disk's last call, before writer_finish ---- */

/* `b`: name (borrowed until the end), flags, granularity_bits. Version 2: ERR_UNSUPPORTED. */
int writer_bitmap_begin(struct writer *w, const struct bitmap_entry *b, struct error *e);
/* Cluster `index` of the bitmap's bits: cluster_size bytes as stored, zero behind the last bit. Those never given are 0. */
int writer_bitmap_cluster(struct writer *w, uint32_t index, const void *bits, struct error *e);
int writer_bitmap_end(struct writer *w, struct error *e);

/* All metadata, the file's length, then the header (the last write). No flush: the caller's cache mode says. */
int writer_finish(struct writer *w, struct error *e);

/* For streams: `header` (cluster_size bytes, from a finished dry run with writer_header) is written before anything else;
 * writer_finish then fails with ERR_CHANGED if it would have written another. */
int writer_header_first(struct writer *w, const uint8_t *header, struct error *e);
const uint8_t *writer_header(const struct writer *w); /* after finish; cluster_size bytes, owned by the writer */
uint64_t writer_file_size(const struct writer *w);    /* host bytes so far; after finish: the file's length */

#endif
