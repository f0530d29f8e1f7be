/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: random options and random calls to a writer, written down so that the image can be compared with them.
 */
#ifndef QSNAP_TESTS_UNIT_WRITER_RUN_H
#define QSNAP_TESTS_UNIT_WRITER_RUN_H

#include "qcow2/writer.h"

enum { MAX_CALLS = 4000 };

enum call_kind { CALL_DATA, CALL_ZERO, CALL_COMPRESSED, CALL_SUBCLUSTERS };

/* What was asked for, and the answer. */
struct call {
	enum call_kind kind;
	uint64_t guest, len, host, stream;
	uint32_t alloc, zero;
	bool real_zeros; /* version 2 over a backing file */
};

struct run {
	struct image_create c;
	bool ascending, fresh;
	struct io *file, *data;
	struct call calls[MAX_CALLS];
	unsigned count;
	uint64_t seed;
};

/* Options and files for this seed; not `fresh`: a file may hold old bytes. */
struct run *run_new(uint64_t seed, bool fresh);
void run_free(struct run *r);
/* The calls from the first guest byte to the last, with the bytes they ask for. */
void run_calls(struct run *r, struct writer *w);
/* A whole image: a writer, the calls, the end. */
void run_write(struct run *r);
/* Bytes that tell where they belong. */
void run_pattern(uint8_t *bytes, uint64_t len, uint64_t guest, unsigned salt);

#endif
