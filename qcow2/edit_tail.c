/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of an edited image's file: clusters that nothing refers to are cut off (FORMAT.md §7.4, §12.4).
 */
#include "qcow2/edit_internal.h"

/* The end of the last cluster below `end` that has a reference, looked for in one refcount block. */
static int last_in_block(struct edit *ed, uint64_t block, uint64_t *end, struct error *e)
{
	uint64_t first = block << ed->g.refblock_bits, c = *end;
	struct table *t;

	if (!ed->reftable[block]) {
		*end = first;
		return 0;
	}
	if (table_get(ed, TABLE_REFBLOCK, ed->reftable[block], &t, e))
		return -1;
	while (c > first && !refcount_get(t->bytes, ed->g.refcount_order, c - 1 - first))
		c--;
	table_put(t);
	*end = c;
	return 0;
}

int edit_cut_tail(struct edit *ed, struct error *e)
{
	uint64_t old = geometry_clusters(&ed->g, ed->file->size), end = old, counted;

	if (ed->file->caps & IO_IS_DEVICE)
		return 0;
	counted = ed->reftable_entries << ed->g.refblock_bits;
	end = min_u64(end, counted);
	for (uint64_t block = div_round_up(end, 1ull << ed->g.refblock_bits); block-- > 0;) {
		uint64_t first = block << ed->g.refblock_bits;

		if (last_in_block(ed, block, &end, e))
			return -1;
		if (end > first)
			break;
	}
	if (end == old)
		return 0;
	/* order: what the counts no longer say, then the length */
	if (edit_flush(ed, e) || io_truncate(ed->file, end << ed->g.cluster_bits, e))
		return -1;
	ed->unflushed = true;
	return 0;
}
