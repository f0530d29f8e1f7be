/* SPDX-License-Identifier: Apache-2.0
 *
 * transfer: what one disk shows and another would not, moved into an image that is changed in place; for commit and rebase, and
 * for finding out whether anything differs at all. One thread walks the extents and drops what must be equal (zeros on both
 * sides, the same bytes of the same file); workers read and compare; the first thread takes what differs, in guest order.
 */
#include "convert/internal.h"

enum { JOB_BYTES = 1 << 20, MAX_READINGS = 1024, PROBE = 4096, PROBED_UNIT = 4 * PROBE };

/* A part of a buffer that an extent fills. */
struct reading {
	uint64_t guest;
	size_t at, len;
	struct extent x;
};
/* Guest bytes that are moved, if they differ; without bytes in the buffer: zeros. */
struct block {
	uint64_t guest, len;
	size_t at;
	bool zeros;
};
struct readings {
	struct reading *list;
	size_t count, room;
};
struct blocks {
	struct block *list;
	size_t count, room;
};

struct run;
struct transfer_job {
	struct run *run;
	struct readings from, onto;
	struct blocks planned, moved;
	uint8_t *buf;
	size_t used;  /* of buf */
	uint64_t end; /* all before it is dealt with once this job is */
	bool failed;
	struct error err;
};
struct transfer_worker {
	struct reader *reader;
	uint8_t *other; /* what would show */
};
struct run {
	struct transfer *t;
	struct transfer_worker *workers;
	unsigned worker_count;
	struct transfer_job *jobs, **idle;
	unsigned job_count, idle_count;
	size_t job_bytes;
	struct pool *pool;
	struct rate rate;
	bool stop, failed;
	struct error *err;
};

/* ---- lists that grow ---- */

static int make_room(void **list, size_t count, size_t *room, size_t size, struct error *e)
{
	size_t more = *room ? *room * 2 : 64;
	void *longer;

	if (count < *room)
		return 0;
	longer = realloc(*list, more * size);
	if (!longer)
		return err_set(e, ERR_NO_MEMORY, "no memory for jobs");
	*list = longer;
	*room = more;
	return 0;
}

static int add_block(struct blocks *b, struct block x, struct error *e)
{
	struct block *last = b->count ? &b->list[b->count - 1] : NULL;

	if (last && last->zeros == x.zeros && last->guest + last->len == x.guest &&
		(x.zeros || last->at + last->len == x.at)) {
		last->len += x.len;
		return 0;
	}
	if (make_room((void **)&b->list, b->count, &b->room, sizeof x, e))
		return -1;
	b->list[b->count++] = x;
	return 0;
}

static int add_reading(struct readings *r, const struct reading *x, struct error *e)
{
	if (make_room((void **)&r->list, r->count, &r->room, sizeof *x, e))
		return -1;
	r->list[r->count++] = *x;
	return 0;
}

/* ---- the work ---- */

/* [from, to) of the buffer. *first: where in the list to begin, moved along. */
static int read_range(const struct readings *r, size_t *first, size_t from, size_t to, struct reader *reader,
	uint8_t *buf, struct error *e)
{
	while (*first < r->count && r->list[*first].at + r->list[*first].len <= from)
		++*first;
	for (size_t i = *first; i < r->count && r->list[i].at < to; i++) {
		const struct reading *x = &r->list[i];
		size_t start = (size_t)max_u64(from, x->at), end = (size_t)min_u64(to, x->at + x->len);

		if (extent_reads_zero(&x->x))
			memset(buf + start, 0, end - start);
		else if (reader_read(reader, &x->x, x->guest - x->x.start + (start - x->at), buf + start, end - start,
				 e))
			return -1;
	}
	return 0;
}

/* Whether a unit differs: of a large one first its beginning, which mostly tells. */
static int unit_differs(struct transfer_job *j, struct transfer_worker *w, size_t *first, size_t at, size_t len,
	struct error *e)
{
	size_t done = 0, step = j->run->t->unit >= PROBED_UNIT ? PROBE : len;

	while (done < len) {
		size_t n = (size_t)min_u64(step, len - done);

		if (j->run->t->unit >= PROBED_UNIT &&
			read_range(&j->onto, first, at + done, at + done + n, w->reader, w->other, e))
			return -1;
		if (memcmp(j->buf + at + done, w->other + at + done, n))
			return 1;
		done += n;
		step = len;
	}
	return 0;
}

/* What of a block differs, by units; neighbours become one. */
static int compare_block(struct transfer_job *j, const struct block *b, struct transfer_worker *w, size_t *first,
	struct error *e)
{
	size_t unit = (size_t)j->run->t->unit;

