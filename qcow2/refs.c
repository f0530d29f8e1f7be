/* SPDX-License-Identifier: Apache-2.0
 *
 * Refcounts of an edited image (FORMAT.md §7). They rise at once, before anything points to the cluster, and fall only when a
 * commit has made sure that nothing on disk points to it any more (§12.4).
 */
#include "qcow2/edit_internal.h"

enum { DROPS_MAX = 1 << 16 };

static uint64_t refblock_host(const struct edit *ed, uint64_t host)
{
	uint64_t i = geometry_reftable_index(&ed->g, host);

	return i < ed->reftable_entries ? ed->reftable[i] : 0;
}

static void put_count(struct edit *ed, struct table *t, uint64_t index, uint64_t count)
{
	unsigned order = ed->g.refcount_order;
	uint32_t at = (uint32_t)((index << order) / 8), bytes = order > 3 ? 1u << (order - 3) : 1;

	refcount_put(t->bytes, order, index, count);
	table_dirty(t, at, at + bytes);
}

int refs_get(struct edit *ed, uint64_t host, uint64_t *count, struct error *e)
{
	uint64_t block = refblock_host(ed, host);
	struct table *t;

	*count = 0;
	if (!block)
		return 0;
	if (table_get(ed, TABLE_REFBLOCK, block, &t, e))
		return -1;
	*count = refcount_get(t->bytes, ed->g.refcount_order, geometry_refblock_index(&ed->g, host));
	table_put(t);
	return 0;
}

static void set_reftable(struct edit *ed, uint64_t i, uint64_t host)
{
	if (ed->reftable_dirty_from == ed->reftable_dirty_to) {
		ed->reftable_dirty_from = i;
		ed->reftable_dirty_to = i + 1;
	}
	ed->reftable_dirty_from = min_u64(ed->reftable_dirty_from, i);
	ed->reftable_dirty_to = max_u64(ed->reftable_dirty_to, i + 1);
	ed->reftable[i] = host;
}

int refblock_make(struct edit *ed, uint64_t host, uint64_t at, struct table **out, struct error *e)
{
	bool counts_itself = !refblock_host(ed, at);
	int full;

	if (bits_any(&ed->metadata, at >> ed->g.cluster_bits, 1))
		return edit_mark_corrupt(ed, at, "metadata without a refcount", e);
	if (table_new(ed, TABLE_REFBLOCK, at, out, e))
		return -1;
	if (counts_itself) {
		put_count(ed, *out, geometry_refblock_index(&ed->g, at), 1);
		host = at;
	} else {
		full = refs_add(ed, at, e);
		if (full) {
			table_put(*out);
			table_forget(ed, at);
			return full < 0 ? -1 : err_set(e, ERR_CORRUPT, "refcount of a free cluster is full");
		}
	}
	set_reftable(ed, geometry_reftable_index(&ed->g, host), at);
	return edit_add_metadata(ed, at, ed->g.cluster_size, e);
}

int refblock_for_write(struct edit *ed, uint64_t host, struct table **out, bool *made, struct error *e)
{
	uint64_t block;

	*made = false;
	if (geometry_reftable_index(&ed->g, host) >= ed->reftable_entries) {
		*made = true;
		*out = NULL;
		return alloc_grow_table(ed, host, e);
	}
	block = refblock_host(ed, host);
	if (block)
		return table_get(ed, TABLE_REFBLOCK, block, out, e);
	*made = true;
	return refblock_make(ed, host, host, out, e);
}

int refs_add(struct edit *ed, uint64_t host, struct error *e)
{
	uint64_t index = geometry_refblock_index(&ed->g, host), count;
	struct table *t = NULL;
	bool made;

	if (refblock_for_write(ed, host, &t, &made, e))
		return -1;
	if (made && !t && refblock_for_write(ed, host, &t, &made, e))
		return -1;
	count = refcount_get(t->bytes, ed->g.refcount_order, index);
	if (count < refcount_max(ed->g.refcount_order))
		put_count(ed, t, index, count + 1);
	table_put(t);
	return count == refcount_max(ed->g.refcount_order);
}

