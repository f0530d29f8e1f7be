/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: writing a journal (a file whose name ends in ".journal") that fails, or at which the process dies. The linker puts these
 * in the place of pwrite and fdatasync; all other files pass through.
 */
#ifndef QSNAP_TESTS_UNIT_JOURNAL_FAULT_H
#define QSNAP_TESTS_UNIT_JOURNAL_FAULT_H

#include <stdbool.h>

enum journal_fault {
	JOURNAL_FAULT_NONE,
	JOURNAL_FAULT_FAILS,      /* does nothing, no space */
	JOURNAL_FAULT_HALF,       /* half of the bytes are written, no space for the rest; fdatasync: fails */
	JOURNAL_FAULT_DIE_BEFORE, /* the process ends with DIED */
	JOURNAL_FAULT_DIE_HALF,
	JOURNAL_FAULT_DIE_AFTER,
	JOURNAL_FAULTS,
};
enum { DIED = 77 };

/* At the k-th call from now on, 1 being the next; `sticky`: and at all after it. */
void journal_fault_at(unsigned k, enum journal_fault fault, bool sticky);
/* The k-th write from now on to a file in a folder "out" finds no space, and all after it. 0: none. */
void image_fault_at(unsigned k);
/* Calls since then, of a journal. */
unsigned journal_fault_calls(void);

#endif
