/* SPDX-License-Identifier: Apache-2.0
 *
 * What an edited image gives up, from some guest offset on or all of it, and the end of its file, where clusters that
 * nothing refers to are cut off (FORMAT.md §7.4, §12.4).
 * order: L1 and L2 entries, flush; refcounts, flush; the file's length.
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

static int drop_table(struct edit *ed, uint64_t guest, struct error *e)
{
	uint64_t index = geometry_l1_index(&ed->g, guest), host;
	struct l2_entry x;
	struct table *t;
	int failed = 0;

	if (map_table(ed, guest, &t, e))
		return -1;
	if (!t)
		return 0;
	host = t->host;
	for (uint64_t i = 0; !failed && i < 1ull << ed->g.l2_bits; i++)
		failed = map_entry(ed, t, guest + (i << ed->g.cluster_bits), &x, e) || edit_drop_entry(ed, &x, e);
	table_put(t);
	if (failed)
		return -1;
	map_unlink(ed, index);
	return edit_drop(ed, host, 1, e);
}

int edit_give_up(struct edit *ed, uint64_t guest, struct error *e)
{
	uint64_t span = geometry_l2_span(&ed->g), end = ed->l1_entries * span;
	uint64_t first = align_up(guest, ed->g.cluster_size), whole = align_up(first, span);

	ed->punch = true;
	if (first < min_u64(whole, end) && edit_forget_clusters(ed, first, min_u64(whole, end), e))
		return -1;
	for (; whole < end; whole += span)
		if (drop_table(ed, whole, e))
			return -1;
	/* Pointers gone, then counts down, then these written. */
	if (edit_flush(ed, e) || edit_flush(ed, e))
		return -1;
	ed->punch = false;
	return edit_cut_tail(ed, e);
}

int edit_empty(struct edit *ed, struct error *e)
{
	if (edit_begin_change(ed, e) || edit_give_up(ed, 0, e))
		return -1;
	return edit_sync(ed, e);
}
