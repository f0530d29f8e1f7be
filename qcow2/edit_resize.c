/* SPDX-License-Identifier: Apache-2.0
 *
 * Another size for an edited image (FORMAT.md §5.1, §12.4). What a larger disk must not show, an older and larger one's clusters
 * or a longer backing file, is dealt with while the header still has the old size; what a smaller one gives up
 * goes when the header has the new one.
 * order, growing: longer L1, flush, header's L1 fields; zeros and preallocated clusters, commit; header's size.
 * order, shrinking: header's size; L2 and L1 entries, flush; refcounts; the file's tail.
 */
#include "qcow2/edit_internal.h"

/* ---- a longer L1 table ---- */

static int write_l1(struct edit *ed, const uint64_t *entries, uint64_t from, uint64_t to, uint64_t host,
	struct error *e)
{
	size_t bytes = (size_t)(to - from) * 8;
	AUTO_FREE uint8_t *buf = mem_calloc(to - from + 1, 8, "L1 table", e);

	if (!buf)
		return -1;
	for (uint64_t i = from; i < to; i++)
		put_be64(buf + (i - from) * 8, entries[i]);
	return bytes ? edit_write_table(ed, buf, bytes, host + from * 8, "L1 table", e) : 0;
}

/* Where the longer table goes: the old one's last cluster may have room for it. `from`: the first entry to be written. */
static int place_l1(struct edit *ed, uint64_t entries, uint64_t *host, uint64_t *from, struct error *e)
{
	uint64_t clusters = geometry_clusters(&ed->g, entries * 8);

	*host = ed->q->h.l1_offset;
	*from = ed->l1_entries;
	if (clusters == geometry_clusters(&ed->g, ed->l1_entries * UINT64_C(8)))
		return 0;
	*from = 0;
	if (alloc_clusters(ed, clusters, host, e))
		return -1;
	return edit_add_metadata(ed, *host, entries * 8, e);
}

static int grow_l1(struct edit *ed, uint64_t entries, struct error *e)
{
	struct header h = ed->q->h;
	uint64_t old_host = h.l1_offset, old_clusters = geometry_clusters(&ed->g, h.l1_entries * UINT64_C(8)), from;
	uint64_t *longer;

	if (entries <= ed->l1_entries)
		return 0;
	longer = mem_calloc(entries + 1, sizeof *longer, "L1 table", e);
	if (!longer)
		return -1;
	memcpy(longer, ed->l1, ed->l1_entries * sizeof *longer);
	/* Of what the entries point to nothing may be in memory only. */
	if (edit_commit(ed, e) || place_l1(ed, entries, &h.l1_offset, &from, e) ||
		write_l1(ed, longer, from, entries, h.l1_offset, e) || edit_commit(ed, e)) {
		free(longer);
		return -1;
	}
	h.l1_entries = (uint32_t)entries;
	if (edit_put_header(ed, &h, e)) {
		free(longer);
		return -1;
	}
	free(ed->l1);
	ed->l1 = longer;
	ed->l1_entries = h.l1_entries;
	ed->q->l1_offset = h.l1_offset;
	ed->q->l1_entries = h.l1_entries;
	return h.l1_offset == old_host ? 0 : edit_drop(ed, old_host, old_clusters, e);
}

/* ---- preallocation of the grown part ---- */

static int reserve(struct edit *ed, uint64_t host, uint64_t len, enum prealloc mode, struct error *e)
{
	uint64_t end = host + len, inside = host < ed->data->size ? min_u64(end, ed->data->size) - host : 0;

	ed->unflushed = true;
	if (mode == PREALLOC_FULL)
		return io_write_zeros(ed->data, host, len, e);
	/* Clusters that were used before hold what was in them. */
	if (inside && io_zero(ed->data, host, inside, IO_ZERO_UNMAP, e))
		return -1;
	if (end > ed->data->size && io_truncate(ed->data, end, e))
		return -1;
	return mode == PREALLOC_FALLOC && io_file_fd(ed->data) >= 0 ? io_file_reserve(ed->data, host, len, e) : 0;
}

/* Clusters within one L2 table, at `host`. */
static int link_clusters(struct edit *ed, struct table *t, uint64_t guest, uint64_t n, uint64_t host, struct error *e)
{
	uint64_t all = ed->g.subclusters > 1 ? UINT32_MAX : 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = i << ed->g.cluster_bits;

		if (edit_replace(ed, t, guest + at, (host + at) | ENTRY_COPIED, all, e))
			return -1;
	}
	return 0;
}

