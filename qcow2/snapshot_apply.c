/* SPDX-License-Identifier: Apache-2.0
 *
 * Going back to an internal snapshot, FORMAT.md §8.4 and §12.4. The new active L1 is a copy of the snapshot's, of the disk alone: VM
 * state behind the disk's end is for whoever loads it, and would show as data once the disk grows. The state before goes, or
 * becomes a snapshot by the same write: its L1 table is that snapshot's then, and no refcount of its own clusters changes.
 *
 * order: bitmaps marked as in use; the new L1 table with its refcount; flush. Refcounts of what the snapshot refers to and the active
 * state does not, one higher, and COPIED cleared in the snapshot's L2 tables; flush. The header (L1 and size), one write; flush.
 * Refcounts of what only the old state referred to, one lower; the old L1 is given up. What is active now is shared with the
 * snapshot, all of it, so there is no COPIED bit to set. With a snapshot of the state before: its entry in a new snapshot table is
 * written with the new L1; nothing is lowered.
 */
#include "qcow2/snapshot_edit.h"

struct apply {
	struct snapshot_edit s;
	const struct qcow2_snapshot *to;
	const struct snapshot_new *keep; /* the snapshot that the state before becomes; NULL: none */
	uint32_t entries, present;       /* of the new L1; of them in the snapshot's */
	bool new_table;                  /* of snapshots: those without a size of their own get one */
	uint64_t size;
	uint64_t old_l1;
	uint32_t old_entries;
};

/* Whether some snapshot says nothing of its size, so that its size is the header's. */
static bool size_is_shared(const struct edit *ed)
{
	for (uint32_t i = 0; i < ed->q->snapshot_count; i++)
		if (!ed->q->snapshots[i].entry.has_disk_size)
			return true;
	return false;
}

/* All bitmaps are in memory, and a disk of the new size can have them. */
static int follow_with_bitmaps(struct apply *a, struct error *e)
{
	const struct qcow2 *q = a->s.ed->q;
	for (uint32_t i = 0; i < q->bitmap_count; i++) {
		const unsigned bits = q->bitmaps[i].entry.granularity_bits;
		if (bitmap_table_entries(&q->g, bits, a->size) << q->g.cluster_bits > QCOW2_MAX_BITMAP_BYTES)
			return err_set(e, ERR_LIMIT, "bitmap '%s' would be larger than %d bytes", q->bitmaps[i].name,
				QCOW2_MAX_BITMAP_BYTES);
	}
	return edit_bitmaps_load_all(a->s.ed, e);
}

/* 1: as snapshot_edit_try. */
static int examine(struct apply *a, uint64_t *peak, struct error *e)
{
	struct snapshot_edit *s = &a->s;
	struct edit *ed = s->ed;
	struct sweep_result r;
	const uint64_t needed = geometry_l1_entries(&ed->g, a->to->disk_size);
	if (needed > QCOW2_MAX_L1_BYTES / 8)
		return err_set(e, ERR_LIMIT, "the disk of snapshot '%s' is too large", a->to->name);
	a->size = a->to->disk_size;
	a->entries = (uint32_t)max_u64(needed, 1);
	a->present = (uint32_t)min_u64(a->to->entry.l1_entries, needed);
	a->old_l1 = ed->q->h.l1_offset;
	a->old_entries = ed->q->h.l1_entries;
	a->new_table = a->keep || (a->size != ed->q->h.size && size_is_shared(ed));
	if (a->keep ? snapshot_table_add(s, a->keep, a->old_l1, a->old_entries, e) < 0
		    : a->new_table && snapshot_table_make(s, NOWHERE, NULL, e) < 0)
		return -1;
	const struct tree to = {a->to->name, a->to->entry.l1_offset, a->present, &s->up};
	const struct tree active = {NULL, a->old_l1, a->old_entries, &s->down};
	if (a->keep ? trees_collect(&s->trees, &to, e) < 0 : trees_collect_two(&s->trees, &to, &active, e) < 0)
		return -1;
	const int rc = snapshot_edit_try(s, &r, e);
	*peak = r.peak;
	return rc;
}

static int prepare(struct apply *a, struct error *e)
{
	struct snapshot_edit *s = &a->s;
	const uint64_t from = a->to->entry.l1_offset;
	/* Those that are disabled must get another size as well. */
	if (a->size != s->ed->q->h.size && follow_with_bitmaps(a, e) < 0)
		return -1;
	if (edit_begin_change(s->ed, e) < 0 || snapshot_edit_copy_l1(s, from, a->present, a->entries, e) < 0 ||
		(a->new_table && snapshot_table_place(s, e) < 0) || snapshot_edit_settle(s, e) < 0)
		return -1;
	s->ed->unflushed = true;
	if (trees_raise(&s->trees, &s->up, &s->down, e) < 0)
		return -1;
	return trees_copied(&s->trees, from, a->present, false, e);
}

