/* SPDX-License-Identifier: Apache-2.0
 *
 * What every fuzz target shares: the entry point that libFuzzer or driver.c calls, and a check that stays in every build.
 * A target says what must hold for any bytes; not crashing is only the least of it.
 */
#ifndef QSNAP_FUZZ_H
#define QSNAP_FUZZ_H

#include "base/base.h"

/* Libraries are built with hidden symbols; libFuzzer's main looks for this one from outside. */
__attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define FUZZ_CHECK(condition)                                                                                          \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                      \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* Every failure must say what it is. */
static inline void fuzz_check_error(const struct error *e)
{
	FUZZ_CHECK(e->code > ERR_OK && e->code <= ERR_CANCELLED);
	FUZZ_CHECK(e->msg[0] != 0 && memchr(e->msg, 0, sizeof e->msg) != NULL);
}

#endif