static int preallocate(struct edit *ed, uint64_t guest, uint64_t end, enum prealloc mode, struct error *e)
{
	uint64_t span = geometry_l2_span(&ed->g);

	while (guest < end) {
		uint64_t stop = min_u64(end, align_down(guest, span) + span), host = guest;
		uint64_t n = (stop - guest) >> ed->g.cluster_bits;
		struct table *t;
		int failed;

		if (progress_cancelled(ed->progress))
			return err_set(e, ERR_CANCELLED, "cancelled");
		if (map_table_for_write(ed, guest, &t, e))
			return -1;
		failed = (!ed->has_data_file && alloc_clusters(ed, n, &host, e)) ||
			 reserve(ed, host, stop - guest, mode, e) || link_clusters(ed, t, guest, n, host, e);
		table_put(t);
		if (failed)
			return -1;
		guest = stop;
	}
	return 0;
}

/* ---- growing ---- */

/* From here on, more than the old disk is to be zeros. */
static uint64_t zeros_end(const struct edit *ed, uint64_t old, uint64_t size, enum prealloc prealloc)
{
	bool longer = ed->backing ? ed->backing->size > old : ed->q->backing_name != NULL;

	if (longer && prealloc == PREALLOC_OFF)
		return size;
	return min_u64(size, align_up(old, ed->g.cluster_size));
}

static int prepare_growth(struct edit *ed, uint64_t old, uint64_t size, enum prealloc prealloc, struct error *e)
{
	uint64_t first = align_up(old, ed->g.cluster_size), end = align_up(size, ed->g.cluster_size);

	/* What lies beyond the end was never shown, or no longer is. */
	if (first < end && edit_forget_clusters(ed, first, end, e))
		return -1;
	if (edit_zero(ed, old, zeros_end(ed, old, size, prealloc) - old, EDIT_MAY_UNMAP, e))
		return -1;
	return prealloc == PREALLOC_OFF ? 0 : preallocate(ed, first, end, prealloc, e);
}

static int put_size(struct edit *ed, uint64_t size, struct error *e)
{
	struct header h = ed->q->h;

	h.size = size;
	if (edit_commit(ed, e) || edit_put_header(ed, &h, e))
		return -1;
	ed->q->size = size;
	ed->l->size = size;
	return 0;
}

static int resize_data_file(struct edit *ed, uint64_t size, struct error *e)
{
	if (!ed->has_data_file || ed->data->size == size)
		return 0;
	ed->unflushed = true;
	return io_truncate(ed->data, size, e);
}

static int grow(struct edit *ed, uint64_t size, enum prealloc prealloc, struct error *e)
{
	uint64_t old = ed->q->size;
	struct error unsaid;

	if (grow_l1(ed, geometry_l1_entries(&ed->g, size), e) || edit_bitmaps_resize(ed, size, e))
		return -1;
	/* A file's old tail beyond the disk would show. */
	if (ed->has_data_file && ed->data->size > old && resize_data_file(ed, old, e))
		return -1;
	ed->q->size = size; /* in memory: what is beyond the old end can be reached */
	if (prepare_growth(ed, old, size, prealloc, e) || resize_data_file(ed, size, e) || put_size(ed, size, e)) {
		ed->q->size = old;
		if (edit_bitmaps_resize(ed, old, &unsaid))
			ed->broken = true;
		return -1;
	}
	return 0;
}

/* ---- shrinking ---- */

static int shrink(struct edit *ed, uint64_t size, struct error *e)
{
	if (edit_bitmaps_resize(ed, size, e) || put_size(ed, size, e) || edit_give_up(ed, size, e))
		return -1;
	return resize_data_file(ed, size, e);
}

/* ---- both ---- */

/* A snapshot that does not say its size has the disk's, and would change with it. */
static int check_snapshots(const struct edit *ed, struct error *e)
{
	for (uint32_t i = 0; i < ed->q->snapshot_count; i++)
		if (!ed->q->snapshots[i].entry.has_disk_size)
			return ed->q->h.version < 3
				       ? err_set(e, ERR_UNSUPPORTED, "Can't resize a v2 image which has snapshots")
				       : err_set(e, ERR_UNSUPPORTED,
						 "snapshot '%s' has no size of its own and would change with the disk",
						 ed->q->snapshots[i].name);
	return 0;
}

int edit_resize(struct edit *ed, uint64_t size, enum prealloc prealloc, struct error *e)
{
	if (size % 512)
		return err_set(e, ERR_USAGE, "The new size must be a multiple of 512");
	if (check_snapshots(ed, e))
		return -1;
	if (geometry_l1_entries(&ed->g, size) > QCOW2_MAX_L1_BYTES / 8)
		return err_set(e, ERR_LIMIT, "Failed to grow the L1 table: File too large");
	if (size == ed->q->size)
		return 0;
	if (edit_begin_change(ed, e))
		return -1;
	return size > ed->q->size ? grow(ed, size, prealloc, e) : shrink(ed, size, e);
}
