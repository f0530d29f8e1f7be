/* SPDX-License-Identifier: Apache-2.0
 *
 * The writer's calls: guest ranges in ascending order become host space and L2 entries (FORMAT.md §15). Who preallocates
 * gets every gap between the calls filled with clusters that nobody writes.
 *
 * order (FORMAT.md §12.4): data and L2 tables as they come, refcount blocks behind what they count; then the rest of the
 * blocks, the refcount table, L1, and the header last. Until then the file is no qcow2 image.
 */
#include "qcow2/writer_internal.h"

#include <assert.h>

static void header_begin(struct writer *w)
{
	const struct image_create *c = &w->c;
	w->h = (struct header){
		.version = c->version,
		.cluster_bits = w->g.cluster_bits,
		.size = c->size,
		.l1_entries = (uint32_t)w->l1.entries,
		.refcount_order = w->g.refcount_order,
		.header_length = c->version == 2 ? QCOW2_HEADER_V2_BYTES : QCOW2_HEADER_V3_BYTES,
		.compression_type = (uint8_t)c->compression,
		.incompatible = (c->data_file ? INCOMPAT_DATA_FILE : 0) | (c->extended_l2 ? INCOMPAT_EXTENDED_L2 : 0) |
				(c->compression != CODEC_DEFLATE ? INCOMPAT_COMPRESSION : 0),
		.compatible = c->lazy_refcounts ? COMPAT_LAZY_REFCOUNTS : 0,
		.autoclear = c->data_file_raw ? AUTOCLEAR_DATA_FILE_RAW : 0,
	};
}

int writer_l1_new(const struct writer *w, struct writer_l1 *l1, uint64_t limit, struct error *e)
{
	l1->entries = geometry_l1_entries(&w->g, limit);
	if (l1->entries > QCOW2_MAX_L1_BYTES / 8)
		return err_set(e, ERR_LIMIT,
			"%llu bytes need an L1 table of more than %d MiB (try a larger cluster size)",
			(unsigned long long)limit, QCOW2_MAX_L1_BYTES >> 20);
	l1->limit = limit;
	l1->bytes = mem_calloc(align_up(l1->entries * 8 + 1, 512), 1, "an L1 table", e);
	return l1->bytes ? 0 : -1;
}

/* The header of an image that was here before must not lead into what is about to be written. */
static int wipe(struct io *file, struct error *e)
{
	if (file->caps & IO_READS_ZERO || !file->size)
		return 0;
	return io_zero(file, 0, min_u64(file->size, 1u << QCOW2_MIN_CLUSTER_BITS), 0, e);
}

int writer_new(struct writer **out, const struct image_create *c, struct io *file, struct io *data, struct error *e)
{
	if (image_create_check(c, e) < 0)
		return -1;
	assert(c->format == IMAGE_QCOW2 && !c->data_file == !data);
	struct writer *w = mem_calloc(1, sizeof *w, "a writer", e);
	if (!w)
		return -1;
	w->c = *c;
	w->file = file;
	w->data = data;
	/* A raw data file is complete without the image: every guest cluster is there, zeros too (FORMAT.md §11). */
	if (c->data_file_raw && c->prealloc == PREALLOC_OFF)
		w->c.prealloc = PREALLOC_METADATA;
	geometry_init(&w->g, (uint32_t)__builtin_ctz(c->cluster_size), (uint32_t)__builtin_ctz(c->refcount_bits),
		c->extended_l2);
	w->header = mem_calloc(1, w->g.cluster_size, "the header", e);
	uint64_t host;
	if (!w->header || writer_l1_new(w, &w->l1, c->size, e) < 0) {
		writer_free(w);
		return -1;
	}
	header_begin(w);
	if (writer_header_build(w, w->header, e) < 0 || writer_host_append(w, 1, &host, e) < 0 || wipe(file, e) < 0) {
		writer_free(w);
		return -1;
	}
	*out = w;
	return 0;
}

