/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/prune.c: which points rules keep: the newest of each period, periods without any not counted, borders of days, ISO weeks,
 * months and years, the oldest of all, and what is not whole.
 */
#include "snapshot/snapshot.h"

#include <check.h>
#include <time.h>

Suite *suite_vm_prune(void);

static struct error e;

/* "2026-01-01 00:00" */
static int64_t at(const char *text)
{
	struct tm tm = {.tm_isdst = -1};

	ck_assert_ptr_nonnull(strptime(text, "%Y-%m-%d %H:%M", &tm));
	return mktime(&tm);
}

/* Points from the oldest on, up to ten; what is kept by which rule, a letter for each point: 'k' kept, '.' may go. */
static const struct {
	const char *name;
	struct vm_keep keep;
	const char *times[10];
	const char *wanted;
} cases[] = {
	{"last", {.count[VM_LAST] = 2}, {"2026-01-01 00:00", "2026-01-01 00:00", "2026-01-01 00:01"}, ".kk"},
	{"more than there are", {.count[VM_LAST] = 9}, {"2026-01-01 00:00", "2026-01-02 00:00"}, "kk"},
	{"hours", {.count[VM_HOURLY] = 2},
		{"2026-01-01 09:59", "2026-01-01 10:00", "2026-01-01 10:59", "2026-01-01 11:00"}, "..kk"},
	{"the same hour of two days", {.count[VM_HOURLY] = 2},
		{"2026-01-01 10:00", "2026-01-02 10:00", "2026-01-02 10:30"}, "k.k"},
	{"days: the newest of each", {.count[VM_DAILY] = 2},
		{"2026-01-01 23:59", "2026-01-02 00:00", "2026-01-02 23:59", "2026-01-03 00:00"}, "..kk"},
	{"days without any do not count", {.count[VM_DAILY] = 3},
		{"2025-06-01 10:00", "2025-12-01 10:00", "2026-01-01 09:00", "2026-01-01 10:00", "2026-03-01 10:00"},
		".k.kk"},
	{"the oldest stays while some are left", {.count[VM_DAILY] = 3}, {"2026-01-01 09:00", "2026-01-01 10:00"},
		"kk"},
	{"... and not when none is", {.count[VM_DAILY] = 1}, {"2026-01-01 09:00", "2026-01-01 10:00"}, ".k"},
	{"a week begins on Monday", {.count[VM_WEEKLY] = 2},
		{"2026-01-11 23:59", "2026-01-12 00:00", "2026-01-18 23:59", "2026-01-19 00:00"}, "..kk"},
	{"the week of New Year is one", {.count[VM_WEEKLY] = 1},
		{"2025-12-29 10:00", "2025-12-31 10:00", "2026-01-04 23:00"}, "..k"},
	{"week 53 and week 1", {.count[VM_WEEKLY] = 2},
		{"2020-12-27 10:00", "2020-12-28 10:00", "2021-01-03 23:59", "2021-01-04 00:00"}, "..kk"},
	{"the same week's number of two years", {.count[VM_WEEKLY] = 2},
		{"2024-12-01 10:00", "2025-02-05 10:00", "2026-02-04 10:00"}, ".kk"},
	{"months", {.count[VM_MONTHLY] = 3},
		{"2025-11-30 23:59", "2025-12-01 00:00", "2025-12-31 23:59", "2026-01-01 00:00", "2026-02-28 23:59"},
		"..kkk"},
	{"the same month of two years", {.count[VM_MONTHLY] = 2},
		{"2024-03-01 10:00", "2025-03-01 10:00", "2026-03-01 10:00"}, ".kk"},
	{"years", {.count[VM_YEARLY] = 2},
		{"2023-01-01 10:00", "2024-12-31 23:59", "2025-01-01 00:00", "2025-12-31 23:59", "2026-01-01 00:00"},
		"...kk"},
	{"rules together", {.count[VM_LAST] = 1, .count[VM_DAILY] = 2, .count[VM_MONTHLY] = 2},
		{"2025-12-01 10:00", "2025-12-31 10:00", "2026-01-01 10:00", "2026-01-02 10:00", "2026-01-02 11:00"},
		".kk.k"},
	{"within is from the newest on", {.within = {.days = 1, .hours = 12}},
		{"2026-01-01 23:59", "2026-01-02 00:00", "2026-01-02 00:01", "2026-01-03 12:00"}, "..kk"},
	{"within months", {.within = {.months = 1}}, {"2026-02-15 10:00", "2026-02-15 10:01", "2026-03-15 10:00"},
		".kk"},
	{"within a year", {.within = {.years = 1}}, {"2024-03-15 10:00", "2025-03-16 10:00", "2026-03-15 10:00"},
		".kk"},
};