	if (unit < PROBED_UNIT && read_range(&j->onto, first, b->at, b->at + b->len, w->reader, w->other, e))
		return -1;
	for (size_t at = b->at; at < b->at + b->len; at += unit) {
		size_t len = (size_t)min_u64(unit, b->at + b->len - at);
		struct block x = {.guest = b->guest + (at - b->at), .len = len, .at = at};
		int differs = unit_differs(j, w, first, at, len, e);

		if (differs < 0)
			return -1;
		x.zeros = differs && mem_is_zero(j->buf + at, len);
		if (differs && add_block(&j->moved, x, e))
			return -1;
	}
	return 0;
}

static int work(struct transfer_job *j, struct transfer_worker *w, struct error *e)
{
	size_t from = 0, onto = 0;

	j->moved.count = 0;
	if (read_range(&j->from, &from, 0, j->used, w->reader, j->buf, e))
		return -1;
	for (size_t i = 0; i < j->planned.count; i++) {
		const struct block *b = &j->planned.list[i];

		if (b->zeros || !j->run->t->compare ? add_block(&j->moved, *b, e) : compare_block(j, b, w, &onto, e))
			return -1;
	}
	return 0;
}

static void run_job(void *job, unsigned worker)
{
	struct transfer_job *j = job;

	j->failed = work(j, &j->run->workers[worker], &j->err) < 0;
}

/* ---- taking ---- */

static void fail(struct run *r, const struct error *why)
{
	*r->err = *why;
	r->failed = r->stop = true;
}

static void take_one(struct run *r)
{
	struct transfer_job *j = pool_take(r->pool);
	struct transfer *t = r->t;
	struct error why;

	r->idle[r->idle_count++] = j;
	if (j->failed && !r->stop)
		fail(r, &j->err);
	for (size_t i = 0; !r->stop && i < j->moved.count; i++) {
		const struct block *b = &j->moved.list[i];
		int done = t->take(t->ctx, b->guest, b->len, b->zeros ? NULL : j->buf + b->at, &why);

		if (done < 0)
			fail(r, &why);
		r->stop = done != 0;
		rate_moved(&r->rate, b->zeros ? 0 : b->len);
	}
	if (!r->stop)
		progress_report(t->progress, j->end, t->total);
}

static struct transfer_job *new_job(struct run *r)
{
	struct transfer_job *j;

	while (!r->idle_count)
		take_one(r);
	j = r->idle[--r->idle_count];
	j->from.count = j->onto.count = j->planned.count = j->moved.count = 0;
	j->used = 0;
	return j;
}

/* ---- the plan ---- */

/* How the range from `pos` on is dealt with, as far as both sides' extents go. */
enum verdict { SKIP, ZEROS, READ };

static int judge(struct transfer *t, uint64_t pos, uint64_t limit, uint64_t *end, enum verdict *v, struct error *e)
{
	const struct extent *a = &t->from.x, *b = &t->onto.x;

	*v = READ;
	if (side_advance(&t->from, pos, t->total, e) || (t->compare && side_advance(&t->onto, pos, t->total, e)))
		return -1;
	*end = min_u64(a->start + a->len, limit);
	if (!t->compare) {
		if (extent_reads_zero(a))
			*v = a->kind == EXTENT_ABSENT && a->depth >= t->absent_depth ? SKIP : ZEROS;
		return 0;
	}
	*end = min_u64(*end, b->start + b->len);
	if ((extent_reads_zero(a) && extent_reads_zero(b)) || extents_same_place(a, b, pos))
		*v = SKIP;
	else if (extent_reads_zero(a) && !t->exact)
		*v = ZEROS;
	return 0;
}

static int plan_readings(struct side *s, struct readings *r, uint64_t pos, uint64_t end, size_t at, uint64_t total,
	struct error *e)
{
	while (pos < end) {
		struct reading x = {.guest = pos, .at = at};

		if (side_advance(s, pos, total, e))
			return -1;
		x.x = s->x;
		x.len = (size_t)(min_u64(s->x.start + s->x.len, end) - pos);
		if (add_reading(r, &x, e))
			return -1;
		pos += x.len;
		at += x.len;
	}
	return 0;
}

/* Whole units from `pos` on, as many as the job has room for. */
static int plan_block(struct transfer_job *j, uint64_t *pos, uint64_t end, struct error *e)
{
	struct transfer *t = j->run->t;
	uint64_t room = align_down(j->run->job_bytes - j->used, t->unit);
	struct block b = {.guest = *pos, .len = min_u64(end - *pos, room), .at = j->used};

	if (plan_readings(&t->from, &j->from, *pos, *pos + b.len, b.at, t->total, e) ||
		(t->compare && plan_readings(&t->onto, &j->onto, *pos, *pos + b.len, b.at, t->total, e)) ||
		add_block(&j->planned, b, e))
		return -1;
	j->used += b.len;
	*pos += b.len;
	return 0;
}

