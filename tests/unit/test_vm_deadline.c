/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: a guest that is held for longer than it may be, because a step takes too long: the snapshot is given up and the guest goes
 * on.
 */

#include "tests/unit/vm_fixture.h"

#include <unistd.h>

Suite *suite_vm_deadline(void);

static const char *slow_op;

static void is_slow(struct world *m)
{
	if (strcmp(m->last_op, slow_op) == 0)
		usleep(1100000);
}

static const struct {
	const char *op;
	int mode;
	enum vm_via via;
} slow[] = {
	{"freeze", VM_COLD, VM_VIA_ANY},
	{"freeze", VM_LIVE, VM_VIA_ANY},
	{"suspend", VM_LIVE, VM_VIA_ANY},
	{"end_job", VM_LIVE, VM_VIA_ANY},
	{"freeze", VM_INSTANT, VM_VIA_INTERNAL},
	{"freeze", VM_INSTANT, VM_VIA_OVERLAY},
};

START_TEST(test_deadline)
{
	struct vm_case c = {.name = slow[_i].op, .mode = (enum vm_mode)slow[_i].mode};
	struct vm_take t;
	unsigned left, refused_at = 0;

	c.via = slow[_i].via;
	c.quiesce = true;
	slow_op = slow[_i].op;
	for (unsigned k = 1; k < 60 && !refused_at; k++) {
		vm_case_set(w, &c);
		vm_case_options(&c, &t);
		t.max_pause = 1;
		before = *w;
		w->at = k;
		w->event = EVENT_HOOK;
		w->hook = is_slow;
		if (vm_run(w, &t, &left, &e)) {
			ck_assert_int_eq(e.code, ERR_LIMIT);
			ck_assert_uint_eq(left, 0);
			refused_at = k;
		}
		vm_case_judge(w, &before, &c, !refused_at, slow_op);
	}
	ck_assert_uint_gt(refused_at, 0);
}
END_TEST

Suite *suite_vm_deadline(void)
{
	Suite *s = suite_create("vm_deadline");
	TCase *t = tcase_create("deadline");

	vm_fixture(t, 120);
	tcase_add_loop_test(t, test_deadline, 0, (int)(sizeof slow / sizeof *slow));
	suite_add_tcase(s, t);
	return s;
}
