/* SPDX-License-Identifier: Apache-2.0
 *
 * check -r: the same steps as check, and what they find is put right where that needs no guess (FORMAT.md §12.5).
 *
 * order: number of snapshots; entries of L2 tables; flush; refcounts (where they are, or a new structure that one write of the header
 * switches to); flush; COPIED; snapshot table; flush; dirty and corrupt bits. Each write makes the image better by itself:
 * counts become the true ones, COPIED what follows from them, so a crash anywhere leaves what can be repaired again.
 */
#include "qcow2/check_internal.h"
#include "qcow2/internal.h"

/* Whether the refcount table lies in the file and in no one else's clusters. */
static bool reftable_alone(const struct check *c)
{
	const struct header *h = &c->q->h;
	const uint64_t first = h->reftable_offset >> c->g->cluster_bits;
	for (uint64_t i = first; i < first + h->reftable_clusters; i++)
		if (counts_get(&c->counts, i) != 1)
			return false;
	return true;
}

static int collect(struct check *c, struct error *e)
{
	struct repair *r = c->repair;
	if (check_reftable_load(c, e) < 0 || repair_fix_areas(c, e) < 0 || check_collect(c, e) < 0)
		return -1;
	if (c->reftable_entries && !check_in_file(c, c->q->h.reftable_offset, c->reftable_entries * 8))
		r->broken++; /* found by check_refer */
	/* Lowering counts does not write to the table. */
	if (r->mode == REPAIR_ALL && c->reftable_entries && !reftable_alone(c))
		r->rebuild = true;
	return c->out->corruptions_fixed ? io_flush(c->file, e) : 0;
}

/* All that the comparison and the look at the old structure have found is done away with. */
static int rebuild(struct check *c, const struct check_result *before, struct error *e)
{
	struct check_result *out = c->out;
	check_found(c, NOTE_REBUILDING, (struct place){NOWHERE, NOWHERE}, 0, 0, 0);
	if (repair_rebuild(c, e) < 0)
		return err_prefix(e, "cannot rebuild the refcount structure");
	out->corruptions_fixed += out->corruptions - before->corruptions + c->repair->broken;
	out->leaks_fixed += out->leaks - before->leaks;
	out->corruptions = before->corruptions - c->repair->broken;
	out->leaks = before->leaks;
	out->check_errors = before->check_errors;
	return 0;
}

static int refcounts(struct check *c, struct error *e)
{
	const struct check_result before = *c->out;
	c->stage = COMPARE_LOOK;
	if (check_compare(c, e) < 0)
		return -1;
	if (c->repair->rebuild && c->repair->mode == REPAIR_ALL)
		return rebuild(c, &before, e);
	if (c->repair->rebuild) {
		check_found(c, NOTE_REBUILD_NEEDED, (struct place){NOWHERE, NOWHERE}, 0, 0, 0);
		return err_set(e, ERR_CORRUPT,
			"the refcount structure is damaged: repairing leaks alone is not possible");
	}
	if (c->out->corruptions == before.corruptions && c->out->leaks == before.leaks)
		return 0;
	*c->out = before;
	c->stage = COMPARE_FIX;
	return check_compare(c, e) < 0 ? -1 : io_flush(c->file, e);
}

static int finish(struct check *c, struct error *e)
{
	struct header h = c->q->h;
	if (!c->out->corruptions && !c->out->check_errors)
		h.incompatible &= ~(uint64_t)(INCOMPAT_DIRTY | INCOMPAT_CORRUPT);
	return header_put(c->repair->q, &h, e);
}

static int repair_steps(struct check *c, struct error *e)
{
	struct check_result *out = c->out;
	if (repair_snapshot_count(c, e) < 0)
		return -1;
	check_snapshot_table(c);
	if (collect(c, e) < 0)
		return -1;
	/* What could not be read may refer to anything. */
	if (out->check_errors)
		return 0;
	if (refcounts(c, e) < 0)
		return -1;
	if (out->check_errors)
		return 0;
	c->repair->copied = c->repair->mode == REPAIR_ALL || (!out->corruptions && !out->leaks);
	if (check_copied(c, e) < 0 || repair_snapshot_table(c, e) < 0)
		return -1;
	out->image_end_offset = max_u64(c->highest, 1) << c->g->cluster_bits;
	return finish(c, e);
}

int qcow2_repair(struct layer *l, enum repair_mode mode, const struct check_opts *opts, struct check_result *out,
	struct error *e)
{
	struct check c;
	struct repair r = {.mode = mode, .q = l->q, .beyond = NOWHERE};
	int rc = check_begin(&c, l, opts, out, e);
	c.repair = &r;
	if (rc == 0)
		rc = repair_steps(&c, e);
	check_end(&c);
	free(r.fixed);
	return rc < 0 ? err_prefix(e, "%s", l->file->name) : 0;
}
