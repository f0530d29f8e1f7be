/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries of L1 and L2 tables that a repair changes, FORMAT.md §12.5. No table is written to where another kind of table lies
 * as well, or where the L1 shares its clusters with anything: what an entry is there is not known. An L2 table that is guest
 * data as well is written to: a COPIED bit left there would let the guest overwrite the table.
 */
#include "qcow2/check_internal.h"

enum { SECTOR = 512 };

static int by_place(const void *a, const void *b)
{
	const struct area *x = a, *y = b;
	return x->first < y->first ? -1 : x->first > y->first;
}

static void add_area(struct check *c, uint64_t host, uint64_t bytes)
{
	struct repair *r = c->repair;
	if (bytes && check_in_file(c, host, bytes))
		r->fixed[r->fixed_count++] =
			(struct area){host >> c->g->cluster_bits, ((host + bytes - 1) >> c->g->cluster_bits) + 1};
}

/* Sorted, neighbours and what overlaps in one. */
static void merge_areas(struct repair *r)
{
	size_t n = 0;
	qsort(r->fixed, r->fixed_count, sizeof *r->fixed, by_place);
	for (size_t i = 1; i < r->fixed_count; i++) {
		if (r->fixed[i].first <= r->fixed[n].end)
			r->fixed[n].end = max_u64(r->fixed[n].end, r->fixed[i].end);
		else
			r->fixed[++n] = r->fixed[i];
	}
	r->fixed_count = n + 1;
}

int repair_fix_areas(struct check *c, struct error *e)
{
	enum { SINGLE = 5 };
	const struct qcow2 *q = c->q;
	const struct header *h = &q->h;
	uint64_t table_bytes = 0;
	c->repair->fixed = mem_calloc(SINGLE + c->reftable_entries + q->snapshot_count + q->bitmap_count,
		sizeof *c->repair->fixed, "places of tables", e);
	if (!c->repair->fixed)
		return -1;
	add_area(c, 0, c->g->cluster_size);
	add_area(c, h->l1_offset, (uint64_t)h->l1_entries * 8);
	add_area(c, h->reftable_offset, c->reftable_entries * 8);
	add_area(c, q->bitmap_directory.directory_offset, q->bitmap_directory.directory_bytes);
	for (uint64_t i = 0; i < c->reftable_entries; i++)
		if (c->reftable[i] & REFTABLE_OFFSET_MASK)
			add_area(c, c->reftable[i] & REFTABLE_OFFSET_MASK, c->g->cluster_size);
	for (uint32_t i = 0; i < q->snapshot_count; i++) {
		add_area(c, q->snapshots[i].entry.l1_offset, (uint64_t)q->snapshots[i].entry.l1_entries * 8);
		table_bytes += q->snapshots[i].entry.bytes;
	}
	add_area(c, h->snapshots_offset, table_bytes);
	for (uint32_t i = 0; i < q->bitmap_count; i++)
		add_area(c, q->bitmaps[i].entry.table_offset, (uint64_t)q->bitmaps[i].entry.table_entries * 8);
	merge_areas(c->repair);
	return 0;
}

/* Whether a table of another kind lies in the cluster. */
static bool is_fixed(const struct repair *r, uint64_t cluster)
{
	size_t low = 0, high = r->fixed_count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (r->fixed[mid].end <= cluster)
			low = mid + 1;
		else
			high = mid;
	}
	return low < r->fixed_count && r->fixed[low].first <= cluster;
}

bool repair_table_allowed(const struct check *c, uint64_t host)
{
	return !geometry_in_cluster(c->g, host) && host < c->file_bytes && c->file_bytes - host >= c->g->cluster_size &&
	       !is_fixed(c->repair, host >> c->g->cluster_bits);
}

int repair_table(struct check *c, uint64_t host, const uint8_t *bytes, size_t from, size_t to, struct error *e)
{
	if (!repair_table_allowed(c, host))
		return 0;
	from = align_down(from, SECTOR);
	to = align_up(to, SECTOR);
	return io_write(c->file, bytes + from, to - from, host + from, e) < 0 ? -1 : 1;
}

int repair_entry(struct check *c, uint64_t host, uint64_t keep, uint64_t set, struct error *e)
{
	uint8_t raw[8];
	if (!repair_table_allowed(c, geometry_cluster_start(c->g, host)) || host % 8)
		return 0;
	if (io_read(c->file, raw, sizeof raw, host, e) < 0)
		return -1;
	const uint64_t old = get_be64(raw), new = (old & keep) | set;
	if (new == old)
		return REPAIR_WAS_RIGHT;
	put_be64(raw, new);
	return io_write(c->file, raw, sizeof raw, host, e) < 0 ? -1 : 1;
}

bool repair_l1_allowed(const struct check *c)
{
	const struct header *h = &c->q->h;
	const uint64_t bytes = (uint64_t)h->l1_entries * 8, first = h->l1_offset >> c->g->cluster_bits;
	return check_in_file(c, h->l1_offset, bytes) &&
	       counts_all_one(&c->counts, first, geometry_clusters(c->g, bytes));
}

int repair_l1_flush(struct check *c, struct error *e)
{
	struct repair *r = c->repair;
	const uint64_t end = c->q->h.l1_offset + (uint64_t)c->q->h.l1_entries * 8;
	if (!r->l1.dirty)
		return 0;
	r->l1.dirty = false;
	return io_write(c->file, r->l1.bytes, (size_t)min_u64(SECTOR, end - r->l1.host), r->l1.host, e);
}

int repair_l1_put(struct check *c, uint64_t index, uint64_t raw, struct error *e)
{
	struct repair *r = c->repair;
	const uint64_t host = c->q->h.l1_offset + index * 8, sector = align_down(host, SECTOR);
	if (!r->l1.dirty || r->l1.host != sector) {
		if (repair_l1_flush(c, e) < 0 || io_read(c->file, r->l1.bytes, SECTOR, sector, e) < 0)
			return -1;
		r->l1.host = sector;
		r->l1.dirty = true;
	}
	put_be64(r->l1.bytes + (host - sector), raw);
	return 0;
}
