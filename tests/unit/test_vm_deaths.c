/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: the command dies before each step of each way to take a snapshot, after it together with its guest, and at each line of
 * its journal: before it is written, half-way, before it is made durable, and then. The next command gives back the machine as it
 * was.
 */
#include "tests/unit/journal_fault.h"
#include "tests/unit/vm_cases.h"

#include <check.h>

Suite *suite_vm_deaths(void);

static struct world *w;
static struct world before;
static struct error e;

static void enter(void)
{
	w = world_new(false);
}

static void leave(void)
{
	world_free(w);
}

enum { AT_STEP, GUEST_TOO, AT_LINE, IN_LINE, DEATHS };
static const char *const deaths[DEATHS] = {
	[AT_STEP] = "before step",
	[GUEST_TOO] = "with its guest, after step",
	[AT_LINE] = "before line",
	[IN_LINE] = "in line",
};

static void plan(int death, unsigned k)
{
	static const enum journal_fault faults[DEATHS] = {
		[AT_LINE] = JOURNAL_FAULT_DIE_BEFORE, [IN_LINE] = JOURNAL_FAULT_DIE_HALF};

	w->at = k;
	w->event = death == AT_STEP ? EVENT_DIE : death < AT_LINE ? EVENT_DIE_AFTER : EVENT_NONE;
	if (death >= AT_LINE)
		journal_fault_at(k, faults[death], false);
}

static int run_it(const void *c)
{
	unsigned left;

	return vm_case_run(w, c, &left, &e);
}

/* Returns whether there was such a moment. */
static bool one(const struct vm_case *c, int death, unsigned k)
{
	char what[200];

	vm_case_set(w, c);
	before = *w;
	plan(death, k);
	snprintf(what, sizeof what, "%s: died %s %u", c->name, deaths[death], k);
	bool died = vm_case_dies(run_it, c, what), reached = w->steps >= k;

	snprintf(what, sizeof what, "%s: died %s %u (%s)", c->name, deaths[death], k, w->last_op);
	if (death == GUEST_TOO && died && world_active(w)) {
		before.state = DRIVER_SHUT_OFF;
		before.paused_by_user = false;
		world_crash(w);
	}
	if (vm_run_recover(w, &e))
		ck_abort_msg("%s: recovery: %s", what, e.msg);
	vm_case_judge(w, &before, c, !died, what);
	return died || (death < AT_LINE && reached);
}

START_TEST(test_death)
{
	unsigned k = 1;

	while (one(&vm_cases[_i / DEATHS], _i % DEATHS, k))
		k++;
	ck_assert_uint_gt(k, 5);
}
END_TEST

Suite *suite_vm_deaths(void)
{
	Suite *s = suite_create("vm_deaths");
	TCase *t = tcase_create("deaths");

	tcase_add_checked_fixture(t, enter, leave);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_death, 0, vm_case_count * DEATHS);
	suite_add_tcase(s, t);
	return s;
}
