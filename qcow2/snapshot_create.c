/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking an internal snapshot, FORMAT.md §8 and §12.4. All that can make it impossible is found by reading.
 *
 * order: the L1 copy and the new snapshot table, with their refcounts; flush. Refcounts of all that the active state refers to, one
 * higher, and COPIED cleared in its tables; flush. The header, one write; flush. The old snapshot table is given up. A crash before
 * the header leaves refcounts that are too high and COPIED bits that are missing: leaks.
 */
#include "qcow2/snapshot_edit.h"

/* Entries of the active L1 that map the disk; behind them may be VM state that somebody left. */
static uint32_t disk_entries(const struct edit *ed)
{
	return (uint32_t)max_u64(1, min_u64(ed->l1_entries, geometry_l1_entries(&ed->g, ed->q->h.size)));
}

/* Looks at everything, writes nothing. *peak: the highest refcount that there will be. */
static int examine(struct snapshot_edit *s, const struct snapshot_new *n, struct sweep_result *r, struct error *e)
{
	struct edit *ed = s->ed;
	if (snapshot_table_add(s, n, 0, disk_entries(ed), e) < 0)
		return -1;
	const struct tree active = {
		NULL, ed->q->h.l1_offset, (uint32_t)min_u64(ed->l1_entries, disk_entries(ed)), &s->up};
	if (trees_collect(&s->trees, &active, e) < 0)
		return -1;
	return snapshot_edit_try(s, r, e);
}

static int prepare(struct snapshot_edit *s, const struct snapshot_new *n, struct error *e)
{
	struct edit *ed = s->ed;
	const uint32_t entries = disk_entries(ed), present = (uint32_t)min_u64(ed->l1_entries, entries);
	const uint64_t l1 = ed->q->h.l1_offset;
	if (edit_begin_change(ed, e) < 0 || snapshot_edit_copy_l1(s, l1, present, entries, e) < 0)
		return -1;
	if (snapshot_table_add(s, n, s->l1_host, entries, e) < 0 || snapshot_table_place(s, e) < 0 ||
		snapshot_edit_settle(s, e) < 0)
		return -1;
	ed->unflushed = true;
	if (trees_raise(&s->trees, &s->up, NULL, e) < 0 || trees_copied(&s->trees, l1, present, false, e) < 0)
		return -1;
	snapshot_edit_l1_copied(ed, NULL, present);
	return edit_commit(ed, e);
}

static int create(struct snapshot_edit *s, const struct snapshot_new *n, struct error *e)
{
	bool switched = false;
	if (prepare(s, n, e) < 0 || snapshot_table_switch(s, &s->ed->q->h, &switched, e) < 0) {
		if (!switched)
			snapshot_edit_undo(s);
		return -1;
	}
	return snapshot_edit_finish(s, e);
}

/* 1: refcounts are too narrow for *peak, and `e` says so. */
static int try_to_create(struct edit *ed, const struct snapshot_new *n, uint64_t *peak, struct error *e)
{
	struct snapshot_edit s;
	struct sweep_result r = {0};
	int rc = snapshot_edit_begin(&s, ed, n->threads, e);
	if (rc == 0)
		rc = examine(&s, n, &r, e);
	if (rc == 0)
		rc = create(&s, n, e);
	*peak = r.peak;
	snapshot_edit_end(&s);
	return rc;
}

int edit_snapshot_create(struct edit *ed, const struct snapshot_new *n, struct error *e)
{
	uint64_t peak;
	if (snapshot_check_names(ed, n, e) < 0)
		return -1;
	int rc = try_to_create(ed, n, &peak, e);
	if (rc > 0)
		rc = snapshot_edit_widen(ed, peak, n->widen, e) < 0 ? -1 : try_to_create(ed, n, &peak, e);
	return rc == 0 ? 0 : -1;
}
