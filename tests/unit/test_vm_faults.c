/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: each step of each way to take a snapshot fails, or does what it should and fails then; from some step on all do; the user
 * cancels there, or the guest's power goes. Afterwards, and after the next command, the machine is as before and nothing that
 * the guest wrote is lost.
 */

#include "tests/unit/vm_fixture.h"

Suite *suite_vm_faults(void);

/* What was running is off then, and nobody may start it. */
static void power_fails(struct world *world)
{
	if (world_active(world))
		before.state = DRIVER_SHUT_OFF, before.paused_by_user = false;
	world_crash(world);
}

/* Returns whether the step was reached. */
static bool one(const struct vm_case *c, int event, unsigned k)
{
	struct error later;
	char what[200];
	unsigned left;

	vm_case_set(w, c);
	before = *w;
	vm_fault_at(w, event, k, power_fails);
	int failed = vm_case_run(w, c, &left, &e);
	bool reached = w->steps >= k;

	snprintf(what, sizeof what, "%s: step %u %s", c->name, k, vm_faults[event].name);
	ck_assert_msg(!failed || reached, "%s: %s", what, e.msg);
	if (failed && !left && w->event != EVENT_LOST) /* then there is nothing for the next one to do */
		vm_case_judge(w, &before, c, false, what);
	if (vm_run_recover(w, &later))
		ck_abort_msg("%s: %s; recovery: %s", what, failed ? e.msg : "done", later.msg);
	vm_case_judge(w, &before, c, !failed, what);
	return reached;
}

START_TEST(test_step)
{
	unsigned k = 1;

	while (one(&vm_cases[_i / VM_FAULTS], _i % VM_FAULTS, k))
		k++;
	ck_assert_uint_gt(k, 5);
}
END_TEST

/* Every write of the journal, and every time it is made durable. */
START_TEST(test_journal_full)
{
	const struct vm_case *c = &vm_cases[_i / 2];
	struct error later;
	unsigned calls, left;
	char what[200];

	for (unsigned k = 1;; k++) {
		vm_case_set(w, c);
		before = *w;
		journal_fault_at(k, JOURNAL_FAULT_FAILS, _i & 1);
		int failed = vm_case_run(w, c, &left, &e);

		calls = journal_fault_calls();
		snprintf(what, sizeof what, "%s: write %u of the journal fails%s", c->name, k,
			_i & 1 ? ", and all later ones" : "");
		ck_assert_msg(!failed || calls >= k, "%s: %s", what, e.msg);
		if (vm_run_recover(w, &later))
			ck_abort_msg("%s: %s; recovery: %s", what, failed ? e.msg : "done", later.msg);
		vm_case_judge(w, &before, c, !failed, what);
		if (calls < k)
			break;
	}
}
END_TEST

Suite *suite_vm_faults(void)
{
	Suite *s = suite_create("vm_faults");
	TCase *t = tcase_create("faults");

	vm_fixture(t, 120);
	tcase_add_loop_test(t, test_step, 0, vm_case_count * VM_FAULTS);
	tcase_add_loop_test(t, test_journal_full, 0, vm_case_count * 2);
	suite_add_tcase(s, t);
	return s;
}
