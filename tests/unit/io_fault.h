/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: an io over another one that writes down what is done to it and can be told to fail. With the record, any
 * moment of a sequence of writes can be made again, as a crash would have left it. Two files of one image write into one record.
 */
#ifndef QSNAP_TESTS_UNIT_IO_FAULT_H
#define QSNAP_TESTS_UNIT_IO_FAULT_H

#include "io/io.h"

enum fault_op { FAULT_READ, FAULT_WRITE, FAULT_ZERO, FAULT_FLUSH, FAULT_TRUNCATE, FAULT_OPS };

struct fault_record {
	enum fault_op op;
	unsigned file;     /* 0, or 1: what io_fault_beside made */
	uint64_t off, len; /* TRUNCATE: len is the new size */
	uint8_t *bytes;    /* WRITE: what was written */
};

/* Takes over `inner`. Aborts when there is no memory. Reads are counted but not recorded. */
struct io *io_fault_new(struct io *inner);
/* A second file whose records go to `first`, which must live as long. Its calls are counted, and fail, by themselves. */
struct io *io_fault_beside(struct io *inner, struct io *first);
/* The k-th call of this kind from now on fails with `sys_errno` and does nothing; k = 1 is the next. `sticky`: all later ones
 * too. k = 0: none fails. */
void io_fault_fail(struct io *io, enum fault_op op, unsigned k, int sys_errno, bool sticky);
/* How many calls of this kind have come in, failed ones included. */
unsigned io_fault_count(const struct io *io, enum fault_op op);
/* What has been done, in order; failed calls are not in it. Borrowed. */
const struct fault_record *io_fault_records(const struct io *io, size_t *count);
/* Forgets the records and counts so far. */
void io_fault_forget(struct io *io);
/* Does one record to another io: replaying the first n over a copy of the start gives the state after n steps. */
int io_fault_replay(const struct fault_record *r, struct io *onto, struct error *e);

#endif
