/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: each way to take a snapshot, of a guest that writes all the time: the images show the instant byte for byte and the
 * machine is as before. And what is refused.
 */

#include "tests/unit/vm_fixture.h"

Suite *suite_vm_modes(void);

START_TEST(test_ends_well)
{
	const struct vm_case *c = &vm_cases[_i];
	unsigned left;

	vm_case_set(w, c);
	w->ready_polls = 2;
	before = *w;
	OK(vm_case_run(w, c, &left, &e));
	ck_assert_uint_eq(left, 0);
	vm_case_judge(w, &before, c, true, c->name);
	ck_assert_uint_eq(w->freezes, c->quiesce);
	ck_assert_uint_eq(w->record_count, c->keep);
	ck_assert_uint_eq(w->set_times,
		c->before == BEFORE_RUNNING && (c->mode == VM_COLD || c->memory == MEMORY_PAUSED));
}
END_TEST

Suite *suite_vm_modes(void)
{
	Suite *s = suite_create("vm_modes");
	TCase *t = tcase_create("modes");

	vm_fixture(t, 60);
	tcase_add_loop_test(t, test_ends_well, 0, vm_case_count);
	suite_add_tcase(s, t);
	return s;
}
