/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver of tests/unit/scripted_driver.h: the way of the guest's memory to a pipe. What was done with it by a process that died is
 * over, but for a guest that stands still.
 */
#include "tests/unit/scripted_internal.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

enum { POLLS = 2, SMALL_FILE = 100 << 10 };

#define S ((struct scripted *)d)
#define BEGIN(op)                                                                                                      \
	if (scripted_begin(S, op, e))                                                                                  \
	return -1

static int refused(struct scripted *s, enum err_code code, const char *why, struct error *e)
{
	return err_set(e, code, "%s: %s", s->w->last_op, why);
}

void scripted_run_on(struct world *w)
{
	w->state = DRIVER_RUNNING;
	w->paused_by_user = w->memory_holds = false;
	w->memory = MEMORY_STAYS;
}

void scripted_memory_close(struct scripted *s)
{
	if (s->memory >= 0)
		close(s->memory);
	s->memory = -1;
}

/* A guest that stood still for it alone goes on. */
static void over(struct scripted *s)
{
	if (s->w->memory_holds)
		scripted_run_on(s->w);
	s->w->memory = MEMORY_STAYS;
	scripted_memory_close(s);
}

int scripted_memory_still(struct driver *d, const char *uuid, bool *out, struct error *e)
{
	(void)uuid;
	BEGIN("memory_still");
	*out = S->w->memory_still;
	return scripted_end(S, e);
}

int scripted_memory_begin(struct driver *d, const char *uuid, int fd, bool still, struct driver_head *head,
	struct error *e)
{
	struct world *w = S->w;
	char line[WORLD_PATH];

	(void)uuid;
	BEGIN("memory_begin");
	if (!world_active(w))
		return refused(S, ERR_IO, "the machine is off", e);
	if (w->memory != MEMORY_STAYS)
		return refused(S, ERR_BUSY, "it goes elsewhere", e);
	ck_assert_msg(!w->memory_still || (still && w->state == DRIVER_PAUSED), "memory that is changed meanwhile");
	signal(SIGPIPE, SIG_IGN);
	S->memory = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	ck_assert_int_ge(S->memory, 0);
	world_memory_head(w, line);
	head->len = strlen(line);
	head->bytes = (uint8_t *)strdup(line);
	w->memory = MEMORY_RUNS;
	w->memory_polls = POLLS;
	w->memory_rounds = 1;
	w->memory_patience = 0;
	return scripted_end(S, e);
}

/* It is at its instant. */
static void hold(struct world *w)
{
	w->memory = MEMORY_HELD;
	w->memory_holds = !w->memory_still;
	w->state = DRIVER_PAUSED;
	w->paused_by_user = true; /* the hypervisor knows no better */
}

int scripted_memory_look(struct driver *d, const char *uuid, struct driver_memory *out, struct error *e)
{
	static const enum driver_memory_state states[] = {[MEMORY_RUNS] = DRIVER_MEMORY_RUNS,
		[MEMORY_HELD] = DRIVER_MEMORY_HELD,
		[MEMORY_WRITTEN] = DRIVER_MEMORY_WRITTEN};
	struct world *w = S->w;

	(void)uuid;
	BEGIN("memory_look");
	if (!world_active(w) || w->memory == MEMORY_STAYS)
		return refused(S, ERR_IO, "it goes nowhere", e);
	if (w->memory == MEMORY_RUNS && w->memory_polls)
		w->memory_polls--;
	else if (w->memory == MEMORY_RUNS && w->memory_patience < w->memory_ms)
		w->memory_rounds++;
	else if (w->memory == MEMORY_RUNS && (w->state == DRIVER_RUNNING) == w->memory_still)
		return refused(S, ERR_CHANGED, "somebody has paused it, or let it go on", e);
	else if (w->memory == MEMORY_RUNS)
		hold(w);
	*out = (struct driver_memory){.state = states[w->memory], .done = 1, .left = 1, .rounds = w->memory_rounds};
	return scripted_end(S, e);
}

int scripted_memory_patience(struct driver *d, const char *uuid, unsigned ms, struct error *e)
{
	(void)uuid;
	BEGIN("memory_patience");
	S->w->memory_patience = ms;
	return scripted_end(S, e);
}

/* Files cannot grow that far meanwhile; the pipe takes some before its reader finds that out. */
static int write_to_full(const struct scripted *s)
{
	struct rlimit before, small;

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = SMALL_FILE;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	while (!world_memory_to(s->w, s->memory))
		continue;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
	return -1;
}

int scripted_memory_finish(struct driver *d, const char *uuid, struct error *e)
{
	struct world *w = S->w;

	(void)uuid;
	BEGIN("memory_finish");
	if (!world_active(w) || w->memory != MEMORY_HELD)
		return refused(S, ERR_IO, "it is not held", e);
	if (w->memory_fills ? write_to_full(S) : world_memory_to(w, S->memory))
		over(S); /* what became of it is not told here */
	else
		w->memory = MEMORY_WRITTEN;
	scripted_memory_close(S);
	return scripted_end(S, e);
}

int scripted_memory_end(struct driver *d, const char *uuid, struct error *e)
{
	(void)uuid;
	BEGIN("memory_end");
	if (!world_active(S->w))
		return refused(S, ERR_IO, "the machine is off", e);
	over(S);
	return scripted_end(S, e);
}
