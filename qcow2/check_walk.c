/* SPDX-License-Identifier: Apache-2.0
 *
 * Walks an L1 table and the L2 tables below it for check, FORMAT.md §12.3: a window of tables is a job, scanned by any thread
 * and applied in order. Tables that no honest file could hold (many entries that lead to one table, tables in holes) must
 * not cost time without end: a few aliases are walked as often as they are named, more are refused; holes are skipped.
 */
#include "qcow2/check_internal.h"

static int read_run(struct check_job *j, uint32_t first, uint32_t n, struct error *e)
{
	const uint32_t size = j->check->g->cluster_size;
	uint64_t host = j->tables[first].raw & ENTRY_OFFSET_MASK;
	size_t len = (size_t)n * size;
	uint8_t *into = j->window + (size_t)first * size;
	struct error why;
	if (io_read(j->check->file, into, len, host, &why) == 0)
		return 0;
	memset(into, 0, len);
	return job_note(j, FOUND_UNREADABLE, len, host, 0, e);
}

int job_read_tables(struct check_job *j, struct error *e)
{
	const uint32_t size = j->check->g->cluster_size;
	for (uint32_t i = 0, n; i < j->table_count; i += n) {
		const struct job_table *t = &j->tables[i];
		n = 1;
		if (!t->read)
			continue;
		uint64_t next = (t->raw & ENTRY_OFFSET_MASK) + size;
		for (; i + n < j->table_count && t[n].read && (t[n].raw & ENTRY_OFFSET_MASK) == next; n++)
			next += size;
		if (read_run(j, i, n, e) < 0)
			return -1;
	}
	return 0;
}

static int scan(struct check_job *j, struct error *e)
{
	const struct geometry *g = j->check->g;
	if (job_read_tables(j, e) < 0)
		return -1;
	for (uint32_t i = 0; i < j->table_count; i++) {
		const struct job_table *t = &j->tables[i];
		const uint64_t host = t->raw & ENTRY_OFFSET_MASK;
		if (job_note(j, EVENT_TABLE, t->l1_index, i, 0, e) < 0)
			return -1;
		if (t->raw & ENTRY_L1_RESERVED && job_note(j, FOUND_L1_RESERVED, t->raw, 0, 0, e) < 0)
			return -1;
		if (!(t->raw & ENTRY_COPIED))
			j->not_copied = true;
		if (job_note(j, EVENT_L2_TABLE, host, 0, 0, e) < 0)
			return -1;
		if (geometry_in_cluster(g, host) && job_note(j, FOUND_L1_UNALIGNED, host, 0, 0, e) < 0)
			return -1;
		if (t->read && check_scan_table(j, j->window + ((size_t)i << g->cluster_bits), e) < 0)
			return -1;
	}
	return 0;
}

static int apply_clusters(struct check *c, const struct event *v, uint64_t guest, struct error *e)
{
	const struct geometry *g = c->g;
	uint64_t first = v->a >> g->cluster_bits, end, done = 0;
	if (geometry_in_cluster(g, v->a))
		return check_refer(c, v->a, g->cluster_size, guest, e);
	if (!add_overflows(first, v->b, &end) && end <= c->file_bytes >> g->cluster_bits) {
		if (counts_add(&c->counts, first, v->b, &done, &c->shared, e) < 0)
			return -1;
	}
	/* One by one: what is at the end of the file or beyond, and what follows a full count. */
	for (; done < v->b; done++) {
		uint64_t at = guest == NOWHERE ? NOWHERE : guest + (done << g->cluster_bits);
		if (check_refer(c, v->a + (done << g->cluster_bits), g->cluster_size, at, e) < 0)
			return -1;
	}
	return 0;
}

/* The L2 table itself. Each state refers to it once at most. */
static int apply_table(struct check *c, uint64_t host, uint64_t guest, struct error *e)
{
	const struct event v = {.a = host, .b = 1};
	if (apply_clusters(c, &v, guest, e) < 0)
		return -1;
	if (counts_get(&c->counts, host >> c->g->cluster_bits) <= c->walks)
		return 0;
	if (check_spend(c, &c->aliases, c->g->cluster_size, "L2 tables", e) < 0)
		return err_prefix(e, "L2 table at 0x%llx", (unsigned long long)host);
	return 0;
}

