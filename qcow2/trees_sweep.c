/* SPDX-License-Identifier: Apache-2.0
 *
 * One pass over all refcount blocks (FORMAT.md §7): a trial, raising, lowering, or a look at what is shared. The counts of
 * the trees are bytes in pages, most of them zero or one, so whole blocks without any are passed over.
 */
#include "qcow2/trees.h"

enum sweep { TRY, RAISE, LOWER, USAGE };

static const uint8_t no_counts[COUNTS_PAGE];

static const uint8_t *counts_at(const struct counts *c, uint64_t cluster)
{
	const uint8_t *page = c && cluster < c->room ? counts_page(c, cluster) : NULL;
	return page ? page + cluster % COUNTS_PAGE : no_counts;
}

static uint64_t full_count(const struct counts *c, uint8_t n, uint64_t cluster)
{
	return n == BIG_COUNT ? counts_get(c, cluster) : n;
}

/* What of a job's window is looked at: refcount block at `host`, of which `bytes` begin with the count of cluster `first`. */
struct piece {
	struct check_job *j;
	struct trees *t;
	uint8_t *bytes;
	uint64_t first;
	size_t changed_from, changed_to; /* bytes */
};

static int try_one(struct piece *p, uint64_t cluster, uint64_t stored, uint64_t up, uint64_t down, struct error *e)
{
	uint64_t both, peak;
	if (add_overflows(up, down, &both) || stored < both)
		return err_set(e, ERR_CORRUPT,
			"the image is damaged: ERROR cluster %llu refcount=%llu reference=%llu; `check` tells more",
			(unsigned long long)cluster, (unsigned long long)stored, (unsigned long long)both);
	if (up <= down || add_overflows(stored, up - down, &peak))
		peak = up <= down ? stored : UINT64_MAX;
	if (up > down && peak > p->j->peak) {
		p->j->peak = peak;
		p->j->peak_at = cluster;
	}
	return 0;
}

/* Notes that the stored counts of `n` clusters changed. */
static void changed(struct piece *p, uint64_t cluster, uint64_t n)
{
	const unsigned order = p->t->c.g->refcount_order;
	const uint64_t i = cluster - p->first;
	if (p->changed_from == p->changed_to)
		p->changed_from = (size_t)((i << order) / 8);
	p->changed_to = (size_t)((((i + n) << order) + 7) / 8);
}

static void put_one(struct piece *p, uint64_t cluster, uint64_t value)
{
	refcount_put(p->bytes, p->t->c.g->refcount_order, cluster - p->first, value);
	changed(p, cluster, 1);
}

static int sweep_one(struct piece *p, uint64_t cluster, uint64_t stored, uint64_t up, uint64_t down, struct error *e)
{
	struct trees *t = p->t;
	switch ((enum sweep)t->sweep) {
	case TRY:
		if (stored == 0)
			p->j->highest = min_u64(p->j->highest, cluster);
		return up | down ? try_one(p, cluster, stored, up, down, e) : 0;
	case RAISE:
		if (up > down)
			put_one(p, cluster, stored + (up - down));
		return 0;
	case LOWER:
		if (down > up) {
			stored -= down - up;
			put_one(p, cluster, stored);
		}
		if (stored == 1)
			t->ones.bytes[cluster / 8] |= (uint8_t)(1u << cluster % 8);
		return 0;
	case USAGE:
		p->j->allocated += up && up == stored;
		p->j->fragmented += up && up != stored;
		return 0;
	}
	return 0;
}

/* Whether clusters without references matter: which of them are free, which are others' alone. */
static bool all_matter(const struct trees *t, const struct check_job *j)
{
	return t->sweep == LOWER || (t->sweep == TRY && j->highest == NOWHERE);
}

/* Whether a block of clusters could be done at once. */
static bool sweep_block(struct piece *p, uint64_t cluster, const uint8_t *up, const uint8_t *down)
{
	struct trees *t = p->t;
	uint8_t *stored = p->bytes + 2 * (cluster - p->first);
	bool done = false, wrote = false;
	if (t->sweep == TRY)
		return sweep16_try(stored, up, down, p->j->highest == NOWHERE, p->j->peak);
	if (t->sweep == RAISE)
		done = sweep16_raise(stored, up, down, &wrote);
	else if (t->sweep == LOWER)
		done = sweep16_lower(stored, up, down, t->ones.bytes + cluster / 8, &wrote);
	if (wrote)
		changed(p, cluster, SWEEP_BLOCK);
	return done;
}

/* `n` clusters of one page of counts. */
static int sweep_page(struct piece *p, uint64_t cluster, uint64_t n, struct error *e)
{
	const struct trees *t = p->t;
	const uint8_t *up = counts_at(t->up, cluster), *down = counts_at(t->down, cluster);
	const bool wide_16 = p->bytes && t->c.g->refcount_order == 4;
	uint64_t here;
	for (uint64_t k = 0; k < n; k += here) {
		here = min_u64(SWEEP_BLOCK, n - k);
		if (!all_matter(t, p->j) && mem_is_zero(up + k, here) && mem_is_zero(down + k, here))
			continue;
		if (wide_16 && here == SWEEP_BLOCK && sweep_block(p, cluster + k, up + k, down + k))
			continue;
		for (uint64_t i = k; i < k + here; i++) {
			uint64_t at = cluster + i;
			uint64_t stored = p->bytes ? refcount_get(p->bytes, t->c.g->refcount_order, at - p->first) : 0;
			if (sweep_one(p, at, stored, full_count(t->up, up[i], at), full_count(t->down, down[i], at),
				    e) < 0)
				return -1;
		}
	}
	return 0;
}

