/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/journal.c: what was put is there for who comes after a crash, wherever it came; what could not be written is not.
 */
#include "snapshot/internal.h"
#include "tests/unit/journal_fault.h"
#include "tests/unit/scratch.h"

#include <check.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

Suite *suite_vm_journal(void);

#define UUID "0e9d2a8e-3a52-4b0a-9f3a-5d1f6a7b8c9d"
static const char uuid[] = UUID, file[] = "state/" UUID ".journal";
static struct error e;

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, e.msg)

static void enter(void)
{
	ck_assert(scratch_enter(SCRATCH_TMPFS));
}

static void leave(void)
{
	journal_fault_at(0, JOURNAL_FAULT_NONE, false);
	scratch_leave();
}

static struct journal *reopened(void)
{
	struct journal *j;

	OK(journal_open(&j, "state", uuid, 0, NULL, &e));
	return j;
}

static unsigned traces(const struct journal *j)
{
	unsigned count;

	journal_traces(j, &count);
	return count;
}

static bool there(void)
{
	return access(file, F_OK) == 0;
}

static const struct trace kinds[TRACE_KINDS] = {
	{.kind = TRACE_DEVICE, .name = (char *)"<hostdev mode='subsystem' type='usb'>\n  \"quoted\"\\ \t</hostdev>"},
	{.kind = TRACE_SAVED},
	{.kind = TRACE_FROZEN},
	{.kind = TRACE_PAUSED},
	{.kind = TRACE_MEMORY},
	{.kind = TRACE_INTERNAL,
		.target = (char *)"vda",
		.path = (char *)"/d/a.qcow2",
		.name = (char *)"s\u00e4",
		.snapshot = (char *)"7",
		.date = 1700000000,
		.dev = 42,
		.ino = INT64_MAX},
	{.kind = TRACE_OVERLAY,
		.target = (char *)"vdb",
		.path = (char *)"/d/b.qsnap-s",
		.name = (char *)"/d/b",
		.images = (struct driver_image[]){{.path = (char *)"/d/b", .format = DRIVER_RAW},
			{.path = (char *)"/d/c", .format = DRIVER_FORMAT_OTHER}},
		.image_count = 2,
		.dev = 1,
		.ino = 2},
	{.kind = TRACE_COPY, .target = (char *)"vdc", .path = (char *)"/d/c.qsnap-s"},
	{.kind = TRACE_FILE, .path = (char *)"/out/a b.qcow2"},
	{.kind = TRACE_RECORD, .name = (char *)"before the update"},
	{.kind = TRACE_ENDED},
	{.kind = TRACE_REVERTED,
		.target = (char *)"vda",
		.path = (char *)"/d/a.qcow2",
		.name = (char *)"before",
		.to = (char *)"s\u00e4",
		.snapshot = (char *)"8",
		.date = 1700000001,
		.dev = 42,
		.ino = 43},
	{.kind = TRACE_DEFINED, .name = (char *)"<domain type='kvm'>\n</domain>"},
	{.kind = TRACE_START, .name = (char *)"paused"},
	{.kind = TRACE_UNSAVED},
};

static void same_text(const char *a, const char *b)
{
	ck_assert(!a == !b);
	if (a)
		ck_assert_str_eq(a, b);
}