/* What can be wrong with the entry at `host`; two things can be put right at once. */
static int apply_finding(struct check *c, const struct event *v, uint64_t host, uint64_t guest, struct error *e)
{
	const struct place at = {host, guest};
	int fixed = 0;
	if (repair_is(c, REPAIR_ALL) && v->code == FOUND_COMPRESSED_COPIED)
		fixed = repair_entry(c, host, ~ENTRY_COPIED, 0, e);
	else if (repair_is(c, REPAIR_ALL) && v->code == FOUND_PREALLOCATED_UNALIGNED)
		fixed = repair_entry(c, host, 0, c->g->subclusters > 1 ? 0 : ENTRY_ZERO, e);
	if (fixed < 0)
		return -1;
	if (fixed == REPAIR_WAS_RIGHT)
		return 0;
	(fixed ? check_fixed : check_found)(c, v->code, at, v->a, v->b, 0);
	if (repair_is(c, REPAIR_ALL) && v->code == FOUND_PREALLOCATED_UNALIGNED && !fixed)
		return check_refer(c, v->a, c->g->cluster_size, guest, e);
	return 0;
}

static int apply(struct check_job *j, struct error *e)
{
	struct check *c = j->check;
	uint64_t base = 0, table = 0;
	for (size_t i = 0; i < j->event_count; i++) {
		const struct event *v = &j->events[i];
		uint64_t guest = base + ((uint64_t)v->entry << c->g->cluster_bits);
		int rc = 0;
		if (v->code == EVENT_TABLE)
			base = v->a << (c->g->cluster_bits + c->g->l2_bits);
		else if (v->code == EVENT_L2_TABLE)
			rc = apply_table(c, table = v->a, base, e);
		else if (v->code == EVENT_CLUSTERS)
			rc = apply_clusters(c, v, guest, e);
		else if (v->code == EVENT_COMPRESSED)
			rc = check_refer(c, v->a, v->b, guest, e);
		else
			rc = apply_finding(c, v, table + (uint64_t)v->entry * c->g->l2_entry_bytes, guest, e);
		if (rc < 0)
			return -1;
	}
	if (j->active) {
		c->out->allocated_clusters += j->allocated;
		c->out->fragmented_clusters += j->fragmented;
		c->out->compressed_clusters += j->compressed;
		c->not_copied |= j->not_copied;
	}
	c->progress_done += j->table_count;
	progress_report(c->opts->progress, min_u64(c->progress_done, c->progress_total), c->progress_total);
	return 0;
}

struct l1_walk {
	struct check *c;
	bool active;
	int (*work)(struct check_job *, struct error *);
	int (*commit)(struct check_job *, struct error *);
	struct check_job *job; /* being filled; NULL: none */
	uint64_t bytes;        /* of tables read so far */
};

static bool is_hole(struct check *c, uint64_t host)
{
	struct extent x;
	struct error ignored;
	uint64_t len = min_u64(c->g->cluster_size, c->file_bytes - host);
	return io_extent(c->file, host, len, &x, &ignored) == 0 && x.kind != EXTENT_DATA && x.len >= len;
}

/* Whether the table's bytes have to be looked at. Different tables cannot be more than the file's own blocks; beyond that they
 * are holes, or the same again and again. */
static bool must_read(struct l1_walk *w, uint64_t host)
{
	if (host >= w->c->file_bytes)
		return false;
	w->bytes += w->c->g->cluster_size;
	return w->bytes <= w->c->real_bytes || !is_hole(w->c, host);
}

static int add_table(struct l1_walk *w, uint32_t index, uint64_t raw, struct error *e)
{
	struct check *c = w->c;
	bool read = must_read(w, raw & ENTRY_OFFSET_MASK);
	if (!w->job) {
		w->job = job_next(c, e);
		if (!w->job)
			return -1;
		w->job->work = w->work;
		w->job->commit = w->commit;
		w->job->active = w->active;
	}
	struct check_job *j = w->job;
	j->tables[j->table_count++] = (struct job_table){.l1_index = index, .read = read, .raw = raw};
	if ((uint64_t)(j->table_count + 1) << c->g->cluster_bits > CHECK_WINDOW_BYTES) {
		job_submit(j);
		w->job = NULL;
	}
	return 0;
}