/* The new table as the editor holds it, made before the switch so that nothing can fail after it. */
static uint64_t *load_l1(struct apply *a, struct error *e)
{
	uint64_t *l1 = mem_calloc(a->entries, sizeof *l1, "L1 table", e);
	if (!l1 || io_read(a->s.ed->file, l1, (size_t)a->entries * 8, a->s.l1_host, e) < 0) {
		free(l1);
		return NULL;
	}
	for (uint32_t i = 0; i < a->entries; i++)
		l1[i] = get_be64(&l1[i]);
	return l1;
}

static int switch_l1(struct apply *a, bool *switched, struct error *e)
{
	struct edit *ed = a->s.ed;
	struct header h = ed->q->h;
	h.size = a->size;
	h.l1_offset = a->s.l1_host;
	h.l1_entries = a->entries;
	uint64_t *l1 = load_l1(a, e);
	if (!l1)
		return -1;
	*switched = !a->new_table;
	if ((a->new_table ? snapshot_table_switch(&a->s, &h, switched, e) : edit_put_header(ed, &h, e)) < 0) {
		free(l1);
		return -1;
	}
	free(ed->l1);
	ed->l1 = l1;
	ed->l1_entries = a->entries;
	ed->l1_dirty_from = ed->l1_dirty_to = 0;
	ed->q->l1_offset = h.l1_offset;
	ed->q->l1_entries = h.l1_entries;
	ed->q->size = ed->l->size = qcow2_whole_sectors(h.size);
	return 0;
}

static int finish(struct apply *a, struct error *e)
{
	struct snapshot_edit *s = &a->s;
	const uint64_t clusters = geometry_clusters(&s->ed->g, (uint64_t)a->old_entries * 8);
	s->ed->unflushed = true;
	if (!a->keep &&
		(trees_lower(&s->trees, &s->up, &s->down, e) < 0 || edit_drop(s->ed, a->old_l1, clusters, e) < 0))
		return -1;
	return snapshot_edit_finish(s, e);
}

static int apply(struct apply *a, struct error *e)
{
	bool switched = false;
	const uint64_t old_size = a->s.ed->q->size;
	if (prepare(a, e) < 0 || switch_l1(a, &switched, e) < 0) {
		if (!switched)
			snapshot_edit_undo(&a->s);
		return -1;
	}
	/* What is half done is not worked on. */
	a->s.ed->broken = finish(a, e) < 0 || (a->size != old_size && edit_bitmaps_resize(a->s.ed, a->size, e) < 0);
	if (a->s.ed->broken)
		return -1;
	edit_bitmaps_mark(a->s.ed, 0, a->size);
	return 0;
}

/* 1: refcounts are too narrow for *peak, and `e` says so. */
static int try_to_apply(struct edit *ed, uint32_t index, const struct snapshot_new *keep, unsigned threads,
	uint64_t *peak, struct error *e)
{
	struct apply a = {.to = &ed->q->snapshots[index], .keep = keep};
	int rc = snapshot_edit_begin(&a.s, ed, threads, e);
	if (rc == 0)
		rc = examine(&a, peak, e);
	if (rc == 0)
		rc = apply(&a, e);
	snapshot_edit_end(&a.s);
	return rc;
}

static int go_back(struct edit *ed, uint32_t index, const struct snapshot_new *keep, bool widen, unsigned threads,
	struct error *e)
{
	uint64_t peak = 0;
	if (snapshot_edit_index(ed, index, e) < 0)
		return -1;
	int rc = try_to_apply(ed, index, keep, threads, &peak, e);
	if (rc > 0)
		rc = snapshot_edit_widen(ed, peak, widen, e) < 0 ? -1
								 : try_to_apply(ed, index, keep, threads, &peak, e);
	return rc == 0 ? 0 : -1;
}

int edit_snapshot_apply(struct edit *ed, uint32_t index, bool widen, unsigned threads, struct error *e)
{
	return go_back(ed, index, NULL, widen, threads, e);
}

int edit_snapshot_switch(struct edit *ed, uint32_t index, const struct snapshot_new *present, struct error *e)
{
	return snapshot_check_names(ed, present, e) < 0
		       ? -1
		       : go_back(ed, index, present, present->widen, present->threads, e);
}
