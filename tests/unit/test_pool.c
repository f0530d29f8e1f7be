/* SPDX-License-Identifier: Apache-2.0
 *
 * base/pool.c: order, bounds, the serial twin, the blocked signals.
 */
#include "base/base.h"

#include <check.h>
#include <signal.h>
#include <unistd.h>

enum { JOBS = 2000 };

struct job {
	unsigned number, result, worker;
	unsigned micros;
};

static atomic_uint running, most_running;

static void square(void *arg, unsigned worker)
{
	struct job *j = arg;
	unsigned now = atomic_fetch_add(&running, 1) + 1;
	unsigned most = atomic_load(&most_running);
	while (now > most && !atomic_compare_exchange_weak(&most_running, &most, now)) {
	}
	if (j->micros)
		usleep(j->micros);
	j->result = j->number * j->number;
	j->worker = worker;
	atomic_fetch_sub(&running, 1);
}

static const unsigned thread_counts[] = {0, 1, 2, 8};

/* Jobs of uneven length come back in the order they went in, whatever the number of threads, and when the taker is woken. */
START_TEST(test_order)
{
	unsigned threads = thread_counts[_i % 4], depth = _i < 8 ? threads * 2 + 1 : 1, next = 0;
	static struct job jobs[JOBS];
	struct error e = {0};
	struct pool *p;
	ck_assert_int_eq(pool_new(&p, threads, depth, square, &e), 0);
	if (_i >= 4)
		pool_take_late(p);
	for (unsigned i = 0; i < JOBS; i++) {
		if (pool_in_flight(p) == depth) {
			struct job *j = pool_take(p);
			ck_assert_uint_eq(j->number, next++);
			ck_assert_uint_eq(j->result, j->number * j->number);
			ck_assert(j->worker == 0 || j->worker < threads);
		}
		jobs[i] = (struct job){.number = i, .micros = i % 7 == 0 ? 50 : 0};
		pool_submit(p, &jobs[i]);
	}
	for (struct job *j; (j = pool_take(p));)
		ck_assert_uint_eq(j->number, next++);
	ck_assert_uint_eq(next, JOBS);
	ck_assert_uint_eq(pool_in_flight(p), 0);
	ck_assert_ptr_null(pool_take(p));
	ck_assert_ptr_null(pool_try_take(p));
	pool_free(p);
	ck_assert_uint_le(atomic_load(&most_running), threads ? threads : 1);
}
END_TEST

START_TEST(test_try_take_does_not_wait)
{
	struct job slow = {.number = 3, .micros = 100000}, quick = {.number = 4};
	struct error e = {0};
	struct pool *p;
	ck_assert_int_eq(pool_new(&p, 2, 4, square, &e), 0);
	pool_submit(p, &slow);
	pool_submit(p, &quick);
	usleep(20000);
	ck_assert_ptr_null(pool_try_take(p)); /* quick is done, but slow is older */
	ck_assert_uint_eq(pool_in_flight(p), 2);
	ck_assert_ptr_eq(pool_take(p), &slow);
	ck_assert_ptr_eq(pool_take(p), &quick);
	pool_free(p);
}
END_TEST

/* How many jobs besides the first are done when the taker gets that one. */
static unsigned done_with_the_first(void)
{
	static struct job jobs[16];
	struct error e = {0};
	struct pool *p;
	unsigned done = 0;
	ck_assert_int_eq(pool_new(&p, 1, 16, square, &e), 0);
	pool_take_late(p);
	for (unsigned i = 0; i < 16; i++) {
		jobs[i] = (struct job){.number = i, .micros = 2000};
		pool_submit(p, &jobs[i]);
	}
	ck_assert_ptr_eq(pool_take(p), &jobs[0]);
	while (done < 15 && pool_try_take(p))
		done++;
	while (pool_take(p)) {
	}
	pool_free(p);
	return done;
}

/* While enough jobs wait to be started the taker sleeps on. (It may not have slept at all: on a loaded machine the first job is
 * sometimes done before it is asked for.) */
START_TEST(test_late_taker_is_left_asleep)
{
	unsigned most = 0;
	for (unsigned i = 0; i < 20 && most < 12; i++) {
		unsigned done = done_with_the_first();
		most = done > most ? done : most;
	}
	ck_assert_uint_ge(most, 12);
}
END_TEST

START_TEST(test_free_waits_for_jobs)
{
	struct job jobs[8];
	struct error e = {0};
	struct pool *p;
	ck_assert_int_eq(pool_new(&p, 2, 8, square, &e), 0);
	for (unsigned i = 0; i < 8; i++) {
		jobs[i] = (struct job){.number = i + 1, .micros = 1000};
		pool_submit(p, &jobs[i]);
	}
	pool_free(p);
	for (unsigned i = 0; i < 8; i++)
		ck_assert_uint_eq(jobs[i].result, (i + 1) * (i + 1));
	pool_free(NULL);
}
END_TEST

static void look_at_mask(void *arg, unsigned worker)
{
	(void)worker;
	sigset_t now;
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	*(bool *)arg = sigismember(&now, SIGINT) && sigismember(&now, SIGUSR1) && sigismember(&now, SIGTERM);
}

START_TEST(test_workers_take_no_signals)
{
	bool blocked = false;
	struct error e = {0};
	struct pool *p;
	ck_assert_int_eq(pool_new(&p, 1, 1, look_at_mask, &e), 0);
	pool_submit(p, &blocked);
	ck_assert_ptr_eq(pool_take(p), &blocked);
	pool_free(p);
	ck_assert(blocked);
	bool here = true;
	look_at_mask(&here, 0);
	ck_assert(!here); /* the caller's own mask is as before */
}
END_TEST

START_TEST(test_cpu_count)
{
	ck_assert_uint_ge(pool_cpu_count(), 1);
}
END_TEST

Suite *suite_pool(void);
Suite *suite_pool(void)
{
	Suite *s = suite_create("pool");
	TCase *t = tcase_create("pool");
	tcase_add_loop_test(t, test_order, 0, 12);
	tcase_add_test(t, test_try_take_does_not_wait);
	tcase_add_test(t, test_late_taker_is_left_asleep);
	tcase_add_test(t, test_free_waits_for_jobs);
	tcase_add_test(t, test_workers_take_no_signals);
	tcase_add_test(t, test_cpu_count);
	suite_add_tcase(s, t);
	return s;
}