enum {
	CHUNK = 8192,       /* entries */
	WORTH_A_THREAD = 4, /* tables; fewer are scanned sooner than a thread takes them */
};

/* `want` entries of an L1 from `first` on; zeros behind its end and the file's. */
static int read_chunk(struct check *c, uint64_t l1_host, uint32_t l1_entries, uint32_t first, uint32_t want,
	uint8_t *l1, struct error *e)
{
	const uint32_t n = first < l1_entries ? (uint32_t)min_u64(l1_entries - first, want) : 0;
	const uint64_t host = l1_host + (uint64_t)first * 8;
	memset(l1 + (size_t)n * 8, 0, (size_t)(want - n) * 8);
	if (n == 0)
		return 0;
	if (host >= c->file_bytes) {
		memset(l1, 0, (size_t)n * 8);
		return 0;
	}
	if (io_read(c->file, l1, (size_t)n * 8, host, e) < 0)
		return err_prefix(e, "L1 table at 0x%llx", (unsigned long long)l1_host);
	return 0;
}

/* Whether the walk goes below this entry, when the one of c->beside is `other`. */
static bool goes_below(const struct check *c, uint64_t raw, uint64_t other)
{
	const bool same = ((raw ^ other) & ~ENTRY_COPIED) == 0;
	return raw && (c->beside.go == BESIDE_NONE || same == (c->beside.go == BESIDE_SAME));
}

int check_l1(struct check *c, uint64_t l1_host, uint32_t l1_entries, bool active,
	int (*work)(struct check_job *, struct error *), int (*commit)(struct check_job *, struct error *),
	struct error *e)
{
	struct l1_walk w = {.c = c, .active = active, .work = work, .commit = commit};
	if (!c->l1_chunks)
		c->l1_chunks = mem_alloc_pages((size_t)CHUNK * 16, "L1 table", e);
	if (!c->l1_chunks)
		return -1;
	uint8_t *l1 = c->l1_chunks, *beside = l1 + (size_t)CHUNK * 8;
	for (uint32_t i = 0; i < l1_entries; i += CHUNK) {
		const uint32_t n = (uint32_t)min_u64(l1_entries - i, CHUNK);
		if (read_chunk(c, l1_host, l1_entries, i, n, l1, e) < 0 ||
			read_chunk(c, c->beside.host, c->beside.entries, i, n, beside, e) < 0)
			return -1;
		for (uint32_t k = 0; k < n; k++) {
			uint64_t raw = get_be64(l1 + (size_t)k * 8);
			if (goes_below(c, raw, get_be64(beside + (size_t)k * 8)) && add_table(&w, i + k, raw, e) < 0)
				return -1;
		}
	}
	if (w.job && w.job->table_count < WORTH_A_THREAD && pool_in_flight(c->pool) == 0)
		return job_do(w.job, e);
	if (w.job)
		job_submit(w.job);
	return jobs_drain(c, e);
}

int check_tree(struct check *c, uint64_t l1_host, uint32_t l1_entries, bool active, struct error *e)
{
	return check_l1(c, l1_host, l1_entries, active, scan, apply, e);
}

int check_walk(struct check *c, uint64_t l1_host, uint32_t l1_entries, bool active, struct error *e)
{
	if (check_refer(c, l1_host, (uint64_t)l1_entries * 8, NOWHERE, e) < 0)
		return -1;
	if (l1_host > (uint64_t)INT64_MAX) {
		check_found(c, FOUND_UNREADABLE, (struct place){l1_host, NOWHERE}, (uint64_t)l1_entries * 8, l1_host,
			0);
		return 0;
	}
	if (counts_get(&c->counts, l1_host >> c->g->cluster_bits) <= 1)
		c->walks++;
	else if (check_spend(c, &c->aliases, (uint64_t)l1_entries * 8, "L1 tables", e) < 0)
		return -1;
	return check_tree(c, l1_host, l1_entries, active, e);
}