void writer_free(struct writer *w)
{
	if (!w)
		return;
	free(w->l1.bytes);
	free(w->active_l1.bytes);
	free(w->snapshots.bytes);
	free(w->bitmaps.bytes);
	free(w->bitmap_table);
	free(w->l2.bytes);
	free(w->l2_index);
	free(w->refs.bytes);
	free(w->reftable);
	free(w->header);
	free(w);
}

void writer_ascending(struct writer *w)
{
	w->ascending = true;
}

int writer_header_first(struct writer *w, const uint8_t *header, struct error *e)
{
	assert(w->next == w->g.cluster_size);
	w->header_first = true;
	memcpy(w->header, header, w->g.cluster_size);
	return io_write(w->file, header, w->g.cluster_size, 0, e);
}

int writer_flush_due(struct writer *w, struct error *e)
{
	return writer_map_flush(w, false, e) < 0 || writer_refs_flush_due(w, e) < 0 ? -1 : 0;
}

/* Host clusters for a guest range: in an external data file every byte has its own place. */
static int place(struct writer *w, uint64_t guest, uint64_t clusters, uint64_t *host, struct error *e)
{
	if (!w->data)
		return writer_host_append(w, clusters, host, e);
	*host = guest;
	return 0;
}

/* As many clusters at a time as fill one batch of L2 tables. */
static uint64_t batch_clusters(const struct writer *w)
{
	return WRITER_BATCH_BYTES / w->g.l2_entry_bytes;
}

/* Only the active disk is preallocated. */
static bool preallocates(const struct writer *w)
{
	return w->c.prealloc != PREALLOC_OFF && !w->in_snapshot;
}

/* Preallocates [guest_next, guest); `bitmap` 0 leaves subclusters to the backing file. */
static int fill(struct writer *w, uint64_t guest, uint64_t bitmap, struct error *e)
{
	while (w->guest_next < guest) {
		uint64_t host, n = min_u64((guest - w->guest_next) >> w->g.cluster_bits, batch_clusters(w));
		uint64_t len = n << w->g.cluster_bits;
		if (writer_flush_due(w, e) < 0 || place(w, w->guest_next, n, &host, e) < 0 ||
			writer_map_run(w, w->guest_next, n, host | ENTRY_COPIED, w->g.cluster_size, bitmap, e) < 0)
			return -1;
		uint64_t blank = w->data ? min_u64(len, w->c.size - w->guest_next) : len;
		if (writer_host_blank(w, host, blank, e) < 0)
			return -1;
		w->blank = 0;
		w->guest_next += len;
	}
	return 0;
}

static int check_range(const struct writer *w, uint64_t guest, uint64_t len, struct error *e)
{
	assert(geometry_in_cluster(&w->g, guest) == 0 && guest >= w->guest_next && len && !w->bitmap_table);
	uint64_t end;
	if (add_overflows(guest, len, &end) || end > align_up(w->l1.limit, w->g.cluster_size))
		return err_set(e, ERR_USAGE, "guest range 0x%llx+0x%llx is not inside the disk of %llu bytes",
			(unsigned long long)guest, (unsigned long long)len, (unsigned long long)w->l1.limit);
	return 0;
}

/* What the last cluster holds behind the disk's end is to be zeros, should the disk ever grow. */
static int blank_tail(struct writer *w, struct error *e)
{
	uint64_t rest = w->blank;
	w->blank = 0;
	if (!rest || w->data || w->file->caps & IO_READS_ZERO)
		return 0;
	return io_zero(w->file, w->next - rest, rest, 0, e);
}

int writer_advance(struct writer *w, uint64_t guest, uint64_t len, struct error *e)
{
	if (check_range(w, guest, len, e) < 0 || blank_tail(w, e) < 0)
		return -1;
	if (preallocates(w) && fill(w, guest, 0, e) < 0)
		return -1;
	w->guest_next = align_up(guest + len, w->g.cluster_size);
	return writer_flush_due(w, e);
}

