/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: memory that runs out. The linker puts these in the place of base's allocating functions and of realloc; io_fault.c calls reallocarray, so as not to fail itself.
 */
#ifndef QSNAP_TESTS_UNIT_ALLOC_FAULT_H
#define QSNAP_TESTS_UNIT_ALLOC_FAULT_H

#include "base/base.h"

/* The k-th allocation from now on fails, once; 0: none. For one thread. */
void alloc_fault_at(unsigned k);
bool alloc_fault_met(void);

#endif
