/* SPDX-License-Identifier: Apache-2.0
 *
 * COPIED bits of the active state, FORMAT.md §7.5: set exactly where the stored refcount is one. A second walk over the tables,
 * after the comparison; left out when the first one has shown that every cluster is referred to once and every entry says so.
 */
#include "qcow2/check_internal.h"

/* Run after the comparison: pages hold stored refcounts. -1: unknown. */
static int stored_count(struct check_job *j, uint64_t cluster, uint64_t *count)
{
	struct check *c = j->check;
	const uint8_t *page = cluster < c->counts.clusters ? counts_page(&c->counts, cluster) : NULL;
	*count = page ? page[cluster % COUNTS_PAGE] : BIG_COUNT;
	return *count < BIG_COUNT ? 0 : check_stored(c, &j->stored, cluster, count);
}

static int judge_entry(struct check_job *j, uint32_t i, uint64_t raw, struct error *e)
{
	const struct check *c = j->check;
	const uint64_t host = raw & ENTRY_OFFSET_MASK;
	const bool zero = raw & ENTRY_ZERO && c->g->subclusters == 1;
	uint64_t count = 1;
	if (raw & ENTRY_COMPRESSED || (host == 0 && (zero || !c->data_file || !(raw & ENTRY_COPIED))))
		return 0;
	if (!c->data_file && stored_count(j, host >> c->g->cluster_bits, &count) < 0)
		return 0;
	if ((count == 1) == ((raw & ENTRY_COPIED) != 0))
		return 0;
	return job_note(j, FOUND_L2_COPIED, raw, count, i, e);
}

static int judge_table(struct check_job *j, const uint8_t *table, struct error *e)
{
	const struct check *c = j->check;
	const uint32_t entries = 1u << c->g->l2_bits, bytes = c->g->l2_entry_bytes;
	for (uint32_t i = check_skip_zeros(c->g, table, 0), n; i < entries; i = check_skip_zeros(c->g, table, i + n)) {
		const uint64_t raw = get_be64(table + (size_t)i * bytes);
		const uint64_t first = (raw & ENTRY_OFFSET_MASK) >> c->g->cluster_bits;
		n = 1;
		if (first && raw & ENTRY_COPIED && !(raw & ENTRY_COMPRESSED)) {
			n = check_run_length(c->g, table, i);
			if (c->data_file || counts_all_one(&c->counts, first, n))
				continue;
		}
		for (uint32_t k = 0; k < n; k++)
			if (judge_entry(j, i + k, get_be64(table + (size_t)(i + k) * bytes), e) < 0)
				return -1;
	}
	return 0;
}

static int judge(struct check_job *j, struct error *e)
{
	const struct geometry *g = j->check->g;
	if (job_read_tables(j, e) < 0)
		return -1;
	for (uint32_t i = 0; i < j->table_count; i++) {
		const struct job_table *t = &j->tables[i];
		const uint64_t host = t->raw & ENTRY_OFFSET_MASK;
		uint64_t count;
		if (!host || stored_count(j, host >> g->cluster_bits, &count) < 0)
			continue;
		if (job_note(j, EVENT_TABLE, t->l1_index, i, 0, e) < 0)
			return -1;
		if ((count == 1) != ((t->raw & ENTRY_COPIED) != 0) &&
			job_note(j, FOUND_L1_COPIED, t->raw, count, 0, e) < 0)
			return -1;
		if (t->read && judge_table(j, j->window + ((size_t)i << g->cluster_bits), e) < 0)
			return -1;
	}
	return 0;
}

static int apply(struct check_job *j, struct error *e)
{
	(void)e;
	struct check *c = j->check;
	uint64_t l1_index = 0;
	for (size_t i = 0; i < j->event_count; i++) {
		const struct event *v = &j->events[i];
		const uint64_t table = l1_index << (c->g->cluster_bits + c->g->l2_bits);
		const struct place at = {v->a & ENTRY_OFFSET_MASK, table + ((uint64_t)v->entry << c->g->cluster_bits)};
		if (v->code == EVENT_TABLE)
			l1_index = v->a;
		else if (v->code == FOUND_L1_COPIED)
			check_found(c, v->code, at, l1_index, v->a, v->b);
		else
			check_found(c, v->code, at, v->a, v->b, 0);
	}
	return 0;
}

int check_copied(struct check *c, struct error *e)
{
	const struct check_result *r = c->out;
	if (!c->shared && !c->not_copied && !r->corruptions && !r->leaks && !r->check_errors)
		return 0;
	for (unsigned i = 0; i < c->job_count; i++)
		c->jobs[i].stored.valid = false;
	return check_l1(c, c->q->h.l1_offset, c->q->h.l1_entries, true, judge, apply, e);
}
