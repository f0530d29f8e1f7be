/* SPDX-License-Identifier: Apache-2.0
 *
 * The pipeline: plan and commit on this thread, work on the pool's. Jobs come back in the order in which they were planned, so
 * what the sink decides does not depend on the number of threads. Memory is the ring of jobs, whatever the image's size.
 */
#include "convert/internal.h"

static const uint64_t ring_bytes = 64 << 20; /* of all jobs' buffers together, where a job for each thread is less */

struct pipeline {
	struct work *work;
	struct pool *pool;
	struct job *jobs;
	struct job **idle; /* a stack */
	unsigned job_count, idle_count;
	uint64_t committed; /* guest bytes */
	struct rate rate;   /* for what was not skipped */
	uint64_t done_before, progress_total;
	struct convert_result *result;
	bool failed;
	uint64_t failed_at; /* guest offset of the error kept: the lowest */
	struct error *err;
};

static void run_job(void *job, unsigned worker)
{
	struct job *j = job;
	work_run(j->work, j, worker);
}

static void free_jobs(struct pipeline *p)
{
	for (unsigned i = 0; p->jobs && i < p->job_count; i++) {
		struct job *j = &p->jobs[i];
		free(j->extents);
		free(j->pieces);
		free(j->own_buf);
		free(j->out);
	}
	free(p->jobs);
	free(p->idle);
}

/* Room for the worst case: two extents for each sector (sources that end inside one are filled up to it), a piece for each
 * granule. Untouched pages cost nothing. */
static int new_job(struct pipeline *p, struct job *j, struct error *e)
{
	const struct work *w = p->work;
	uint64_t bytes = w->plan->job_bytes;
	j->work = p->work;
	j->extent_room = (unsigned)(bytes / 256 + 4);
	j->extents = malloc(j->extent_room * sizeof *j->extents);
	j->pieces = malloc((bytes / min_u64(w->granule, 4096) + 2) * sizeof *j->pieces);
	if (!j->extents || !j->pieces)
		return err_set(e, ERR_NO_MEMORY, "no memory for jobs of %llu bytes", (unsigned long long)bytes);
	if (!w->sink->ops->place && !w->layout_only) {
		j->own_buf = mem_alloc_pages(bytes + w->cluster_size, "job buffer", e);
		if (!j->own_buf)
			return -1;
	}
	j->buf = j->own_buf;
	if (w->compress) {
		j->out = mem_alloc_pages(bytes + w->cluster_size, "job buffer", e);
		if (!j->out)
			return -1;
	}
	p->idle[p->idle_count++] = j;
	return 0;
}

static int start(struct pipeline *p, unsigned threads, struct error *e)
{
	/* a job is read, waits for its turn, and may be written: enough of them that no thread waits for another, but for many
	 * threads with large jobs no more than one each and two more */
	unsigned wanted = 4 * threads + 2, room = (unsigned)(ring_bytes / p->work->plan->job_bytes);
	p->job_count = threads ? max_u64(min_u64(wanted, room), threads + 2) : 1;
	p->jobs = mem_calloc(p->job_count, sizeof *p->jobs, "jobs", e);
	p->idle = mem_calloc(p->job_count, sizeof *p->idle, "jobs", e);
	if (!p->jobs || !p->idle)
		return -1;
	for (unsigned i = 0; i < p->job_count; i++)
		if (new_job(p, &p->jobs[i], e) < 0)
			return -1;
	if (pool_new(&p->pool, threads, p->job_count, run_job, e) < 0)
		return -1;
	if (p->work->sink->light_commit)
		pool_take_late(p->pool);
	return 0;
}

static void fail(struct pipeline *p, uint64_t guest, const struct error *why)
{
	if (p->failed && p->failed_at <= guest)
		return;
	p->failed = true;
	p->failed_at = guest;
	*p->err = *why;
}

static void finish_job(struct pipeline *p, struct job *j)
{
	struct work *w = p->work;
	p->committed += j->len;
	p->result->read_bytes += j->read_bytes;
	p->result->passed_through += j->passed_bytes;
	p->result->salvaged_errors += j->salvaged;
	j->read_bytes = j->passed_bytes = j->salvaged = 0;
	progress_report(w->opts->progress, p->done_before + p->committed, p->progress_total);
	p->idle[p->idle_count++] = j;
	if (j->kind != JOB_SKIP)
		rate_moved(&p->rate, j->len);
}

/* Takes the oldest job back and passes it on: to the sink, to its write stage, or to the idle ones. */
static void take_one(struct pipeline *p)
{
	struct job *j = pool_take(p->pool);
	struct work *w = p->work;
	struct error why;
	if (j->failed)
		fail(p, j->guest, &j->err);
	if (!p->failed && j->stage == STAGE_READ && !progress_cancelled(w->opts->progress)) {
		int r = w->sink->ops->commit(w->sink, j, &why);
		if (r < 0)
			fail(p, j->guest, &why);
		w->plan->clone &= !w->sink->clone_failed;
		if (r == 1) {
			j->stage = STAGE_WRITE;
			pool_submit(p->pool, j);
			return;
		}
	}
	finish_job(p, j);
}

static void run(struct pipeline *p)
{
	struct work *w = p->work;
	struct error why;
	bool more = true;
	while (more && !p->failed) {
		if (progress_cancelled(w->opts->progress)) {
			err_set(&why, ERR_CANCELLED, "cancelled");
			fail(p, 0, &why);
			break;
		}
		while (!p->idle_count)
			take_one(p);
		struct job *j = p->idle[--p->idle_count];
		int r = p->failed ? 0 : plan_next(w->plan, j, &why);
		if (r < 0)
			fail(p, w->plan->pos, &why);
		more = r == 1;
		if (more)
			pool_submit(p->pool, j);
		else
			p->idle[p->idle_count++] = j;
	}
	while (pool_in_flight(p->pool))
		take_one(p);
}

int pipeline_run(struct work *w, unsigned threads, uint64_t done_before, uint64_t progress_total,
	struct convert_result *result, struct error *e)
{
	struct pipeline p = {
		.work = w, .done_before = done_before, .progress_total = progress_total, .result = result, .err = e};
	w->plan->pos = w->plan->lost = w->plan->lost_to = 0;
	rate_begin(&p.rate, w->opts->rate_limit, w->opts->progress);
	int r = start(&p, threads, e);
	if (r == 0) {
		run(&p);
		if (!p.failed && progress_cancelled(w->opts->progress)) {
			err_set(e, ERR_CANCELLED, "cancelled");
			p.failed = true;
		}
		r = p.failed ? -1 : 0;
	}
	result->salvaged_errors += (unsigned)div_round_up(w->plan->lost, 4096);
	pool_free(p.pool);
	free_jobs(&p);
	return r;
}
