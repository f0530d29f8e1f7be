/* SPDX-License-Identifier: Apache-2.0
 *
 * A longer refcount table (FORMAT.md §7.1), made where the old one could not have counted anything: blocks that count
 * themselves and the table, then the table.
 * order: blocks and table, flush, header, flush; the old table is given up with the next commit.
 */
#include "qcow2/edit_internal.h"

struct growth {
	uint64_t first;         /* host cluster where the new area begins */
	uint64_t blocks, table; /* clusters of it */
	uint64_t entries;       /* of the new table */
};

static uint64_t entries_per_cluster(const struct edit *ed)
{
	return ed->g.cluster_size / 8;
}

/* Blocks for the area itself and a table for `needed` entries and half as many more. */
static int plan(struct edit *ed, uint64_t needed, struct growth *p, struct error *e)
{
	uint64_t per_block = 1ull << ed->g.refblock_bits, max = QCOW2_MAX_REFTABLE_BYTES / 8;

	p->first = ed->reftable_entries << ed->g.refblock_bits;
	for (p->blocks = 1;; p->blocks++) {
		uint64_t least = max_u64(needed, ed->reftable_entries + p->blocks);

		if (least > max)
			return err_set(e, ERR_LIMIT, "%s: the refcount table would be larger than %d bytes",
				ed->file->name, QCOW2_MAX_REFTABLE_BYTES);
		p->table = div_round_up(min_u64(least + least / 2, max), entries_per_cluster(ed));
		p->entries = p->table * entries_per_cluster(ed);
		if (p->blocks * per_block >= p->blocks + p->table)
			return 0;
	}
}

static int write_blocks(struct edit *ed, const struct growth *p, struct error *e)
{
	AUTO_FREE uint8_t *block = mem_alloc_pages(max_u64(ed->g.cluster_size, 512), "refcount block", e);
	uint64_t per_block = 1ull << ed->g.refblock_bits, left = p->blocks + p->table;

	if (!block)
		return -1;
	for (uint64_t i = 0; i < p->blocks; i++) {
		uint64_t n = min_u64(left, per_block);

		memset(block, 0, ed->g.cluster_size);
		for (uint64_t k = 0; k < n; k++)
			refcount_put(block, ed->g.refcount_order, k, 1);
		left -= n;
		if (edit_write_table(ed, block, ed->g.cluster_size, (p->first + i) << ed->g.cluster_bits,
			    "refcount block", e))
			return -1;
	}
	return 0;
}

static int write_table(struct edit *ed, const struct growth *p, const uint64_t *table, struct error *e)
{
	AUTO_FREE uint8_t *bytes = mem_calloc(p->entries, 8, "refcount table", e);

	if (!bytes)
		return -1;
	for (uint64_t i = 0; i < p->entries; i++)
		put_be64(bytes + i * 8, table[i]);
	return edit_write_table(ed, bytes, (size_t)p->entries * 8, (p->first + p->blocks) << ed->g.cluster_bits,
		"refcount table", e);
}

int alloc_grow_table(struct edit *ed, uint64_t host, struct error *e)
{
	uint64_t old_host = ed->q->h.reftable_offset, old_clusters = ed->q->h.reftable_clusters;
	struct header h;
	struct growth p;
	AUTO_FREE uint64_t *table = NULL;

	/* The old table must be complete on disk before another takes its place. */
	if (edit_commit(ed, e) || plan(ed, geometry_reftable_index(&ed->g, host) + 1, &p, e))
		return -1;
	if (bits_any(&ed->metadata, p.first, p.blocks + p.table))
		return edit_mark_corrupt(ed, p.first << ed->g.cluster_bits, "metadata without a refcount", e);
	table = mem_calloc(p.entries, sizeof *table, "refcount table", e);
	if (!table)
		return -1;
	memcpy(table, ed->reftable, (size_t)ed->reftable_entries * sizeof *table);
	for (uint64_t i = 0; i < p.blocks; i++)
		table[ed->reftable_entries + i] = (p.first + i) << ed->g.cluster_bits;
	if (write_blocks(ed, &p, e) || write_table(ed, &p, table, e) ||
		edit_add_metadata(ed, p.first << ed->g.cluster_bits, (p.blocks + p.table) << ed->g.cluster_bits, e))
		return -1;
	h = ed->q->h;
	h.reftable_offset = (p.first + p.blocks) << ed->g.cluster_bits;
	h.reftable_clusters = (uint32_t)p.table;
	if (edit_put_header(ed, &h, e))
		return -1;
	free(ed->reftable);
	ed->reftable = STEAL(table);
	ed->reftable_entries = p.entries;
	return edit_drop(ed, old_host, old_clusters, e);
}
