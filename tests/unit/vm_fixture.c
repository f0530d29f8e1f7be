/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine that each test of a suite has to itself.
 */
#include "tests/unit/vm_fixture.h"

struct world *w;
struct world before;
struct error e;

static void enter(void)
{
	w = world_new(false);
}

static void leave(void)
{
	journal_fault_at(0, JOURNAL_FAULT_NONE, false);
	world_free(w);
}

void vm_fixture(TCase *t, unsigned seconds)
{
	tcase_add_checked_fixture(t, enter, leave);
	if (seconds)
		tcase_set_timeout(t, seconds);
}
