/* SPDX-License-Identifier: Apache-2.0
 *
 * compare: whether two disks read the same. One thread walks both extent maps side by side and drops what must be equal (zeros on
 * both sides, the same bytes of the same file); the rest goes to the pool in jobs, whose answers are taken in guest order, so
 * the first difference is the one reported whatever the number of threads.
 */
#include "convert/internal.h"

enum { MAX_SEGMENTS = 64, CHUNK = 256 << 10, SECTOR = 512 };
static const uint64_t job_max_bytes = 4 << 20, skip_report_bytes = 1ull << 30;

/* A range in which both images have one extent each. */
struct segment {
	uint64_t guest, len;
	struct extent x[2];
};

struct comparison;
struct compare_job {
	struct comparison *c;
	struct segment segments[MAX_SEGMENTS];
	unsigned count;
	uint64_t bytes;
	uint64_t end; /* all before it is compared once this job is */
	bool differs, failed;
	uint64_t at;
	unsigned failed_image;
	struct error err;
};

struct compare_worker {
	struct reader *reader[2];
	uint8_t *buf[2];
};

struct comparison {
	struct side side[2];
	struct compare_worker *workers;
	unsigned worker_count;
	struct pool *pool;
	struct compare_job *jobs, **idle;
	unsigned job_count, idle_count;
	uint64_t total;
	bool strict;
	bool stop, failed; /* the answer is known; it is an error */
	bool status_differs;
	uint64_t status_at;
	struct progress *progress;
	struct compare_result *out;
	struct error *err;
};

/* ---- the work ---- */

static int fetch(struct compare_job *j, struct compare_worker *w, const struct segment *s, uint64_t done, size_t len,
	unsigned image)
{
	const struct extent *x = &s->x[image];
	if (reader_read(w->reader[image], x, s->guest + done - x->start, w->buf[image], len, &j->err) == 0)
		return 0;
	j->failed = true;
	j->failed_image = image;
	j->at = s->guest + done;
	return -1;
}

/* The first sector of the buffers that differs; `zero`: which of them stands for zeros, -1: none. */
static size_t first_difference(const struct compare_worker *w, int zero, size_t len)
{
	for (size_t at = 0; at < len; at += SECTOR) {
		size_t n = min_u64(SECTOR, len - at);
		bool same =
			zero >= 0 ? mem_is_zero(w->buf[1 - zero] + at, n) : !memcmp(w->buf[0] + at, w->buf[1] + at, n);
		if (!same)
			return at;
	}
	return len;
}

static bool chunk_is_same(const struct compare_worker *w, int zero, size_t len)
{
	return zero >= 0 ? mem_is_zero(w->buf[1 - zero], len) : !memcmp(w->buf[0], w->buf[1], len);
}

/* False when the job is decided: a difference or an error. */
static bool compare_segment(struct compare_job *j, struct compare_worker *w, const struct segment *s)
{
	int zero = extent_reads_zero(&s->x[0]) ? 0 : extent_reads_zero(&s->x[1]) ? 1 : -1;
	for (uint64_t done = 0; done < s->len; done += CHUNK) {
		size_t len = min_u64(CHUNK, s->len - done);
		for (int image = 0; image < 2; image++)
			if (image != zero && fetch(j, w, s, done, len, (unsigned)image) < 0)
				return false;
		if (!chunk_is_same(w, zero, len)) {
			j->differs = true;
			j->at = s->guest + done + first_difference(w, zero, len);
			return false;
		}
	}
	return true;
}

static void run_job(void *job, unsigned worker)
{
	struct compare_job *j = job;
	struct compare_worker *w = &j->c->workers[worker];
	for (unsigned i = 0; i < j->count; i++)
		if (!compare_segment(j, w, &j->segments[i]))
			return;
}

/* ---- taking answers ---- */

static void take_one(struct comparison *c)
{
	struct compare_job *j = pool_take(c->pool);
	c->idle[c->idle_count++] = j;
	if (c->stop) /* an earlier job has decided */
		return;
	if (j->failed || j->differs) {
		c->stop = true;
		c->out->verdict = COMPARE_DIFFERENT;
		c->out->at = align_down(j->at, SECTOR);
		if (j->failed) {
			*c->err = j->err;
			c->failed = true;
			c->out->failed_image = j->failed_image;
		}
		return;
	}
	progress_report(c->progress, j->end, c->total);
}

static struct compare_job *new_job(struct comparison *c)
{
	while (!c->idle_count)
		take_one(c);
	struct compare_job *j = c->idle[--c->idle_count];
	j->count = 0;
	j->bytes = 0;
	j->differs = j->failed = false;
	return j;
}

/* ---- the plan ---- */

static bool status_differs(const struct extent *a, const struct extent *b)
{
	return extent_reads_zero(a) != extent_reads_zero(b) ||
	       (a->kind == EXTENT_ABSENT) != (b->kind == EXTENT_ABSENT) ||
	       (a->kind == EXTENT_COMPRESSED) != (b->kind == EXTENT_COMPRESSED) || a->has_host != b->has_host ||
	       a->hole != b->hole;
}