int writer_complete_state(struct writer *w, struct error *e)
{
	if (blank_tail(w, e) < 0)
		return -1;
	if (preallocates(w) && fill(w, align_up(w->c.size, w->g.cluster_size), 0, e) < 0)
		return -1;
	return writer_map_flush(w, true, e);
}

int writer_data(struct writer *w, uint64_t guest, uint64_t len, uint64_t *host, struct error *e)
{
	uint64_t n = geometry_clusters(&w->g, len), end = guest + len;
	if (writer_advance(w, guest, len, e) < 0 || place(w, guest, n, host, e) < 0)
		return -1;
	w->blank = w->guest_next - min_u64(end, w->l1.limit);
	return writer_map_run(w, guest, n, *host | writer_copied(w), w->g.cluster_size, ALL_SUBCLUSTERS, e);
}

int writer_subclusters(struct writer *w, uint64_t guest, uint32_t alloc, uint32_t zero, uint64_t *host, struct error *e)
{
	assert(w->c.extended_l2 && !(alloc & zero));
	uint64_t bitmap = (uint64_t)zero << 32 | alloc;
	*host = 0;
	if (writer_advance(w, guest, w->g.cluster_size, e) < 0)
		return -1;
	if (!alloc && !preallocates(w))
		return writer_map_run(w, guest, 1, 0, 0, bitmap, e);
	if (place(w, guest, 1, host, e) < 0)
		return -1;
	return writer_map_run(w, guest, 1, *host | writer_copied(w), 0, bitmap, e);
}

int writer_compressed(struct writer *w, uint64_t guest, size_t len, uint64_t *host, struct error *e)
{
	if (w->data)
		return err_set(e, ERR_UNSUPPORTED, "an external data file cannot hold compressed clusters");
	if (writer_advance(w, guest, w->g.cluster_size, e) < 0 || writer_host_pack(w, len, host, e) < 0)
		return -1;
	return writer_map_run(w, guest, 1, l2_compressed_encode(&w->g, *host, len), 0, 0, e);
}

/* Whether another disk shows what is not written here. */
static bool is_overlay(const struct writer *w)
{
	return w->c.backing_name || w->c.nameless_backing;
}

/* Explicit zeros without host clusters, over a backing file. */
static int map_zeros(struct writer *w, uint64_t guest, uint64_t len, struct error *e)
{
	uint64_t raw = w->c.extended_l2 ? 0 : ENTRY_ZERO, bitmap = ALL_SUBCLUSTERS << 32;
	for (uint64_t n, left = geometry_clusters(&w->g, len); left; left -= n) {
		n = min_u64(left, batch_clusters(w));
		if (writer_flush_due(w, e) < 0 || writer_map_run(w, guest, n, raw, 0, bitmap, e) < 0)
			return -1;
		guest += n << w->g.cluster_bits;
	}
	return 0;
}

int writer_zero(struct writer *w, uint64_t guest, uint64_t len, uint64_t *host, struct error *e)
{
	if (is_overlay(w) && w->c.version == 2)
		return writer_data(w, guest, len, host, e) < 0 ? -1 : 1;
	if (preallocates(w)) {
		if (check_range(w, guest, len, e) < 0 || blank_tail(w, e) < 0 || fill(w, guest, 0, e) < 0)
			return -1;
		uint64_t bitmap = is_overlay(w) ? ALL_SUBCLUSTERS << 32 : 0;
		return fill(w, align_up(guest + len, w->g.cluster_size), bitmap, e);
	}
	if (writer_advance(w, guest, len, e) < 0)
		return -1;
	return is_overlay(w) ? map_zeros(w, guest, len, e) : 0;
}

const uint8_t *writer_header(const struct writer *w)
{
	return w->header;
}

uint64_t writer_file_size(const struct writer *w)
{
	return w->next;
}
