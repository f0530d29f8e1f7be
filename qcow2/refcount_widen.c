/* SPDX-License-Identifier: Apache-2.0
 *
 * Refcounts of another width, FORMAT.md §7.3 and §12.4: a new refcount structure behind the end of the file, which counts
 * itself and the old one, then the old one is given up.
 * order: blocks and table; flush. Header (table and width), one write; flush. References of the old structure leave the
 * refcounts.
 */
#include "qcow2/edit_internal.h"

struct rebuild {
	struct edit *ed;
	unsigned order;       /* of the new counts */
	uint64_t end;         /* clusters of the file now: the new structure begins here */
	uint64_t blocks;      /* that the new table has, or would have if none were left out */
	uint64_t made, table; /* clusters of blocks that are written, and of the table behind them */
	uint8_t *needed;      /* by block: 1, some count in it is not 0 */
	uint64_t surveyed;    /* blocks it tells of */
	uint8_t *old, *new;   /* one block each */
	uint64_t old_index;   /* which block is in `old`, UINT64_MAX: none */
};

static uint64_t per_block(const struct rebuild *r)
{
	return 1ull << (r->ed->g.cluster_bits + 3 - r->order);
}

/* The count as the old structure has it. */
static int old_count(struct rebuild *r, uint64_t cluster, uint64_t *count, struct error *e)
{
	const struct edit *ed = r->ed;
	const uint64_t i = cluster >> ed->g.refblock_bits;
	*count = 0;
	if (i >= ed->reftable_entries || !ed->reftable[i])
		return 0;
	if (r->old_index != i &&
		io_read_exact(ed->file, r->old, ed->g.cluster_size, ed->reftable[i], "refcount block", e) < 0)
		return -1;
	r->old_index = i;
	*count = refcount_get(r->old, ed->g.refcount_order, cluster & ((1ull << ed->g.refblock_bits) - 1));
	return 0;
}

/* The first cluster from `cluster` on that has an old block to look into. */
static uint64_t skip_missing(const struct rebuild *r, uint64_t cluster, uint64_t end)
{
	const struct edit *ed = r->ed;
	uint64_t i = cluster >> ed->g.refblock_bits;
	if (i < ed->reftable_entries && ed->reftable[i])
		return cluster;
	while (i < ed->reftable_entries && !ed->reftable[i])
		i++;
	return i < ed->reftable_entries ? min_u64(end, i << ed->g.refblock_bits) : end;
}

/* Whether all counts fit, where the last one is that is not 0, and which new blocks are needed. */
static int survey(struct rebuild *r, struct error *e)
{
	const struct edit *ed = r->ed;
	const uint64_t end = ed->reftable_entries << ed->g.refblock_bits;
	r->end = geometry_clusters(&ed->g, ed->file->size);
	r->surveyed = max_u64(end, r->end) / per_block(r) + 2;
	r->needed = mem_calloc(r->surveyed, 1, "list of refcount blocks", e);
	if (!r->needed)
		return -1;
	for (uint64_t i = skip_missing(r, 0, end); i < end; i = skip_missing(r, i + 1, end)) {
		uint64_t count;
		if (old_count(r, i, &count, e) < 0)
			return -1;
		if (count == 0)
			continue;
		if (count > refcount_max(r->order))
			return err_set(e, ERR_LIMIT,
				"cluster %llu has a refcount of %llu, more than %u bits can hold; nothing was changed",
				(unsigned long long)i, (unsigned long long)count, 1u << r->order);
		r->needed[i / per_block(r)] = 1;
		r->end = max_u64(r->end, i + 1);
	}
	return 0;
}

/* How many blocks are there, with those for the new area itself. */
static int plan(struct rebuild *r, struct error *e)
{
	const struct edit *ed = r->ed;
	uint64_t before = 0, last;
	for (uint64_t i = 0; i < r->end / per_block(r); i++)
		before += r->needed[i];
	for (r->made = before + 1;; r->made++) {
		r->blocks = r->end / per_block(r) + (r->made - before);
		r->table = div_round_up(r->blocks * 8, ed->g.cluster_size);
		last = r->end + r->made + r->table;
		if (last <= r->blocks * per_block(r))
			break;
	}
	if (r->table << ed->g.cluster_bits > QCOW2_MAX_REFTABLE_BYTES)
		return err_set(e, ERR_LIMIT, "the refcount table would be larger than %d bytes",
			QCOW2_MAX_REFTABLE_BYTES);
	if (last << ed->g.cluster_bits > ENTRY_OFFSET_MASK)
		return err_set(e, ERR_LIMIT, "the file would be longer than its tables can tell");
	return 0;
}