static void enter(void)
{
	setenv("TZ", "UTC", 1);
	tzset();
}

START_TEST(test_rules)
{
	static char name[] = "p";
	struct vm_point points[10] = {0};
	struct vm_catalog c = {.points = points};
	unsigned why[10];
	char told[11] = "";

	for (; c.count < 10 && cases[_i].times[c.count]; c.count++)
		points[c.count] = (struct vm_point){.name = name, .created = at(cases[_i].times[c.count])};
	ck_assert_msg(vm_prune_plan(&c, &cases[_i].keep, why, &e) == 0, "%s: %s", cases[_i].name, e.msg);
	for (unsigned i = 0; i < c.count; i++)
		told[i] = why[i] ? 'k' : '.';
	ck_assert_msg(strcmp(told, cases[_i].wanted) == 0, "%s: %s, not %s", cases[_i].name, told, cases[_i].wanted);
}
END_TEST

START_TEST(test_names_and_states)
{
	static char a[] = "before-upgrade", b[] = "nightly-1", c[] = "nightly-2", d[] = "other";
	const char *pattern[] = {"before-*", "[xy]*"};
	struct vm_point points[] = {{.name = a, .created = 1}, {.name = b, .created = 2}, {.name = c, .created = 3},
		{.name = d, .created = 4, .state = VM_POINT_FOREIGN}};
	struct vm_catalog all = {.points = points, .count = 4};
	struct vm_keep keep = {.names = pattern, .name_count = 2};
	unsigned why[4];

	ck_assert_int_eq(vm_prune_plan(&all, &keep, why, &e), 0);
	ck_assert_uint_eq(why[0], VM_REASON_NAME);
	ck_assert_uint_eq(why[1], 0);
	ck_assert_uint_eq(why[2], 0);
	ck_assert_uint_eq(why[3], VM_REASON_STATE);
	keep.count[VM_LAST] = 1;
	ck_assert_int_eq(vm_prune_plan(&all, &keep, why, &e), 0);
	ck_assert_uint_eq(why[2], 1u << VM_LAST); /* the newest of those that are whole */
	for (enum vm_point_state s = VM_POINT_PARTLY; s <= VM_POINT_UNLISTED; s++) {
		points[0].state = s;
		ck_assert_int_eq(vm_prune_plan(&all, &keep, why, &e), 0);
		ck_assert_uint_eq(why[0], VM_REASON_STATE);
	}
	all.count = 0;
	ck_assert_int_eq(vm_prune_plan(&all, &keep, why, &e), 0);
}
END_TEST

START_TEST(test_refused)
{
	static char name[] = "a";
	const char *pattern[] = {"b"};
	struct vm_point point = {.name = name};
	struct vm_catalog c = {.points = &point, .count = 1};
	struct vm_keep keep = {0};
	unsigned why;

	ck_assert_int_eq(vm_prune_plan(&c, &keep, &why, &e), -1);
	ck_assert_int_eq(e.code, ERR_USAGE);
	keep.names = pattern;
	keep.name_count = 1;
	ck_assert_int_eq(vm_prune_plan(&c, &keep, &why, &e), -1); /* all would go */
	ck_assert_int_eq(e.code, ERR_USAGE);
}
END_TEST

START_TEST(test_spans)
{
	static const char *const bad[] = {
		"", "7", "d", "7x", "7d ", "-7d", "0d", "7d7d", "12h7d", "1y1y", "999999999999d", "7D"};
	struct vm_span s;

	ck_assert_int_eq(vm_span_parse("1y5m7d2h", &s, &e), 0);
	ck_assert(s.years == 1 && s.months == 5 && s.days == 7 && s.hours == 2);
	ck_assert_int_eq(vm_span_parse("7d12h", &s, &e), 0);
	ck_assert(s.years == 0 && s.months == 0 && s.days == 7 && s.hours == 12);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		ck_assert_msg(vm_span_parse(bad[i], &s, &e) == -1, "'%s' is one", bad[i]);
		ck_assert_int_eq(e.code, ERR_USAGE);
	}
}
END_TEST

Suite *suite_vm_prune(void)
{
	Suite *s = suite_create("vm_prune");
	TCase *t = tcase_create("prune");

	tcase_add_checked_fixture(t, enter, NULL);
	tcase_add_loop_test(t, test_rules, 0, (int)(sizeof cases / sizeof *cases));
	tcase_add_test(t, test_names_and_states);
	tcase_add_test(t, test_refused);
	tcase_add_test(t, test_spans);
	suite_add_tcase(s, t);
	return s;
}
