/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: what a crash may leave of a recorded sequence of writes. Between two flushes any of the writes may have reached the
 * disk, in any order, each in whole sectors but perhaps not all of them; what was before a flush has.
 */
#ifndef QSNAP_TESTS_UNIT_CRASH_H
#define QSNAP_TESTS_UNIT_CRASH_H

#include "tests/unit/io_fault.h"

enum { CRASH_FILES = 2 };

/* Called with each file that there may be; `what` tells how it came about. */
typedef void crash_judge(void *ctx, struct io *file, const char *what);

/* From `start`, after the records: every prefix; in each stretch between flushes every write alone, every write missing, torn ones and
 * `random` mixtures; length changes may be lost. */
void crash_each(const uint8_t *start, size_t len, const struct fault_record *records, size_t count, unsigned random,
	crash_judge *judge, void *ctx);

/* The same for an image and its data file: a flush of one says nothing of the other. */
struct crash_start {
	const uint8_t *bytes;
	size_t len;
};
typedef void crash_judge_files(void *ctx, struct io *const *files, const char *what);
void crash_each_of(const struct crash_start *start, unsigned files, const struct fault_record *records, size_t count,
	unsigned random, crash_judge_files *judge, void *ctx);

#endif
