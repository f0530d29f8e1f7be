/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts that operations on internal snapshots have in common; see qcow2/snapshot_edit.h.
 */
#include "qcow2/snapshot_edit.h"

int snapshot_edit_begin(struct snapshot_edit *s, struct edit *ed, unsigned threads, struct error *e)
{
	*s = (struct snapshot_edit){.ed = ed};
	if (ed->has_data_file)
		return err_set(e, ERR_UNSUPPORTED, "an image with an external data file has no internal snapshots");
	if (edit_settle(ed, e) < 0)
		return -1;
	/* Its cluster may be given up. */
	ed->packed_at = 0;
	return trees_begin(&s->trees, ed->l, threads, ed->progress, e);
}

void snapshot_edit_end(struct snapshot_edit *s)
{
	trees_end(&s->trees);
	counts_free(&s->up);
	counts_free(&s->down);
	free(s->table);
}

int snapshot_edit_index(struct edit *ed, uint32_t index, struct error *e)
{
	if (index >= ed->q->snapshot_count)
		return err_set(e, ERR_USAGE, "there is no snapshot %u", index);
	const struct qcow2_snapshot *sn = &ed->q->snapshots[index];
	const uint64_t size = sn->entry.has_disk_size ? sn->entry.disk_size : 0;
	const uint64_t end = sn->entry.l1_offset + (uint64_t)sn->entry.l1_entries * 8;
	if (l1_table_check(&ed->g, sn->entry.l1_offset, sn->entry.l1_entries, size, e) < 0)
		return err_prefix(e, "snapshot '%s'", sn->name);
	if (end > ed->file->size)
		return err_set(e, ERR_CORRUPT, "snapshot '%s': L1 table at 0x%llx is past the end of the file",
			sn->name, (unsigned long long)sn->entry.l1_offset);
	return 0;
}

int snapshot_edit_copy_l1(struct snapshot_edit *s, uint64_t from, uint32_t entries, uint32_t room, struct error *e)
{
	struct edit *ed = s->ed;
	s->l1_clusters = geometry_clusters(&ed->g, (uint64_t)room * 8);
	const size_t bytes = (size_t)s->l1_clusters << ed->g.cluster_bits;
	AUTO_FREE uint8_t *l1 = mem_calloc(1, bytes, "L1 table", e);
	if (!l1 || io_read(ed->file, l1, (size_t)entries * 8, from, e) < 0)
		return -1;
	for (size_t i = 0; i < entries; i++)
		put_be64(l1 + i * 8, get_be64(l1 + i * 8) & ~ENTRY_COPIED);
	if (alloc_clusters(ed, s->l1_clusters, &s->l1_host, e) < 0)
		return -1;
	return edit_write_table(ed, l1, bytes, s->l1_host, "L1 table", e);
}

int snapshot_edit_settle(struct snapshot_edit *s, struct error *e)
{
	return edit_settle(s->ed, e) < 0 ? -1 : trees_reload(&s->trees, e);
}

void snapshot_edit_undo(struct snapshot_edit *s)
{
	struct edit *ed = s->ed;
	struct error ignored;
	if (s->l1_host)
		edit_drop(ed, s->l1_host, s->l1_clusters, &ignored);
	if (s->table_host)
		edit_drop(ed, s->table_host, geometry_clusters(&ed->g, s->table_bytes), &ignored);
	s->l1_host = s->table_host = 0;
}

int snapshot_edit_try(struct snapshot_edit *s, struct sweep_result *r, struct error *e)
{
	struct edit *ed = s->ed;
	if (trees_try(&s->trees, &s->up, &s->down, r, e) < 0)
		return -1;
	ed->free_cursor = r->first_free << ed->g.cluster_bits;
	if (r->peak <= refcount_max(ed->g.refcount_order))
		return 0;
	(void)err_set(e, ERR_LIMIT,
		"the refcount of cluster %llu would be %llu, which refcounts of %u bits cannot hold; nothing was "
		"changed",
		(unsigned long long)r->peak_at, (unsigned long long)r->peak, 1u << ed->g.refcount_order);
	return 1;
}

int snapshot_edit_widen(struct edit *ed, uint64_t peak, bool widen, struct error *e)
{
	const struct error why = *e;
	unsigned order = 0;
	while (refcount_max(order) < peak)
		order++;
	if (!widen)
		return err_set(e, ERR_LIMIT, "%.900s (--widen: %u bits would do)", why.msg, 1u << order);
	return edit_set_refcount_bits(ed, 1u << order, e);
}

int snapshot_edit_finish(struct snapshot_edit *s, struct error *e)
{
	struct edit *ed = s->ed;
	if (edit_settle(ed, e) < 0)
		return -1;
	if (edit_reload(ed, e) < 0) {
		ed->broken = true;
		return -1;
	}
	return 0;
}

void snapshot_edit_l1_copied(struct edit *ed, const struct marks *ones, uint32_t n)
{
	for (uint32_t i = 0; i < n && i < ed->l1_entries; i++) {
		const uint64_t table = ed->l1[i] & ENTRY_OFFSET_MASK;
		const bool wanted = table && ones && marks_get(ones, table >> ed->g.cluster_bits);
		if (wanted == ((ed->l1[i] & ENTRY_COPIED) != 0))
			continue;
		ed->l1[i] ^= ENTRY_COPIED;
		if (ed->l1_dirty_from == ed->l1_dirty_to)
			ed->l1_dirty_from = i;
		ed->l1_dirty_from = i < ed->l1_dirty_from ? i : ed->l1_dirty_from;
		ed->l1_dirty_to = i >= ed->l1_dirty_to ? i + 1 : ed->l1_dirty_to;
	}
}
