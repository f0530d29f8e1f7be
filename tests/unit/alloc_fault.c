/* SPDX-License-Identifier: Apache-2.0
 *
 * Allocations that fail when a test says so (tests/unit/alloc_fault.h); the Makefile wraps them for the unit tests only.
 */
#include "tests/unit/alloc_fault.h"

static _Thread_local unsigned left;
static _Thread_local bool met;

void alloc_fault_at(unsigned k)
{
	left = k;
	met = false;
}

bool alloc_fault_met(void)
{
	return met;
}

static bool fails(void)
{
	if (!left || --left)
		return false;
	met = true;
	return true;
}

void *__real_mem_calloc(size_t n, size_t size, const char *what, struct error *e);
void *__wrap_mem_calloc(size_t n, size_t size, const char *what, struct error *e);
void *__wrap_mem_calloc(size_t n, size_t size, const char *what, struct error *e)
{
	if (!fails())
		return __real_mem_calloc(n, size, what, e);
	err_fill(e, ERR_NO_MEMORY, "no memory for %s (planned)", what);
	return NULL;
}

void *__real_mem_alloc_pages(size_t size, const char *what, struct error *e);
void *__wrap_mem_alloc_pages(size_t size, const char *what, struct error *e);
void *__wrap_mem_alloc_pages(size_t size, const char *what, struct error *e)
{
	if (!fails())
		return __real_mem_alloc_pages(size, what, e);
	err_fill(e, ERR_NO_MEMORY, "no memory for %s (planned)", what);
	return NULL;
}

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}
