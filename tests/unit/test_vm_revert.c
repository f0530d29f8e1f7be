/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: a machine goes back to a snapshot that its disks have, of a guest that writes all the time. At each step something
 * fails, or is cancelled, or the guest's power goes, or the command dies; so at each line of the journal. Whenever the guest starts,
 * and at the end, all disks are at the snapshot or none is, byte for byte; and so is the definition.
 */
#include "tests/unit/revert_cases.h"
#include "tests/unit/vm_fixture.h"

Suite *suite_vm_revert(void);

static void set(const struct revert_case *c)
{
	revert_case_set(w, c);
	before = *w;
}

static int run(const struct revert_case *c, unsigned *left)
{
	return revert_case_run(w, c, left, &e);
}

/* How the machine is to be, when its disks are back. */
static void expect_back(const struct revert_case *c)
{
	if (c->memory && !c->without)
		before.state = c->after == VM_STARTED_PAUSED ? DRIVER_PAUSED : DRIVER_RUNNING;
	else if (c->after != VM_AS_BEFORE)
		before.state = c->after == VM_STARTED ? DRIVER_RUNNING : DRIVER_PAUSED;
	before.paused_by_user = before.state == DRIVER_PAUSED;
	before.saved = false;
	before.device_attached = w->device;
	if (c->define)
		snprintf(before.xml, sizeof before.xml, REVERT_XML);
}

static void judge(const struct revert_case *c, bool done, const char *what)
{
	if (!world_active(w))
		world_settle(w, what);
	ck_assert_msg(w->back || !done, "%s: done, and nothing was", what);
	if (w->back)
		expect_back(c);
	if (w->back && world_active(w))
		ck_assert_msg(w->restored == (c->memory && !c->without), "%s: %s", what,
			w->restored ? "restored" : "booted");
	w->kept = "s";
	w->more = w->back && c->first;
	w->kept_memory = c->memory;
	w->kept_nvram = c->memory + (c->memory && w->more);
	world_judge(w, &before, what);
}

START_TEST(test_ends_well)
{
	const struct revert_case *c = &revert_cases[_i];
	unsigned left;

	set(c);
	if (run(c, &left))
		ck_abort_msg("%s: %s", c->at.name, e.msg);
	ck_assert_uint_eq(left, 0);
	ck_assert_uint_eq(w->record_count, before.record_count + c->first);
	judge(c, true, c->at.name);
}
END_TEST

/* ---- failures ---- */

static bool power_failed;
static void power_fails(struct world *world)
{
	power_failed = world_active(world);
	world->instant_was = true;
	world_crash(world);
}

/* A guest whose power went may be on again, or not. */
static void allow_off(void)
{
	if (w->state != DRIVER_SHUT_OFF)
		return;
	before.state = DRIVER_SHUT_OFF;
	before.paused_by_user = false;
}

/* Returns whether the step was reached. */
static bool one_fault(const struct revert_case *c, int event, unsigned k)
{
	struct vm_case none = c->at;
	unsigned left;
	char what[200];

	set(c);
	power_failed = false;
	vm_fault_at(w, event, k, power_fails);
	int failed = run(c, &left);
	bool reached = w->steps >= k;
	struct error why = e;

	snprintf(what, sizeof what, "%s: step %u (%s) %s", none.name, k, w->last_op, vm_faults[event].name);
	ck_assert_msg(!failed || reached, "%s: %s", what, e.msg);
	if (vm_run_recover(w, &e))
		ck_abort_msg("%s: %s; recovery: %s", what, failed ? why.msg : "done", e.msg);
	if (power_failed && w->state == DRIVER_SHUT_OFF) {
		struct revert_case off = *c;

		off.after = VM_AS_BEFORE;
		off.without = true;
		allow_off();
		judge(&off, !failed, what);
	} else {
		judge(c, !failed, what);
	}
	return reached;
}

START_TEST(test_step)
{
	unsigned k = 1;

	while (one_fault(&revert_cases[_i / VM_FAULTS], _i % VM_FAULTS, k))
		k++;
	ck_assert_uint_gt(k, 5);
}
END_TEST

/* Every write of the journal, and every time it is made durable. */
START_TEST(test_journal_full)
{
	const struct revert_case *c = &revert_cases[_i / 2];
	unsigned calls, left;
	char what[200];

	for (unsigned k = 1;; k++) {
		set(c);
		journal_fault_at(k, JOURNAL_FAULT_FAILS, _i & 1);
		int failed = run(c, &left);
		struct error why = e;

		calls = journal_fault_calls();
		snprintf(what, sizeof what, "%s: write %u of the journal fails%s", c->at.name, k,
			_i & 1 ? ", and all later ones" : "");
		ck_assert_msg(!failed || calls >= k, "%s: %s", what, e.msg);
		if (vm_run_recover(w, &e))
			ck_abort_msg("%s: %s; recovery: %s", what, failed ? why.msg : "done", e.msg);
		judge(c, !failed, what);
		if (calls < k)
			break;
	}
}
END_TEST

/* ---- deaths ---- */

static int run_it(const void *c)
{
	unsigned left;

	return run(c, &left);
}

/* Returns whether there was such a moment. */
static bool one_death(const struct revert_case *c, int death, unsigned k)
{
	char what[200];

	set(c);
	vm_death_at(w, death, k);
	snprintf(what, sizeof what, "%s: died %s %u", c->at.name, vm_deaths[death], k);
	bool died = vm_case_dies(run_it, c, what), reached = w->steps >= k;

	snprintf(what, sizeof what, "%s: died %s %u (%s)", c->at.name, vm_deaths[death], k, w->last_op);
	if (vm_run_recover(w, &e))
		ck_abort_msg("%s: recovery: %s", what, e.msg);
	judge(c, !died, what);
	return died || (death < DIE_AT_LINE && reached);
}

START_TEST(test_death)
{
	unsigned k = 1;

	while (one_death(&revert_cases[_i / VM_DEATHS], _i % VM_DEATHS, k))
		k++;
	ck_assert_uint_gt(k, 5);
}
END_TEST

Suite *suite_vm_revert(void)
{
	Suite *s = suite_create("vm_revert");
	TCase *t = tcase_create("revert");

	vm_fixture(t, 120);
	tcase_add_loop_test(t, test_ends_well, 0, REVERT_CASES);
	tcase_add_loop_test(t, test_step, 0, REVERT_CASES * VM_FAULTS);
	tcase_add_loop_test(t, test_journal_full, 0, REVERT_CASES * 2);
	tcase_add_loop_test(t, test_death, 0, REVERT_CASES * VM_DEATHS);
	suite_add_tcase(s, t);
	return s;
}