int edit_drop(struct edit *ed, uint64_t host, uint64_t clusters, struct error *e)
{
	struct run_of_clusters *last = ed->dropped_count ? &ed->dropped[ed->dropped_count - 1] : NULL;

	if (last && last->host + (last->clusters << ed->g.cluster_bits) == host) {
		last->clusters += clusters;
		return 0;
	}
	if (ed->dropped_count >= DROPS_MAX && !ed->committing && edit_commit(ed, e))
		return -1;
	if (ed->dropped_count == ed->dropped_room) {
		size_t room = ed->dropped_room ? ed->dropped_room * 2 : 64;
		struct run_of_clusters *longer = realloc(ed->dropped, room * sizeof *longer);

		if (!longer)
			return err_set(e, ERR_NO_MEMORY, "no memory for clusters to be given up");
		ed->dropped = longer;
		ed->dropped_room = room;
	}
	ed->dropped[ed->dropped_count++] = (struct run_of_clusters){host, clusters};
	return 0;
}

int edit_drop_entry(struct edit *ed, const struct l2_entry *x, struct error *e)
{
	uint64_t first, end;

	if (ed->has_data_file || x->type == CLUSTER_UNALLOCATED || x->type == CLUSTER_ZERO_PLAIN)
		return 0;
	if (x->type != CLUSTER_COMPRESSED)
		return edit_drop(ed, x->host, 1, e);
	first = geometry_cluster_start(&ed->g, x->host);
	end = geometry_clusters(&ed->g, x->host + x->csize) << ed->g.cluster_bits;
	return edit_drop(ed, first, (end - first) >> ed->g.cluster_bits, e);
}

/* Nothing refers to it any more. */
static void freed(struct edit *ed, uint64_t host)
{
	ed->free_cursor = min_u64(ed->free_cursor, host);
	if (ed->packed_at && geometry_cluster_start(&ed->g, ed->packed_at - 1) == host)
		ed->packed_at = 0;
	table_forget(ed, host);
	bits_clear(&ed->metadata, host >> ed->g.cluster_bits, 1);
}

/* 1: nothing refers to the cluster any more. */
static int drop_one(struct edit *ed, struct table *t, uint64_t host, struct error *e)
{
	uint64_t index = geometry_refblock_index(&ed->g, host);
	uint64_t count = refcount_get(t->bytes, ed->g.refcount_order, index);

	if (!count)
		return err_set(e, ERR_CORRUPT, "%s: host cluster at 0x%llx was in use with a refcount of 0",
			ed->file->name, (unsigned long long)host);
	put_count(ed, t, index, count - 1);
	if (count == 1)
		freed(ed, host);
	return count == 1;
}

/* The bytes are wanted by nobody; where the file system cannot take them back they stay. */
static void punch(struct edit *ed, uint64_t host, uint64_t end)
{
	struct error unsaid;

	end = min_u64(end, ed->file->size);
	if (ed->punch && (ed->file->caps & IO_CAN_PUNCH) && host < end)
		(void)io_zero(ed->file, host, end - host, IO_ZERO_UNMAP, &unsaid);
}

/* As much of a run as one block counts. */
static int drop_in_block(struct edit *ed, struct run_of_clusters *r, struct error *e)
{
	uint64_t block = refblock_host(ed, r->host), left = 1ull << ed->g.refblock_bits, free_from = r->host;
	struct table *t;
	int was_last = 0;

	if (!block)
		return err_set(e, ERR_CORRUPT, "%s: host cluster at 0x%llx was in use without a refcount",
			ed->file->name, (unsigned long long)r->host);
	if (table_get(ed, TABLE_REFBLOCK, block, &t, e))
		return -1;
	left -= geometry_refblock_index(&ed->g, r->host);
	for (; was_last >= 0 && left && r->clusters; left--) {
		was_last = drop_one(ed, t, r->host, e);
		if (was_last <= 0) {
			punch(ed, free_from, r->host);
			free_from = r->host + ed->g.cluster_size;
		}
		r->host += ed->g.cluster_size;
		r->clusters--;
	}
	punch(ed, free_from, r->host);
	table_put(t);
	return was_last < 0 ? -1 : 0;
}

int refs_drop_now(struct edit *ed, struct error *e)
{
	struct error first = {0};

	/* What cannot be taken off stays as a leak; the rest goes on. */
	for (size_t i = 0; i < ed->dropped_count; i++)
		while (ed->dropped[i].clusters)
			if (drop_in_block(ed, &ed->dropped[i], e)) {
				if (!first.code)
					first = *e;
				break;
			}
	ed->dropped_count = 0;
	if (first.code)
		*e = first;
	return first.code ? -1 : 0;
}
