/* SPDX-License-Identifier: Apache-2.0
 *
 * --since: an overlay of an image that holds an earlier snapshot of the source, with what differs from that snapshot and nothing
 * else (FORMAT.md §8.4, §10.4). Which clusters these are is told by the tables of both states; the bytes of the later one, through
 * its whole chain, are what is copied, zeros among them as explicit ones.
 *
 * The two disks and the backing file may differ in size. Beyond the end of the snapshot or of the backing file nothing is known
 * to be the same: there all is copied, but zeros only as far as the backing file has something that would show.
 */
#include "convert/internal.h"

/* What of the options cannot go together with it. */
static int check_options(const struct conversion *c, struct error *e)
{
	const struct convert_opts *o = c->opts;
	if (o->source_count > 1)
		return err_set(e, ERR_USAGE, "--since takes one source image");
	if ((!o->create.backing_name && !o->create.nameless_backing) || c->create.format != IMAGE_QCOW2)
		return err_set(e, ERR_USAGE,
			"--since makes an overlay of an image that holds that snapshot: it takes -O qcow2, -B and -F");
	if (o->keep_snapshots || o->salvage || o->in_place || o->sources[0].skip || o->sources[0].end)
		return err_set(e, ERR_USAGE, "--since takes no --keep-snapshots, no --salvage and no -n");
	return 0;
}

int since_prepare(struct conversion *c, struct error *e)
{
	const struct chain *chain = c->plan.sources[0].chain;
	const struct qcow2 *q = chain->layers[0].q;
	if (check_options(c, e) < 0)
		return -1;
	if (!q)
		return err_set(e, ERR_UNSUPPORTED, "%s: a raw image has no snapshots", chain->layers[0].path);
	int index = qcow2_snapshot_find(q, c->opts->sources[0].since, e);
	if (index < 0 || qcow2_state_of_snapshot(q, (uint32_t)index, &c->since, e) < 0)
		return err_prefix(e, "%s", chain->layers[0].path);
	qcow2_state_selected(q, &c->until);
	return diff_new(&c->plan.since, chain, &c->since, &c->until, e);
}

void since_backing(struct conversion *c, uint64_t backing_size)
{
	c->plan.backing_end = backing_size;
	c->plan.since_end = min_u64(c->since.size, backing_size);
}

/* Looks up the next change unless what is known reaches as far as `start`. */
static int find_change(struct plan *p, uint64_t start, uint64_t end, struct error *e)
{
	if (start >= p->change_from && start < p->change.end)
		return 0;
	int more = diff_next(p->since, start, end, &p->change, e);
	if (more < 0)
		return -1;
	if (!more)
		p->change.start = p->change.end = end;
	p->change_from = start;
	return 0;
}

int since_same(struct plan *p, uint64_t pos, uint64_t *len, struct error *e)
{
	uint64_t end = min_u64(p->since_end, p->total);
	*len = 0;
	if (pos >= end)
		return 0;
	if (find_change(p, pos, end, e) < 0)
		return -1;
	if (p->change.start > pos)
		*len = p->change.start == p->total ? p->total - pos : align_down(p->change.start - pos, p->unit);
	return 0;
}

int since_extent(struct plan *p, struct extent *x, struct error *e)
{
	uint64_t end = x->start + x->len;
	if (x->start >= p->backing_end) {
		x->in_backing = x->kind == EXTENT_ABSENT || x->kind == EXTENT_ZERO;
	} else if (x->start >= p->since_end) {
		end = min_u64(end, p->backing_end);
	} else {
		end = min_u64(end, p->since_end);
		if (find_change(p, x->start, end, e) < 0)
			return -1;
		x->in_backing = x->start < p->change.start;
		end = min_u64(end, x->in_backing ? p->change.start : p->change.end);
	}
	x->len = end - x->start;
	return 0;
}
