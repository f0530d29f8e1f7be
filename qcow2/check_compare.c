/* SPDX-License-Identifier: Apache-2.0
 *
 * Stored refcounts against what was counted, FORMAT.md §7.3 and §12.3. After the comparison the counts in memory are the stored
 * ones, for the COPIED bits to be judged by. A repair looks first, then writes back the windows in which a count is wrong, one
 * sweep over the blocks: each count that changes is right from then on, so the order and a crash do not matter (§12.5).
 */
#include "qcow2/check_internal.h"

enum { BLOCK = 32 };

struct block {
	bool differs, used;
};

/* The usual width. A stored count as it lies in memory is the expected one shifted up by a byte. */
static struct block compare_16(const uint8_t *stored, const uint8_t *expected)
{
	uint16_t differs = 0, used = 0;
	for (int k = 0; k < BLOCK; k++) {
		uint16_t v;
		memcpy(&v, stored + 2 * k, 2);
		differs |= v ^ (uint16_t)(expected[k] << 8);
		differs |= expected[k] == BIG_COUNT;
		used |= v | expected[k];
	}
	return (struct block){differs != 0, used != 0};
}

static struct block compare_any(const uint8_t *stored, unsigned order, uint64_t index, const uint8_t *expected,
	unsigned n)
{
	struct block b = {false, false};
	for (unsigned k = 0; k < n; k++) {
		uint64_t v = refcount_get(stored, order, index + k);
		b.differs |= v != expected[k] || expected[k] == BIG_COUNT;
		b.used |= v || expected[k];
	}
	return b;
}

static int note_block(struct check_job *j, uint64_t cluster, unsigned n, const uint8_t *stored, uint64_t index,
	const uint8_t *expected, struct error *e)
{
	for (unsigned k = 0; k < n; k++) {
		uint64_t v = stored ? refcount_get(stored, j->check->g->refcount_order, index + k) : 0;
		if (v || expected[k])
			j->highest = cluster + k + 1;
		if ((v != expected[k] || expected[k] == BIG_COUNT) &&
			job_note(j, EVENT_COMPARE, cluster + k, v, 0, e) < 0)
			return -1;
	}
	return 0;
}

static const uint8_t no_counts[COUNTS_PAGE];

/* `n` clusters of one page, whose counts are at `index` of `stored`; NULL: all are 0. */
static int compare_page(struct check_job *j, uint64_t cluster, uint64_t n, const uint8_t *stored, uint64_t index,
	struct error *e)
{
	const unsigned order = j->check->g->refcount_order;
	const uint8_t *page = counts_page(&j->check->counts, cluster);
	const uint8_t *expected = page ? page + cluster % COUNTS_PAGE : no_counts;
	if (!stored && (!page || mem_is_zero(expected, n)))
		return 0;
	uint64_t last_used = 0;
	unsigned here;
	for (uint64_t k = 0; k < n; k += here) {
		struct block b = {true, true};
		here = (unsigned)min_u64(BLOCK, n - k);
		if (order == 4 && here == BLOCK && stored)
			b = compare_16(stored + 2 * (index + k), expected + k);
		else if (stored)
			b = compare_any(stored, order, index + k, expected + k, here);
		if (b.used)
			last_used = k + 1;
		if (b.differs && note_block(j, cluster + k, here, stored, index + k, expected + k, e) < 0)
			return -1;
	}
	if (!last_used)
		return 0;
	for (uint64_t k = min_u64(last_used - 1 + BLOCK, n); k >= last_used; k--) {
		if (expected[k - 1] || (stored && refcount_get(stored, order, index + k - 1))) {
			j->highest = cluster + k;
			break;
		}
	}
	return 0;
}

/* The clusters [first, end) of one refcount block. */
static int compare_part(struct check_job *j, uint64_t first, uint64_t end, struct error *e)
{
	const struct geometry *g = j->check->g;
	const uint64_t host = check_refblock_of(j->check, first);
	const uint64_t at = host + ((first & ((1ull << g->refblock_bits) - 1)) << g->refcount_order) / 8;
	const size_t len = (size_t)((((end - first) << g->refcount_order) + 7) / 8);
	uint8_t *stored = j->window + ((first - j->first) << g->refcount_order) / 8;
	struct error why;
	bool readable = geometry_in_cluster(g, host) == 0;
	if (host && readable)
		readable = io_read(j->check->file, stored, len, at, &why) == 0;
	for (uint64_t i = first, n; i < end; i += n) {
		n = min_u64(end - i, COUNTS_PAGE - i % COUNTS_PAGE);
		if (readable && compare_page(j, i, n, host ? stored : NULL, i - first, e) < 0)
			return -1;
		for (uint64_t k = 0; k < n && !readable; k++)
			if (job_note(j, FOUND_NO_REFCOUNT, i + k, 0, 0, e) < 0)
				return -1;
	}
	return 0;
}

