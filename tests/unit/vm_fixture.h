/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: what each suite on the scripted machine begins with.
 */
#ifndef QSNAP_TESTS_UNIT_VM_FIXTURE_H
#define QSNAP_TESTS_UNIT_VM_FIXTURE_H

#include "tests/unit/journal_fault.h"
#include "tests/unit/vm_cases.h"

#include <check.h>

extern struct world *w;     /* the machine of the test that runs */
extern struct world before; /* what it was, or is to be, as the test says */
extern struct error e;

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, e.msg)

/* Each test of it has a new machine, and so much time (0: as Check gives). */
void vm_fixture(TCase *t, unsigned seconds);

#endif
