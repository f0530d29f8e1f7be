/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/journal.c: journals that are found: whole ones, those that a crash cut, and those that no crash can have left;
 * lines that tell of several traces.
 */
#include "snapshot/internal.h"
#include "tests/unit/journal_fault.h"
#include "tests/unit/scratch.h"

#include <check.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *suite_vm_journal_left(void);

#define UUID "0e9d2a8e-3a52-4b0a-9f3a-5d1f6a7b8c9d"
static const char uuid[] = UUID, file[] = "state/" UUID ".journal";
static struct error e;

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, e.msg)

static void enter(void)
{
	ck_assert(scratch_enter(SCRATCH_TMPFS));
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

#define FIRST "{\"version\":1,\"domain\":\"d\",\"was\":\"running\"}\n"
#define ONE(id) "{\"put\":" #id ",\"kind\":\"file\",\"path\":\"/p" #id "\",\"dev\":0,\"ino\":0}"
#define PUT(id) ONE(id) "\n"
#define SEVERAL "{\"put\":[" ONE(1) "," ONE(2) "," ONE(3) "]}\n"

#define KNOW(id) "{\"know\":" #id ",\"dev\":5,\"ino\":6,\"begun\":true}\n"

static const struct {
	const char *text;
	int left; /* -1: ERR_CORRUPT */
} found[] = {
	{"", 0},
	{"{\"vers", 0},
	{FIRST, 0},
	{FIRST PUT(1) "{\"drop\":1}\n", 0},
	{FIRST PUT(1) "{\"drop\":1}\n{\"pu", 0},
	{FIRST PUT(1), 1},
	{FIRST SEVERAL, 3},
	{FIRST SEVERAL "{\"drop\":[1,3]}\n" PUT(4), 2},
	{FIRST "{\"put\":[" ONE(1) "," ONE(2) "]}", 0},
	{FIRST "{\"put\":[]}\n", 0},
	{FIRST "{\"put\":[" ONE(2) "," ONE(1) "]}\n", -1},
	{FIRST "{\"put\":[7]}\n", -1},
	{FIRST "{\"put\":[[" ONE(1) "]]}\n", -1},
	{FIRST PUT(1) PUT(2) PUT(3) "{\"drop\":[1,3]}\n", 1},
	{FIRST PUT(1) PUT(2) PUT(3) "{\"drop\":[1,3]", 3},
	{FIRST PUT(1) PUT(2) "{\"drop\":[1,3]}\n", -1},
	{FIRST PUT(1) "{\"drop\":1}", 1}, /* no end of line: not durable */
	{FIRST PUT(1) "{\"put\":2,\"kind\":\"file\",\"path\":\"/p", 1},
	{FIRST PUT(1) PUT(2) "{\"drop\":1}\n" PUT(3), 2},
	{FIRST PUT(3) PUT(4), 2},
	{FIRST PUT(1) PUT(1), -1},
	{FIRST PUT(2) PUT(1), -1},
	{FIRST PUT(1) "{\"drop\":2}\n", -1},
	{FIRST PUT(1) "{\"drop\":1}\n{\"drop\":1}\n", -1},
	{FIRST PUT(1) KNOW(1), 1},
	{FIRST PUT(1) "{\"know\":1,\"dev\":1", 1},
	{FIRST PUT(1) KNOW(2), -1},
	{FIRST KNOW(1), -1},
	{FIRST "{\"put\":1,\"kind\":\"overlay\",\"images\":[{\"path\":\"/a\"}]}\n", -1},
	{FIRST "{\"put\":1,\"kind\":\"overlay\",\"images\":[7]}\n", -1},
	{FIRST "{}\n", -1},
	{FIRST "\n", -1},
	{FIRST "[1]\n", -1},
	{FIRST "rubbish\n" PUT(1), -1},
	{FIRST "{\"put\":1,\"kind\":\"magic\"}\n", -1},
	{FIRST "{\"put\":0,\"kind\":\"file\"}\n", -1},
	{FIRST "{\"put\":-1,\"kind\":\"file\"}\n", -1},
	{FIRST "{\"put\":1}\n", -1},
	{FIRST "{\"put\":4294967297,\"kind\":\"file\"}\n", -1},
	{PUT(1), -1},
	{"{\"version\":2,\"domain\":\"d\",\"was\":\"running\"}\n" PUT(1), -1},
	{"{\"version\":1,\"domain\":\"d\",\"was\":\"asleep\"}\n" PUT(1), -1},
	{"{\"version\":1,\"domain\":\"d\"}\n" PUT(1), -1},
};

START_TEST(test_found)
{
	struct journal *j;

	ck_assert_int_eq(mkdir("state", 0700), 0);
	scratch_file(file, found[_i].text, strlen(found[_i].text));
	int failed = journal_open(&j, "state", uuid, 0, NULL, &e);

	ck_assert_msg((failed != 0) == (found[_i].left < 0), "%s", found[_i].text);
	if (failed) {
		size_t len;
		AUTO_FREE char *now = scratch_read(file, &len);

		ck_assert_int_eq(e.code, ERR_CORRUPT);
		ck_assert_ptr_nonnull(strstr(e.msg, file));
		ck_assert_str_eq(now, found[_i].text); /* kept as it is, for a look at it */
		return;
	}
	ck_assert_int_eq(traces(j), found[_i].left);
	ck_assert(there() == (found[_i].left > 0));
	unsigned id;

	OK(journal_begin(j, "d", DRIVER_RUNNING, &e));
	OK(journal_put(j, &(struct trace){.kind = TRACE_SAVED}, &id, &e)); /* and it can go on behind */
	journal_close(j);
	OK(journal_open(&j, "state", uuid, 0, NULL, &e));
	ck_assert_int_eq(traces(j), found[_i].left + 1);
	journal_close(j);
}
END_TEST

static struct journal *opened(void)
{
	struct journal *j;

	OK(journal_open(&j, "state", uuid, 0, NULL, &e));
	return j;
}

static const struct trace *one(enum trace_kind kind)
{
	static struct trace t;

	t = (struct trace){.kind = kind, .path = (char *)"/p"};
	return &t;
}

/* All or none. */
START_TEST(test_together)
{
	struct journal *j = opened();
	unsigned id;

	OK(journal_begin(j, "d", DRIVER_RUNNING, &e));
	OK(journal_put(j, one(TRACE_FILE), &id, &e));
	for (int forget = 1; forget >= 0; forget--) {
		OK(journal_together(j, &e));
		OK(journal_put(j, one(TRACE_INTERNAL), &id, &e));
		OK(journal_put(j, one(TRACE_OVERLAY), &id, &e));
		ck_assert_int_eq(journal_together_end(j, forget, &e), 0);
		ck_assert_uint_eq(traces(j), forget ? 1 : 3);
	}
	for (unsigned k = 1; k <= 2; k++) {
		OK(journal_together(j, &e));
		OK(journal_put(j, one(TRACE_SAVED), &id, &e));
		OK(journal_put(j, one(TRACE_FROZEN), &id, &e));
		journal_fault_at(k, JOURNAL_FAULT_FAILS, false);
		ck_assert_int_eq(journal_together_end(j, false, &e), -1);
		ck_assert_uint_eq(traces(j), 3);
	}
	journal_fault_at(0, JOURNAL_FAULT_NONE, false);
	OK(journal_put(j, one(TRACE_PAUSED), &id, &e)); /* one by one again */
	journal_close(j);
	j = opened();
	ck_assert_uint_eq(traces(j), 4);
	OK(journal_drop_all(j, (const unsigned[]){1, 4, 5, id}, 4, &e));
	OK(journal_together(j, &e));
	OK(journal_together_end(j, false, &e)); /* nothing of it */
	OK(journal_begin(j, "d", DRIVER_RUNNING, &e));
	OK(journal_together(j, &e));
	OK(journal_put(j, one(TRACE_SAVED), &id, &e));
	OK(journal_together_end(j, true, &e));
	ck_assert(!there());
	journal_close(j);
}
END_TEST

Suite *suite_vm_journal_left(void)
{
	Suite *s = suite_create("vm_journal_left");
	TCase *t = tcase_create("journal_left");

	tcase_add_checked_fixture(t, enter, scratch_leave);
	tcase_add_loop_test(t, test_found, 0, (int)(sizeof found / sizeof *found));
	tcase_add_test(t, test_together);
	suite_add_tcase(s, t);
	return s;
}
