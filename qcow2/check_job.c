/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs of check: a ring of them goes through the pool and comes back in order, each with the events it noted. A job that failed
 * is reported when its turn comes, so the error is the one of the first table that has any.
 */
#include "qcow2/check_internal.h"

static int commit(struct check *c, struct check_job *j, struct error *e)
{
	if (j->failed) {
		*e = j->error;
		return -1;
	}
	if (progress_cancelled(c->opts->progress))
		return err_set(e, ERR_CANCELLED, "cancelled");
	return j->commit(j, e);
}

struct check_job *job_next(struct check *c, struct error *e)
{
	if (pool_in_flight(c->pool) == c->job_count && commit(c, pool_take(c->pool), e) < 0)
		return NULL;
	struct check_job *j = &c->jobs[c->job_at];
	if (!j->window) {
		j->window = mem_alloc_pages(max_u64(CHECK_WINDOW_BYTES, c->g->cluster_size), "a window of tables", e);
		if (!j->window)
			return NULL;
	}
	j->check = c;
	j->event_count = j->table_count = 0;
	j->allocated = j->fragmented = j->compressed = j->highest = j->peak = 0;
	j->not_copied = j->failed = false;
	return j;
}

void job_submit(struct check_job *j)
{
	j->check->job_at = (j->check->job_at + 1) % j->check->job_count;
	pool_submit(j->check->pool, j);
}

int job_do(struct check_job *j, struct error *e)
{
	return j->work(j, e) < 0 ? -1 : commit(j->check, j, e);
}

int jobs_drain(struct check *c, struct error *e)
{
	struct check_job *j;
	while ((j = pool_take(c->pool)))
		if (commit(c, j, e) < 0)
			return -1;
	return 0;
}

int jobs_over_counts(struct check *c, uint64_t clusters, int (*work)(struct check_job *, struct error *),
	int (*commit_job)(struct check_job *, struct error *), struct error *e)
{
	uint64_t step = align_down(((uint64_t)CHECK_WINDOW_BYTES * 8) >> c->g->refcount_order, COUNTS_PAGE);
	step = min_u64(step, CHECK_WINDOW_BYTES / 2);
	for (uint64_t i = 0; i < clusters; i += step) {
		struct check_job *j = job_next(c, e);
		if (!j)
			return -1;
		j->work = work;
		j->commit = commit_job;
		j->first = i;
		j->end = min_u64(i + step, clusters);
		job_submit(j);
	}
	return jobs_drain(c, e);
}

int job_note(struct check_job *j, uint32_t code, uint64_t a, uint64_t b, uint32_t entry, struct error *e)
{
	if (j->event_count == j->event_room) {
		size_t room = j->event_room ? j->event_room * 2 : 256;
		struct event *events = realloc(j->events, room * sizeof *events);
		if (!events)
			return err_set(e, ERR_NO_MEMORY, "no memory for the findings of a table");
		j->events = events;
		j->event_room = room;
	}
	j->events[j->event_count++] = (struct event){.a = a, .b = b, .entry = entry, .code = code};
	return 0;
}
