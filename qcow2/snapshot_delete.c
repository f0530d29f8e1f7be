/* SPDX-License-Identifier: Apache-2.0
 *
 * Deleting an internal snapshot, FORMAT.md §12.4.
 *
 * order: the new snapshot table with its refcount; flush. The header, one write; flush. Refcounts of all that the snapshot referred
 * to, one lower; its L1 and the old table are given up; COPIED set in the active state where a refcount came back to 1. A crash after
 * the header leaves refcounts that are too high: leaks.
 */
#include "qcow2/snapshot_edit.h"

static int examine(struct snapshot_edit *s, const struct snapshot_entry *gone, const char *name, struct error *e)
{
	const struct header *h = &s->ed->q->h;
	struct sweep_result r;
	const struct tree going = {name, gone->l1_offset, gone->l1_entries, &s->down};
	const struct tree active = {NULL, h->l1_offset, h->l1_entries, &s->up};
	if (trees_collect_two(&s->trees, &going, &active, e) < 0)
		return -1;
	/* Both are there now: what the active state needs must be left over. */
	int rc = snapshot_edit_try(s, &r, e) < 0 ? -1 : 0;
	counts_free(&s->up);
	return rc;
}

static int finish(struct snapshot_edit *s, const struct snapshot_entry *gone, struct error *e)
{
	struct edit *ed = s->ed;
	const struct header *h = &ed->q->h;
	const uint64_t clusters = geometry_clusters(&ed->g, (uint64_t)gone->l1_entries * 8);
	ed->unflushed = true;
	if (trees_lower(&s->trees, NULL, &s->down, e) < 0 ||
		trees_copied(&s->trees, h->l1_offset, h->l1_entries, true, e) < 0)
		return -1;
	snapshot_edit_l1_copied(ed, &s->trees.ones, ed->l1_entries);
	if (edit_drop(ed, gone->l1_offset, clusters, e) < 0)
		return -1;
	return snapshot_edit_finish(s, e);
}

static int remove_entry(struct snapshot_edit *s, uint32_t index, struct error *e)
{
	struct edit *ed = s->ed;
	const struct snapshot_entry gone = ed->q->snapshots[index].entry;
	bool switched = false;
	if (examine(s, &gone, ed->q->snapshots[index].name, e) < 0 || snapshot_table_make(s, index, NULL, e) < 0)
		return -1;
	if (edit_begin_change(ed, e) < 0 || snapshot_table_place(s, e) < 0 || snapshot_edit_settle(s, e) < 0 ||
		snapshot_table_switch(s, &ed->q->h, &switched, e) < 0) {
		if (!switched)
			snapshot_edit_undo(s);
		return -1;
	}
	/* What is half counted is not worked on. */
	ed->broken = finish(s, &gone, e) < 0;
	return ed->broken ? -1 : 0;
}

int edit_snapshot_delete(struct edit *ed, uint32_t index, unsigned threads, struct error *e)
{
	struct snapshot_edit s;
	if (snapshot_edit_index(ed, index, e) < 0)
		return -1;
	int rc = snapshot_edit_begin(&s, ed, threads, e);
	if (rc == 0)
		rc = remove_entry(&s, index, e);
	snapshot_edit_end(&s);
	return rc;
}