/* The clusters [first, end) of one refcount block, read to `at` of the window. */
static int sweep_part(struct check_job *j, uint64_t first, uint64_t end, size_t at, struct error *e)
{
	struct trees *t = trees_of(j);
	const struct geometry *g = t->c.g;
	const uint64_t block = check_refblock_of(&t->c, first);
	const uint64_t host = block + ((first & ((1ull << g->refblock_bits) - 1)) << g->refcount_order) / 8;
	const size_t len = (size_t)((((end - first) << g->refcount_order) + 7) / 8);
	struct piece p = {.j = j, .t = t, .bytes = block ? j->window + at : NULL, .first = first};
	if (block && io_read(t->c.file, p.bytes, len, host, e) < 0)
		return err_prefix(e, "refcount block at 0x%llx", (unsigned long long)block);
	if (!block && t->sweep != TRY && t->sweep != USAGE)
		return 0;
	for (uint64_t i = first, n; i < end; i += n) {
		n = min_u64(end - i, COUNTS_PAGE - i % COUNTS_PAGE);
		if (sweep_page(&p, i, n, e) < 0)
			return -1;
	}
	if (p.changed_from == p.changed_to)
		return 0;
	return trees_note_write(j, host, at, p.changed_from, p.changed_to, e);
}

/* Whether any of the trees refers to clusters of the range. */
static bool any_counts(const struct trees *t, uint64_t first, uint64_t end)
{
	for (uint64_t i = align_down(first, COUNTS_PAGE); i < end; i += COUNTS_PAGE)
		if (counts_at(t->up, i) != no_counts || counts_at(t->down, i) != no_counts)
			return true;
	return false;
}

static int sweep_window(struct check_job *j, struct error *e)
{
	const struct trees *t = trees_of(j);
	const uint64_t per_block = 1ull << t->c.g->refblock_bits;
	size_t at = 0;
	j->highest = NOWHERE;
	for (uint64_t i = j->first, end; i < j->end; i = end) {
		end = min_u64(j->end, align_down(i, per_block) + per_block);
		if (!all_matter(t, j) && !any_counts(t, i, end))
			continue;
		if (sweep_part(j, i, end, at, e) < 0)
			return -1;
		at += (size_t)((((end - i) << t->c.g->refcount_order) + 7) / 8);
	}
	return 0;
}

static int commit(struct check_job *j, struct error *e)
{
	struct trees *t = trees_of(j);
	if (j->peak > t->peak) {
		t->peak = j->peak;
		t->peak_at = j->peak_at;
	}
	t->first_free = min_u64(t->first_free, j->highest);
	t->result.allocated_clusters += j->allocated;
	t->result.fragmented_clusters += j->fragmented;
	return trees_write(j, e);
}

static int sweep(struct trees *t, enum sweep what, const struct counts *up, const struct counts *down, struct error *e)
{
	uint64_t clusters = what == LOWER ? t->ones.clusters : 0;
	clusters = max_u64(clusters, up ? up->clusters : 0);
	clusters = max_u64(clusters, down ? down->clusters : 0);
	t->sweep = what;
	t->up = up;
	t->down = down;
	t->peak = 0;
	t->first_free = NOWHERE;
	t->result = (struct check_result){0};
	return jobs_over_counts(&t->c, clusters, sweep_window, commit, e);
}

int trees_try(struct trees *t, const struct counts *up, const struct counts *down, struct sweep_result *out,
	struct error *e)
{
	int rc = sweep(t, TRY, up, down, e);
	*out = (struct sweep_result){.peak = t->peak, .peak_at = t->peak_at, .first_free = t->first_free};
	if (out->first_free == NOWHERE)
		out->first_free = geometry_clusters(t->c.g, t->c.file_bytes);
	return rc;
}

int trees_raise(struct trees *t, const struct counts *up, const struct counts *down, struct error *e)
{
	return sweep(t, RAISE, up, down, e);
}

int trees_lower(struct trees *t, const struct counts *up, const struct counts *down, struct error *e)
{
	free(t->ones.bytes);
	if (marks_new(&t->ones, down->room, "clusters with one reference", e) < 0)
		return -1;
	return sweep(t, LOWER, up, down, e);
}

int trees_usage(struct trees *t, const struct counts *tree, struct snapshot_usage *out, struct error *e)
{
	int rc = sweep(t, USAGE, tree, NULL, e);
	*out = (struct snapshot_usage){.exclusive = t->result.allocated_clusters << t->c.g->cluster_bits,
		.shared = t->result.fragmented_clusters << t->c.g->cluster_bits};
	return rc;
}