static bool is_full(const struct transfer_job *j)
{
	return j->run->job_bytes - j->used < j->run->t->unit || j->from.count >= MAX_READINGS ||
	       j->onto.count >= MAX_READINGS || j->planned.count >= MAX_READINGS;
}

/* Adds what lies at `*pos`, up to `limit` at most. */
static int plan_some(struct transfer_job *j, uint64_t *pos, uint64_t limit, struct error *e)
{
	struct transfer *t = j->run->t;
	uint64_t end, whole;
	enum verdict v;

	if (judge(t, *pos, limit, &end, &v, e))
		return -1;
	whole = end == limit ? end : align_down(end, t->unit);
	if (v == READ || whole <= *pos)
		return plan_block(j, pos, min_u64(limit, align_up(end, t->unit)), e);
	if (v == ZEROS && add_block(&j->planned, (struct block){.guest = *pos, .len = whole - *pos, .zeros = true}, e))
		return -1;
	*pos = whole;
	return 0;
}

/* 1: the job is full; 0: all is planned. */
static int plan_job(struct transfer_job *j, uint64_t *pos, struct error *e)
{
	struct transfer *t = j->run->t;

	while (!is_full(j)) {
		uint64_t start, end;
		int more = t->range(t->ctx, *pos, &start, &end, e);

		if (more <= 0)
			return more;
		*pos = start;
		while (*pos < end && !is_full(j))
			if (plan_some(j, pos, end, e))
				return -1;
	}
	return 1;
}

static int plan(struct run *r, struct error *e)
{
	uint64_t pos = 0;
	int more = 1;

	while (more > 0 && !r->stop) {
		struct transfer_job *j;

		if (progress_cancelled(r->t->progress))
			return err_set(e, ERR_CANCELLED, "cancelled");
		j = new_job(r);
		if (r->stop)
			return 0;
		more = plan_job(j, &pos, e);
		j->end = min_u64(pos, r->t->total);
		if (more >= 0)
			pool_submit(r->pool, j);
	}
	return more;
}

/* ---- start and end ---- */

static int start(struct run *r, struct error *e)
{
	unsigned threads = r->t->threads;

	r->worker_count = threads ? threads : 1;
	r->job_count = 2 * threads + 2;
	r->job_bytes = (size_t)max_u64(JOB_BYTES, r->t->unit);
	r->workers = mem_calloc(r->worker_count, sizeof *r->workers, "workers", e);
	r->jobs = r->workers ? mem_calloc(r->job_count, sizeof *r->jobs, "jobs", e) : NULL;
	r->idle = r->jobs ? mem_calloc(r->job_count, sizeof(struct transfer_job *), "jobs", e) : NULL;
	if (!r->idle)
		return -1;
	for (unsigned i = 0; i < r->job_count; i++) {
		r->jobs[i].run = r;
		r->jobs[i].buf = mem_alloc_pages(r->job_bytes, "job buffer", e);
		if (!r->jobs[i].buf)
			return -1;
		r->idle[r->idle_count++] = &r->jobs[i];
	}
	for (unsigned i = 0; i < r->worker_count; i++) {
		r->workers[i].other = r->t->compare ? mem_alloc_pages(r->job_bytes, "job buffer", e) : NULL;
		if ((r->t->compare && !r->workers[i].other) || reader_new(&r->workers[i].reader, e))
			return -1;
	}
	rate_begin(&r->rate, r->t->rate_limit, r->t->progress);
	return pool_new(&r->pool, threads, r->job_count, run_job, e);
}

static void finish(struct run *r)
{
	pool_free(r->pool);
	for (unsigned i = 0; r->workers && i < r->worker_count; i++) {
		reader_free(r->workers[i].reader);
		free(r->workers[i].other);
	}
	for (unsigned i = 0; r->jobs && i < r->job_count; i++) {
		struct transfer_job *j = &r->jobs[i];

		free(j->from.list);
		free(j->onto.list);
		free(j->planned.list);
		free(j->moved.list);
		free(j->buf);
	}
	free(r->workers);
	free(r->jobs);
	free(r->idle);
}

int transfer_run(struct transfer *t, struct error *e)
{
	struct run r = {.t = t, .err = e};
	struct error why;
	int failed = start(&r, e);

	if (!failed) {
		failed = plan(&r, &why);
		while (pool_in_flight(r.pool))
			take_one(&r);
		if (failed < 0 && !r.failed)
			*e = why;
		failed = failed < 0 || r.failed ? -1 : 0;
	}
	finish(&r);
	return failed;
}
