/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: ways back to a snapshot for the machine of tests/unit/scripted_world.h.
 */
#ifndef QSNAP_TESTS_UNIT_REVERT_CASES_H
#define QSNAP_TESTS_UNIT_REVERT_CASES_H

#include "tests/unit/vm_cases.h"

#define REVERT_XML "<domain type='then'/>"
enum { REVERT_CASES = 13 };
struct revert_case {
	struct vm_case at; /* its name, and the state before */
	enum vm_after after;
	bool first, define;
	bool memory, without; /* the snapshot has memory and NVRAM; which is not asked for */
	bool device;          /* the memory was taken cold, a device of the host detached meanwhile */
};
extern const struct revert_case revert_cases[REVERT_CASES];

/* Nothing is left of an earlier one; all disks have a snapshot "s", which is the instant, and other bytes since. */
void revert_case_set(struct world *w, const struct revert_case *c);
/* One command: opens, goes back to "s" (the present kept as "kept"), closes. *left: what waits for recovery. */
int revert_case_run(struct world *w, const struct revert_case *c, unsigned *left, struct error *e);
int revert_run(struct world *w, const struct vm_revert *opts, unsigned *left, struct error *e);

#endif