/* Adds what follows `*pos` to the job; returns 1 when the job is full or the end is reached, -1 on an error. */
static int plan_step(struct comparison *c, struct compare_job *j, uint64_t *pos, struct error *e)
{
	for (unsigned i = 0; i < 2; i++) {
		c->out->failed_image = i;
		if (side_advance(&c->side[i], *pos, c->total, e) < 0)
			return -1;
	}
	const struct extent *a = &c->side[0].x, *b = &c->side[1].x;
	uint64_t end = min_u64(min_u64(a->start + a->len, b->start + b->len), c->total);
	if (c->strict && status_differs(a, b)) {
		c->status_differs = true;
		c->status_at = *pos;
		return 1;
	}
	if ((extent_reads_zero(a) && extent_reads_zero(b)) || extents_same_place(a, b, *pos)) {
		*pos = end;
		return *pos == c->total || *pos - j->end > skip_report_bytes;
	}
	uint64_t len = min_u64(end - *pos, job_max_bytes - j->bytes);
	j->segments[j->count++] = (struct segment){.guest = *pos, .len = len, .x = {*a, *b}};
	j->bytes += len;
	*pos += len;
	return *pos == c->total || j->count == MAX_SEGMENTS || j->bytes == job_max_bytes;
}

static int plan(struct comparison *c, struct error *e)
{
	for (uint64_t pos = 0; pos < c->total && !c->stop && !c->status_differs;) {
		if (progress_cancelled(c->progress))
			return err_set(e, ERR_CANCELLED, "cancelled");
		struct compare_job *j = new_job(c);
		int r = 0;
		j->end = pos;
		while (r == 0)
			r = plan_step(c, j, &pos, e);
		j->end = pos;
		pool_submit(c->pool, j);
		if (r < 0)
			return -1;
	}
	return 0;
}

/* ---- start and end ---- */

static int start(struct comparison *c, struct chain *const chains[2], unsigned threads, struct error *e)
{
	c->worker_count = threads ? threads : 1;
	c->job_count = 2 * threads + 2;
	c->workers = mem_calloc(c->worker_count, sizeof *c->workers, "workers", e);
	c->jobs = mem_calloc(c->job_count, sizeof *c->jobs, "jobs", e);
	c->idle = mem_calloc(c->job_count, sizeof(struct compare_job *), "jobs", e);
	if (!c->workers || !c->jobs || !c->idle)
		return -1;
	for (unsigned i = 0; i < c->job_count; i++) {
		c->jobs[i].c = c;
		c->idle[c->idle_count++] = &c->jobs[i];
	}
	for (unsigned i = 0; i < c->worker_count; i++) {
		struct compare_worker *w = &c->workers[i];
		for (unsigned image = 0; image < 2; image++) {
			w->buf[image] = mem_alloc_pages(CHUNK, "compare buffer", e);
			if (!w->buf[image] || reader_new(&w->reader[image], e) < 0)
				return -1;
		}
	}
	for (unsigned i = 0; i < 2; i++)
		if (side_open(&c->side[i], chains[i], chains[i]->count, WALK_FILE_HOLES, e) < 0)
			return -1;
	return pool_new(&c->pool, threads, c->job_count, run_job, e);
}

static void finish(struct comparison *c)
{
	pool_free(c->pool);
	for (unsigned i = 0; c->workers && i < c->worker_count; i++) {
		for (unsigned image = 0; image < 2; image++) {
			free(c->workers[i].buf[image]);
			reader_free(c->workers[i].reader[image]);
		}
	}
	side_close(&c->side[0]);
	side_close(&c->side[1]);
	free(c->workers);
	free(c->jobs);
	free(c->idle);
}

/* Plans and takes until the answer is there; what was found at a lower offset wins over a failure of the plan. */
static int run(struct comparison *c, struct error *e)
{
	struct error plan_error;
	int planned = plan(c, &plan_error);
	unsigned plan_failed_image = c->out->failed_image;
	while (pool_in_flight(c->pool))
		take_one(c);
	if (c->stop)
		return c->failed ? -1 : 0;
	c->out->failed_image = plan_failed_image;
	if (planned < 0) {
		*e = plan_error;
		return -1;
	}
	if (c->status_differs) {
		c->out->verdict = COMPARE_STATUS_DIFFERENT;
		c->out->at = c->status_at;
	}
	return 0;
}

int convert_compare(struct chain *a, struct chain *b, bool strict, unsigned threads, struct progress *p,
	struct compare_result *out, struct error *e)
{
	struct comparison c = {.strict = strict, .progress = p, .out = out, .err = e};

	*out = (struct compare_result){.verdict = COMPARE_SAME};
	uint64_t sizes[2] = {align_up(a->size, SECTOR), align_up(b->size, SECTOR)};
	c.total = max_u64(sizes[0], sizes[1]);
	out->size_mismatch = sizes[0] != sizes[1];
	if (strict && out->size_mismatch) {
		out->verdict = COMPARE_SIZE_DIFFERENT;
		return 0;
	}
	int r = start(&c, (struct chain *const[2]){a, b}, threads, e);
	if (r == 0)
		r = run(&c, e);
	finish(&c);
	return r;
}
