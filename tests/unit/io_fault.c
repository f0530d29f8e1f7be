/* SPDX-License-Identifier: Apache-2.0
 *
 * The recording and failing io of tests/unit/io_fault.h.
 */
#include "tests/unit/io_fault.h"

#include <pthread.h>

struct io_fault {
	struct io io;
	struct io *inner;
	struct io_fault *log; /* whose records are written: its own or the first file's */
	pthread_mutex_t lock;
	struct {
		unsigned count, fail_at; /* fail_at 0: never */
		int sys_errno;
		bool sticky;
	} ops[FAULT_OPS];
	struct fault_record *records;
	size_t count, room;
};

static const char *const op_names[FAULT_OPS] = {"read", "write", "zero", "flush", "truncate"};

static struct io_fault *fault_of(const struct io *io)
{
	return (struct io_fault *)(uintptr_t)io;
}

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

static int step(struct io_fault *f, enum fault_op op, struct error *e)
{
	pthread_mutex_lock(&f->lock);
	unsigned now = ++f->ops[op].count, at = f->ops[op].fail_at;
	bool fails = at && (now == at || (now > at && f->ops[op].sticky));
	int sys_errno = f->ops[op].sys_errno;
	pthread_mutex_unlock(&f->lock);
	return fails ? err_sys(e, sys_errno, "%s: planned fault in %s %u", f->io.name, op_names[op], now) : 0;
}

static void record(struct io_fault *f, enum fault_op op, uint64_t off, uint64_t len, const void *bytes)
{
	struct io_fault *log = f->log;
	pthread_mutex_lock(&log->lock);
	if (log->count == log->room) {
		log->room = log->room ? log->room * 2 : 64;
		log->records = must(reallocarray(log->records, log->room, sizeof *log->records));
	}
	struct fault_record *r = &log->records[log->count++];
	*r = (struct fault_record){.op = op, .file = f != log, .off = off, .len = len};
	if (bytes)
		r->bytes = memcpy(must(malloc(len ? len : 1)), bytes, len);
	__atomic_store_n(&f->io.size, f->inner->size, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&log->lock);
}

static int fault_read(struct io *io, void *buf, size_t len, uint64_t off, struct error *e)
{
	struct io_fault *f = fault_of(io);
	return step(f, FAULT_READ, e) < 0 ? -1 : io_read(f->inner, buf, len, off, e);
}

static int fault_write(struct io *io, const void *buf, size_t len, uint64_t off, struct error *e)
{
	struct io_fault *f = fault_of(io);
	if (step(f, FAULT_WRITE, e) < 0 || io_write(f->inner, buf, len, off, e) < 0)
		return -1;
	record(f, FAULT_WRITE, off, len, buf);
	return 0;
}

static int fault_zero(struct io *io, uint64_t off, uint64_t len, unsigned flags, struct error *e)
{
	struct io_fault *f = fault_of(io);
	if (step(f, FAULT_ZERO, e) < 0 || io_zero(f->inner, off, len, flags, e) < 0)
		return -1;
	record(f, FAULT_ZERO, off, len, NULL);
	return 0;
}

static int fault_extent(struct io *io, uint64_t off, uint64_t len, struct extent *out, struct error *e)
{
	if (io_extent(fault_of(io)->inner, off, len, out, e) < 0)
		return -1;
	out->file = out->file ? io : NULL;
	return 0;
}

static int fault_flush(struct io *io, struct error *e)
{
	struct io_fault *f = fault_of(io);
	if (step(f, FAULT_FLUSH, e) < 0 || io_flush(f->inner, e) < 0)
		return -1;
	record(f, FAULT_FLUSH, 0, 0, NULL);
	return 0;
}

static int fault_truncate(struct io *io, uint64_t size, struct error *e)
{
	struct io_fault *f = fault_of(io);
	if (step(f, FAULT_TRUNCATE, e) < 0 || io_truncate(f->inner, size, e) < 0)
		return -1;
	record(f, FAULT_TRUNCATE, 0, size, NULL);
	return 0;
}

static void fault_close(struct io *io)
{
	struct io_fault *f = fault_of(io);
	io_fault_forget(io);
	free(f->records);
	io_close(f->inner);
	pthread_mutex_destroy(&f->lock);
	free(f->io.name);
	free(f);
}

static const struct io_ops fault_ops = {
	.read = fault_read,
	.write = fault_write,
	.zero = fault_zero,
	.extent = fault_extent,
	.flush = fault_flush,
	.truncate = fault_truncate,
	.close = fault_close,
};

struct io *io_fault_new(struct io *inner)
{
	struct io_fault *f = must(calloc(1, sizeof *f));
	f->inner = inner;
	f->log = f;
	f->io = (struct io){.ops = &fault_ops, .size = inner->size, .align = 1, .name = must(strdup(inner->name))};
	f->io.caps = inner->caps & (IO_CAN_WRITE | IO_CAN_PUNCH | IO_READS_ZERO | IO_IS_DEVICE);
	pthread_mutex_init(&f->lock, NULL);
	return &f->io;
}

struct io *io_fault_beside(struct io *inner, struct io *first)
{
	struct io *io = io_fault_new(inner);
	fault_of(io)->log = fault_of(first);
	return io;
}

void io_fault_fail(struct io *io, enum fault_op op, unsigned k, int sys_errno, bool sticky)
{
	struct io_fault *f = fault_of(io);
	pthread_mutex_lock(&f->lock);
	f->ops[op].fail_at = k ? f->ops[op].count + k : 0;
	f->ops[op].sys_errno = sys_errno;
	f->ops[op].sticky = sticky;
	pthread_mutex_unlock(&f->lock);
}

unsigned io_fault_count(const struct io *io, enum fault_op op)
{
	return fault_of(io)->ops[op].count;
}

const struct fault_record *io_fault_records(const struct io *io, size_t *count)
{
	*count = fault_of(io)->count;
	return fault_of(io)->records;
}

void io_fault_forget(struct io *io)
{
	struct io_fault *f = fault_of(io);
	for (size_t i = 0; i < f->count; i++)
		free(f->records[i].bytes);
	f->count = 0;
	for (unsigned op = 0; op < FAULT_OPS; op++)
		f->ops[op].count = f->ops[op].fail_at = 0;
}

int io_fault_replay(const struct fault_record *r, struct io *onto, struct error *e)
{
	switch (r->op) {
	case FAULT_WRITE:
		return io_write(onto, r->bytes, r->len, r->off, e);
	case FAULT_ZERO:
		return io_zero(onto, r->off, r->len, 0, e);
	case FAULT_TRUNCATE:
		return io_truncate(onto, r->len, e);
	default:
		return 0;
	}
}