static int compare(struct check_job *j, struct error *e)
{
	const uint64_t per_block = 1ull << j->check->g->refblock_bits;
	for (uint64_t i = j->first, end; i < j->end; i = end) {
		end = min_u64(j->end, align_down(i, per_block) + per_block);
		if (compare_part(j, i, end, e) < 0)
			return -1;
	}
	return 0;
}

/* Clusters of one refcount block whose counts changed in the window; equal: none. */
struct changed {
	uint64_t first, end;
};

/* Whole sectors, as far as they were read. */
static int write_back(const struct check_job *j, struct changed *x, struct error *e)
{
	enum { SECTOR = 512 };
	const struct check *c = j->check;
	const unsigned order = c->g->refcount_order;
	const uint64_t block = align_down(x->first, 1ull << c->g->refblock_bits);
	const uint64_t start = max_u64(block, j->first), end = min_u64(block + (1ull << c->g->refblock_bits), j->end);
	const uint8_t *window = j->window + ((start - j->first) << order) / 8;
	const uint64_t host = check_refblock_of(c, block) + ((start - block) << order) / 8;
	const uint64_t from = align_down(((x->first - start) << order) / 8, SECTOR);
	const uint64_t to = align_up((((x->end - start) << order) + 7) / 8, SECTOR);
	const uint64_t read = (((end - start) << order) + 7) / 8;
	*x = (struct changed){0};
	return io_write(c->file, window + from, (size_t)(min_u64(to, read) - from), host + from, e);
}

/* Puts the true count into the window. */
static int fix_count(struct check_job *j, struct changed *x, uint64_t cluster, uint64_t references, struct error *e)
{
	const struct geometry *g = j->check->g;
	if (x->end && x->first >> g->refblock_bits != cluster >> g->refblock_bits && write_back(j, x, e) < 0)
		return -1;
	refcount_put(j->window, g->refcount_order, cluster - j->first, references);
	if (!x->end)
		x->first = cluster;
	x->end = cluster + 1;
	return 0;
}

/* A count that differs. *stored becomes what is stored from now on. */
static int differs(struct check_job *j, struct changed *x, uint64_t cluster, uint64_t *stored, struct error *e)
{
	struct check *c = j->check;
	const struct place at = {cluster << c->g->cluster_bits, NOWHERE};
	const uint64_t references = counts_get(&c->counts, cluster);
	const uint32_t code = *stored > references ? FOUND_LEAK : FOUND_TOO_LOW;
	if (c->stage == COMPARE_FIX && (code == FOUND_LEAK || c->repair->mode == REPAIR_ALL)) {
		check_fixed(c, code, at, cluster, *stored, references);
		*stored = references;
		return fix_count(j, x, cluster, references, e);
	}
	check_found(c, code, at, cluster, *stored, references);
	/* A count of 0 makes the whole suspicious: when only leaks may be repaired, nothing is. */
	if (c->repair && *stored == 0)
		c->repair->rebuild |= c->repair->mode == REPAIR_LEAKS || !check_refblock_of(c, cluster);
	return 0;
}

static int apply(struct check_job *j, struct error *e)
{
	struct check *c = j->check;
	struct changed changed = {0};
	for (size_t i = 0; i < j->event_count; i++) {
		const struct event *v = &j->events[i];
		uint8_t *page = counts_page(&c->counts, v->a);
		uint64_t stored = v->b;
		if (v->code == FOUND_NO_REFCOUNT) {
			check_found(c, v->code, (struct place){v->a << c->g->cluster_bits, NOWHERE}, v->a, 0, 0);
			if (c->repair)
				c->repair->rebuild = true;
		} else if (stored != counts_get(&c->counts, v->a) && differs(j, &changed, v->a, &stored, e) < 0) {
			return -1;
		}
		/* Whoever meets a big count from now on has to look into the file. */
		if (page && c->stage != COMPARE_LOOK)
			page[v->a % COUNTS_PAGE] =
				v->code == EVENT_COMPARE ? (uint8_t)min_u64(stored, BIG_COUNT) : BIG_COUNT;
	}
	c->highest = max_u64(c->highest, j->highest);
	return changed.end ? write_back(j, &changed, e) : 0;
}

int check_compare(struct check *c, struct error *e)
{
	return jobs_over_counts(c, c->counts.clusters, compare, apply, e);
}
