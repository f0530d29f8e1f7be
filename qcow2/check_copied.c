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

struct fixing { /* the table that a job's events are about */
	const struct job_table *table;
	uint8_t *bytes;
	bool fresh;      /* nothing has written to the table since it was read */
	size_t from, to; /* changed; equal: nothing */
};

static int write_back(struct check *c, struct fixing *f, struct error *e)
{
	int rc = 1;
	if (f->from < f->to)
		rc = repair_table(c, f->table->raw & ENTRY_OFFSET_MASK, f->bytes, f->from, f->to, e);
	f->from = f->to = 0;
	return rc;
}

/* A bit may be set only where the count tells all references. */
static bool may_fix(const struct check *c, uint64_t count)
{
	return c->repair && c->repair->copied && (count != 1 || !c->repair->overflow);
}

static int apply_l1(struct check *c, const struct event *v, uint64_t l1_index, struct error *e)
{
	const struct place at = {v->a & ENTRY_OFFSET_MASK, l1_index << (c->g->cluster_bits + c->g->l2_bits)};
	const bool fix = may_fix(c, v->b) && repair_l1_allowed(c);
	(fix ? check_fixed : check_found)(c, v->code, at, l1_index, v->a, v->b);
	return fix ? repair_l1_put(c, l1_index, v->a ^ ENTRY_COPIED, e) : 0;
}

/* Several L1 entries may lead to one table, which may have been put right since. */
static int refresh(struct check *c, struct fixing *f, struct error *e)
{
	const uint64_t host = f->table->raw & ENTRY_OFFSET_MASK;
	if (f->fresh || counts_all_one(&c->counts, host >> c->g->cluster_bits, 1))
		return 0;
	f->fresh = true;
	return io_read(c->file, f->bytes, c->g->cluster_size, host, e);
}

static int apply_l2(struct check *c, const struct event *v, struct fixing *f, struct error *e)
{
	const uint64_t table = (uint64_t)f->table->l1_index << (c->g->cluster_bits + c->g->l2_bits);
	const struct place at = {v->a & ENTRY_OFFSET_MASK, table + ((uint64_t)v->entry << c->g->cluster_bits)};
	const size_t in_table = (size_t)v->entry * c->g->l2_entry_bytes;
	const bool fix = may_fix(c, v->b) && repair_table_allowed(c, f->table->raw & ENTRY_OFFSET_MASK);
	if (fix && refresh(c, f, e) < 0)
		return -1;
	if (fix && get_be64(f->bytes + in_table) != v->a)
		return 0;
	(fix ? check_fixed : check_found)(c, v->code, at, v->a, v->b, 0);
	if (!fix)
		return 0;
	put_be64(f->bytes + in_table, v->a ^ ENTRY_COPIED);
	f->from = f->to ? min_u64(f->from, in_table) : in_table;
	f->to = max_u64(f->to, in_table + 8);
	return 0;
}

static int apply(struct check_job *j, struct error *e)
{
	struct check *c = j->check;
	struct fixing f = {.table = NULL};
	for (size_t i = 0; i < j->event_count; i++) {
		const struct event *v = &j->events[i];
		int rc = 0;
		if (v->code == EVENT_TABLE) {
			rc = write_back(c, &f, e);
			f.table = &j->tables[v->b];
			f.bytes = j->window + ((size_t)v->b << c->g->cluster_bits);
			f.fresh = false;
		} else if (v->code == FOUND_L1_COPIED) {
			rc = apply_l1(c, v, f.table->l1_index, e);
		} else if (v->code == FOUND_L2_COPIED) {
			rc = apply_l2(c, v, &f, e);
		} else {
			check_found(c, v->code, (struct place){v->b, NOWHERE}, v->a, v->b, 0);
		}
		if (rc < 0)
			return -1;
	}
	return write_back(c, &f, e);
}

int check_copied(struct check *c, struct error *e)
{
	const struct check_result *r = c->out;
	const bool fixed = r->corruptions_fixed || r->leaks_fixed;
	if (!c->shared && !c->not_copied && !r->corruptions && !r->leaks && !r->check_errors && !fixed)
		return 0;
	for (unsigned i = 0; i < c->job_count; i++)
		c->jobs[i].stored.valid = false;
	if (check_l1(c, c->q->h.l1_offset, c->q->h.l1_entries, true, judge, apply, e) < 0)
		return -1;
	return c->repair ? repair_l1_flush(c, e) : 0;
}