static int fill_block(struct rebuild *r, uint64_t index, struct error *e)
{
	const uint64_t first = index * per_block(r), own_end = r->end + r->made + r->table;
	memset(r->new, 0, r->ed->g.cluster_size);
	for (uint64_t k = 0; k < per_block(r); k++) {
		const uint64_t cluster = first + k;
		uint64_t count = 1;
		if (cluster >= own_end)
			break;
		if (cluster < r->end && old_count(r, cluster, &count, e) < 0)
			return -1;
		refcount_put(r->new, r->order, k, count);
	}
	return 0;
}

static int write_structure(struct rebuild *r, struct error *e)
{
	struct edit *ed = r->ed;
	const unsigned bits = ed->g.cluster_bits;
	const size_t table_bytes = (size_t)r->table << bits;
	uint64_t at = r->end;
	AUTO_FREE uint8_t *table = mem_calloc(1, table_bytes, "refcount table", e);
	if (!table)
		return -1;
	for (uint64_t i = 0; i < r->blocks; i++) {
		if (i < r->end / per_block(r) && !r->needed[i])
			continue;
		if (fill_block(r, i, e) < 0 ||
			edit_write_table(ed, r->new, ed->g.cluster_size, at << bits, "refcount block", e) < 0)
			return -1;
		put_be64(table + i * 8, at++ << bits);
	}
	return edit_write_table(ed, table, table_bytes, at << bits, "refcount table", e);
}

static int drop_old(struct edit *ed, const uint64_t *blocks, uint64_t entries, const struct header *h, struct error *e)
{
	if (edit_drop(ed, h->reftable_offset, h->reftable_clusters, e) < 0)
		return -1;
	for (uint64_t i = 0; i < entries; i++)
		if (blocks[i] && edit_drop(ed, blocks[i], 1, e) < 0)
			return -1;
	return 0;
}

static int switch_over(struct rebuild *r, struct error *e)
{
	struct edit *ed = r->ed;
	const struct header old = ed->q->h;
	const uint64_t entries = ed->reftable_entries;
	struct header h = old;
	h.reftable_offset = (r->end + r->made) << ed->g.cluster_bits;
	h.reftable_clusters = (uint32_t)r->table;
	h.refcount_order = r->order;
	if (edit_put_header(ed, &h, e) < 0)
		return -1;
	header_geometry(&h, &ed->g);
	ed->q->g = ed->g;
	AUTO_FREE uint64_t *blocks = STEAL(ed->reftable);
	ed->broken = edit_reload(ed, e) < 0;
	return ed->broken ? -1 : drop_old(ed, blocks, entries, &old, e);
}

static int rebuild(struct rebuild *r, struct error *e)
{
	struct edit *ed = r->ed;
	r->old = mem_alloc_pages(ed->g.cluster_size, "refcount block", e);
	r->new = mem_alloc_pages(ed->g.cluster_size, "refcount block", e);
	if (!r->old || !r->new || survey(r, e) < 0 || plan(r, e) < 0 || edit_begin_change(ed, e) < 0)
		return -1;
	return write_structure(r, e) < 0 ? -1 : switch_over(r, e);
}

int edit_set_refcount_bits(struct edit *ed, unsigned bits, struct error *e)
{
	struct rebuild r = {.ed = ed, .old_index = UINT64_MAX};
	while (r.order < 6 && 1u << r.order < bits)
		r.order++;
	if (bits != 1u << r.order)
		return err_set(e, ERR_USAGE, "refcounts are 1, 2, 4, 8, 16, 32 or 64 bits wide, not %u", bits);
	if (r.order == ed->g.refcount_order)
		return 0;
	if (ed->q->h.version < 3)
		return err_set(e, ERR_UNSUPPORTED, "version 2 images (compat=0.10) have refcounts of 16 bits only");
	if (edit_settle(ed, e) < 0)
		return -1;
	int rc = rebuild(&r, e);
	free(r.needed);
	free(r.old);
	free(r.new);
	return rc;
}