START_TEST(test_every_field)
{
	static const enum driver_state was[] = {DRIVER_RUNNING, DRIVER_PAUSED, DRIVER_SHUT_OFF};
	struct journal *j = reopened();
	unsigned id, count;

	OK(journal_begin(j, "a domain", was[_i], &e));
	ck_assert(!there());
	for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
		OK(journal_put(j, &kinds[i], &id, &e));
	journal_close(j);
	j = reopened();
	OK(journal_begin(j, "a domain", DRIVER_PAUSED, &e)); /* what was before the first trace counts */
	ck_assert_int_eq(journal_was(j), was[_i]);
	const struct trace *all = journal_traces(j, &count);

	ck_assert_uint_eq(count, sizeof kinds / sizeof *kinds);
	for (unsigned i = 0; i < count; i++) {
		ck_assert_int_eq(all[i].kind, kinds[i].kind);
		ck_assert_uint_eq(all[i].dev, kinds[i].dev);
		ck_assert_uint_eq(all[i].ino, kinds[i].ino);
		ck_assert_uint_eq(all[i].id, i + 1);
		same_text(all[i].target, kinds[i].target);
		same_text(all[i].path, kinds[i].path);
		same_text(all[i].name, kinds[i].name);
		same_text(all[i].to, kinds[i].to);
		same_text(all[i].snapshot, kinds[i].snapshot);
		ck_assert_int_eq(all[i].date, kinds[i].date);
		ck_assert(!all[i].begun);
		ck_assert_uint_eq(all[i].image_count, kinds[i].image_count);
		for (unsigned k = 0; k < all[i].image_count; k++) {
			same_text(all[i].images[k].path, kinds[i].images[k].path);
			ck_assert_int_eq(all[i].images[k].format, kinds[i].images[k].format);
		}
	}
	OK(journal_drop_all(j, (const unsigned[]){2, 4}, 2, &e));
	journal_close(j);
	j = reopened();
	ck_assert_uint_eq(traces(j), count - 2);
	for (unsigned i = count; i > 0; i--)
		if (i != 2 && i != 4)
			OK(journal_drop(j, i, &e));
	ck_assert(!there());
	OK(journal_begin(j, "a domain", DRIVER_PAUSED, &e));
	OK(journal_put(j, &kinds[0], &id, &e)); /* begun again, with what is now */
	journal_close(j);
	j = reopened();
	ck_assert_uint_eq(traces(j), 1);
	ck_assert_int_eq(journal_was(j), DRIVER_PAUSED);
	journal_close(j);
}
END_TEST

/* What is learnt later is kept with what was known before. */
START_TEST(test_known)
{
	const struct trace known = {.dev = 3, .ino = INT64_MAX, .snapshot = (char *)"12", .date = 99, .begun = true};
	struct journal *j = reopened();
	unsigned id, count;

	OK(journal_begin(j, "d", DRIVER_RUNNING, &e));
	OK(journal_put(j, &kinds[TRACE_FILE], &id, &e));
	OK(journal_put(j, &kinds[TRACE_OVERLAY], &id, &e));
	OK(journal_know(j, id, &known, &e));
	for (int again = 0; again < 2; again++) {
		const struct trace *all = journal_traces(j, &count);

		ck_assert_uint_eq(count, 2);
		ck_assert_uint_eq(all[0].ino, 0);
		same_text(all[1].path, kinds[TRACE_OVERLAY].path);
		ck_assert_uint_eq(all[1].image_count, 2);
		same_text(all[1].snapshot, "12");
		ck_assert(all[1].dev == 3 && all[1].ino == INT64_MAX && all[1].date == 99 && all[1].begun);
		journal_close(j);
		j = reopened();
	}
	journal_close(j);
}
END_TEST

/* ---- no space, dying ---- */

/* Puts and drops; what is told to be there is in told[id]: 1 yes, 0 no, -1 the call failed: either. */
static void work(signed char told[8])
{
	struct journal *j;
	unsigned id;

	if (journal_open(&j, "state", uuid, 0, NULL, &e))
		return;
	for (unsigned i = 0; i < 3; i++)
		if (!journal_begin(j, "d", DRIVER_RUNNING, &e) && !journal_put(j, &kinds[TRACE_INTERNAL + i], &id, &e))
			told[id] = 1;
	for (unsigned i = 1; i <= 2; i++)
		if (told[i])
			told[i] = journal_drop(j, i, &e) ? -1 : 0;
	if (!journal_begin(j, "d", DRIVER_RUNNING, &e) && !journal_put(j, &kinds[TRACE_SAVED], &id, &e))
		told[id] = 1;
	journal_close(j);
}

static void expect(const signed char told[8])
{
	struct journal *j = reopened();
	unsigned count, expected = 0;
	const struct trace *all = journal_traces(j, &count);

	for (unsigned i = 0; i < count; i++)
		ck_assert_msg(all[i].id < 8 && told[all[i].id], "trace %u", all[i].id);
	for (unsigned id = 0; id < 8; id++) {
		bool is = false;

		for (unsigned i = 0; i < count; i++)
			is = is || all[i].id == id;
		ck_assert_msg(is || told[id] <= 0, "trace %u is lost", id);
		expected += told[id] != 0;
	}
	ck_assert_uint_le(count, expected);
	journal_close(j);
}

