/* SPDX-License-Identifier: Apache-2.0
 *
 * The ordered worker pool: the only place that makes threads. A ring of `depth` slots; three counters walk over it:
 * submitted >= started >= (done, in any order) and taken behind them. A slot's job belongs to the caller before submit and
 * after take, to one worker in between. All under one mutex, which is cheap since a job is about a mebibyte of work; and
 * nobody is woken who has nothing to do.
 */
#include "base/base.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STACK_BYTES = 1 << 20 }; /* their frames are larger */
#else
enum { STACK_BYTES = 256 << 10 };
#endif

struct slot {
	void *job;
	bool done;
};

struct worker {
	struct pool *pool;
	pthread_t thread;
	unsigned index;
};

struct pool {
	pool_work_fn *work;
	unsigned threads, depth;
	struct slot *slots;
	struct worker *workers;
	pthread_mutex_t lock;
	pthread_cond_t job_ready; /* for workers: submitted > started, or stop */
	pthread_cond_t slot_done; /* for the taker: the oldest slot is done */
	uint64_t submitted, started, taken;
	uint64_t wake_at; /* the taker is left asleep while more jobs than these are not started */
	unsigned idle;    /* workers waiting for job_ready */
	bool taker_waits, stop;
};

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct pool *p = w->pool;
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (p->started == p->submitted && !p->stop) {
			p->idle++;
			pthread_cond_wait(&p->job_ready, &p->lock);
			p->idle--;
		}
		if (p->started == p->submitted)
			break;
		uint64_t mine = p->started++;
		struct slot *s = &p->slots[mine % p->depth];
		pthread_mutex_unlock(&p->lock);
		p->work(s->job, w->index);
		pthread_mutex_lock(&p->lock);
		s->done = true;
		if (p->taker_waits && p->slots[p->taken % p->depth].done && p->submitted - p->started <= p->wake_at)
			pthread_cond_signal(&p->slot_done);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Signals stay with the threads that were there before: a handler must not run on a small stack, and a worker's system
 * calls must not be cut short. */
static int start_workers(struct pool *p, struct error *e)
{
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = 0;
	for (unsigned wanted = p->threads, i = p->threads = 0; i < wanted && !rc; i++) {
		p->workers[i] = (struct worker){.pool = p, .index = i};
		rc = pthread_create(&p->workers[i].thread, &attr, worker_main, &p->workers[i]);
		p->threads += !rc;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	/* Fewer threads than asked for do the same work. */
	return p->threads ? 0 : err_sys(e, rc, "starting a thread");
}

int pool_new(struct pool **out, unsigned threads, unsigned depth, pool_work_fn *work, struct error *e)
{
	assert(depth > 0);
	AUTO_FREE struct pool *p = mem_calloc(1, sizeof *p, "a pool", e);
	AUTO_FREE struct slot *slots = p ? mem_calloc(depth, sizeof *slots, "a pool's slots", e) : NULL;
	AUTO_FREE struct worker *workers = slots ? mem_calloc(threads, sizeof *workers, "a pool's threads", e) : NULL;
	if (!workers)
		return -1;
	*p = (struct pool){
		.work = work, .threads = threads, .depth = depth, .slots = slots, .workers = workers, .wake_at = depth};
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->job_ready, NULL);
	pthread_cond_init(&p->slot_done, NULL);
	if (threads && start_workers(p, e) < 0)
		return -1;
	slots = NULL;
	workers = NULL;
	*out = STEAL(p);
	return 0;
}

void pool_take_late(struct pool *p)
{
	p->wake_at = p->threads;
}

void pool_submit(struct pool *p, void *job)
{
	assert(p->submitted - p->taken < p->depth);
	struct slot *s = &p->slots[p->submitted % p->depth];
	*s = (struct slot){.job = job};
	if (!p->threads) {
		p->work(job, 0);
		s->done = true;
		p->submitted++;
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->submitted++;
	if (p->idle)
		pthread_cond_signal(&p->job_ready);
	pthread_mutex_unlock(&p->lock);
}

static void *take(struct pool *p, bool wait)
{
	if (p->taken == p->submitted)
		return NULL;
	struct slot *s = &p->slots[p->taken % p->depth];
	pthread_mutex_lock(&p->lock);
	p->taker_waits = true;
	while (!s->done && wait)
		pthread_cond_wait(&p->slot_done, &p->lock);
	p->taker_waits = false;
	void *job = s->done ? s->job : NULL;
	p->taken += s->done;
	pthread_mutex_unlock(&p->lock);
	return job;
}

void *pool_take(struct pool *p)
{
	return take(p, true);
}

void *pool_try_take(struct pool *p)
{
	return take(p, false);
}

unsigned pool_in_flight(const struct pool *p)
{
	/* Both counters are moved only by the thread that asks. */
	return (unsigned)(p->submitted - p->taken);
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->job_ready);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads; i++)
		pthread_join(p->workers[i].thread, NULL);
	pthread_cond_destroy(&p->slot_done);
	pthread_cond_destroy(&p->job_ready);
	pthread_mutex_destroy(&p->lock);
	free(p->workers);
	free(p->slots);
	free(p);
}

unsigned pool_cpu_count(void)
{
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
		return (unsigned)CPU_COUNT(&set);
	/* More processors than a cpu_set_t holds. */
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	return n > 0 ? (unsigned)n : 1;
}
