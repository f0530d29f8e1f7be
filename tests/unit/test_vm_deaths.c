/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: the command dies before each step of each way to take a snapshot, after it together with its guest, and at each line of
 * its journal: before it is written, half-way, before it is made durable, and then. The next command gives back the machine as it
 * was.
 */

#include "tests/unit/vm_fixture.h"

Suite *suite_vm_deaths(void);

/* Without the last of vm_deaths; after a step the guest dies with it. */
enum { GUEST_TOO = DIE_AFTER_STEP, AT_LINE = DIE_AT_LINE, DEATHS = DIE_AFTER_LINE };

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
	vm_death_at(w, death, k);
	snprintf(what, sizeof what, "%s: died %s %u", c->name, vm_deaths[death], k);
	bool died = vm_case_dies(run_it, c, what), reached = w->steps >= k;

	snprintf(what, sizeof what, "%s: died %s %u (%s)", c->name, vm_deaths[death], k, w->last_op);
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

	vm_fixture(t, 120);
	tcase_add_loop_test(t, test_death, 0, vm_case_count * DEATHS);
	suite_add_tcase(s, t);
	return s;
}