START_TEST(test_no_space)
{
	unsigned k = 1, calls;

	do {
		signed char told[8] = {0};

		journal_fault_at(k, _i & 1 ? JOURNAL_FAULT_FAILS : JOURNAL_FAULT_HALF, _i & 2);
		work(told);
		calls = journal_fault_calls();
		journal_fault_at(0, JOURNAL_FAULT_NONE, false);
		expect(told);
		unlink(file);
	} while (k++ < calls);
	ck_assert_uint_gt(calls, 12 - (_i & 2 ? 6 : 0));
}
END_TEST

START_TEST(test_dying)
{
	unsigned deaths = 0;

	for (unsigned k = 1;; k++) {
		int fd[2], status;
		unsigned count;
		pid_t child;

		ck_assert_int_eq(pipe(fd), 0);
		child = fork();
		ck_assert_int_ge(child, 0);
		if (!child) {
			signed char told[8] = {0};

			journal_fault_at(k, (enum journal_fault)_i, false);
			work(told);
			_exit(0);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		close(fd[0]);
		close(fd[1]);
		ck_assert(WIFEXITED(status));
		struct journal *j = reopened();
		const struct trace *all = journal_traces(j, &count);

		/* Some moment of it: 1; 1 2; 1 2 3; 2 3; 3; 3 4. */
		ck_assert_uint_le(count, 3);
		for (unsigned i = 1; i < count; i++)
			ck_assert_uint_eq(all[i].id, all[i - 1].id + 1);
		journal_close(j);
		unlink(file);
		if (!WEXITSTATUS(status))
			break;
		ck_assert_int_eq(WEXITSTATUS(status), DIED);
		deaths++;
	}
	ck_assert_uint_ge(deaths, 12);
}
END_TEST

/* ---- one command at a time ---- */

START_TEST(test_lock)
{
	struct journal *first = reopened(), *second;
	static atomic_bool cancel = true;

	ck_assert_int_eq(journal_open(&second, "state", uuid, 0, NULL, &e), -1);
	ck_assert_int_eq(e.code, ERR_BUSY);
	ck_assert_int_eq(journal_open(&second, "state", uuid, 100, &cancel, &e), -1);
	ck_assert_int_eq(e.code, ERR_CANCELLED);
	OK(journal_open(&second, "state", "another", 0, NULL, &e));
	journal_close(second);
	journal_close(first);
	journal_close(reopened());
}
END_TEST

START_TEST(test_wait)
{
	int ready[2], status;
	char byte;

	ck_assert_int_eq(pipe(ready), 0);
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (!child) {
		struct journal *j = reopened();
		unsigned id;

		OK(journal_begin(j, "d", DRIVER_RUNNING, &e));
		OK(journal_put(j, &kinds[TRACE_FILE], &id, &e));
		_exit(write(ready[1], "x", 1) == 1 && usleep(200000) == 0 ? 0 : 1);
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	struct journal *j;

	OK(journal_open(&j, "state", uuid, 100, NULL, &e));
	ck_assert_uint_eq(traces(j), 1); /* read after the wait, not before */
	journal_close(j);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	close(ready[0]);
	close(ready[1]);
}
END_TEST

START_TEST(test_refused)
{
	struct journal *j = reopened();
	unsigned id;

	ck_assert_int_eq(journal_begin(j, "d", DRIVER_BETWEEN, &e), -1);
	ck_assert_int_eq(e.code, ERR_UNSUPPORTED);
	OK(journal_begin(j, "d", DRIVER_SHUT_OFF, &e));
	ck_assert_int_eq(journal_put(j, &(struct trace){.kind = TRACE_FILE, .path = (char *)"/p\xff", .id = 0}, &id,
				 &e),
		-1);
	ck_assert_int_eq(e.code, ERR_UNSUPPORTED); /* JSON is UTF-8 */
	ck_assert_uint_eq(traces(j), 0);
	journal_close(j);
	ck_assert_uint_eq(traces(j = reopened()), 0);
	journal_close(j);
}
END_TEST

Suite *suite_vm_journal(void)
{
	Suite *s = suite_create("vm_journal");
	TCase *t = tcase_create("journal");

	tcase_add_checked_fixture(t, enter, leave);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, test_every_field, 0, 3);
	tcase_add_test(t, test_known);
	tcase_add_loop_test(t, test_no_space, 0, 4);
	tcase_add_loop_test(t, test_dying, JOURNAL_FAULT_DIE_BEFORE, JOURNAL_FAULTS);
	tcase_add_test(t, test_lock);
	tcase_add_test(t, test_wait);
	tcase_add_test(t, test_refused);
	suite_add_tcase(s, t);
	return s;
}
