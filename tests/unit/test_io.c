/* SPDX-License-Identifier: Apache-2.0
 *
 * io/: the border in io.c, memory, files with and without O_DIRECT, holes, streams. Files are compared with a model in
 * memory under random operations.
 */
#include "io/io.h"

#include "tests/unit/io_fault.h"
#include "tests/unit/scratch.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

static struct error e;

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, e.msg)
#define FAILS(call, expected)                                                                                          \
	do {                                                                                                           \
		ck_assert_int_eq(call, -1);                                                                            \
		ck_assert_msg(e.code == (expected), "%s: code %d: %s", #call, e.code, e.msg);                          \
	} while (0)

static void fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16) | 1;
}

/* ---- the border ---- */

START_TEST(test_border)
{
	uint8_t buf[16], ten[10];
	fill(ten, 10, 1);
	AUTO_IO struct io *io = NULL;
	OK(io_memory_new(&io, ten, 10, "m", &e));
	memset(buf, 0xee, sizeof buf);
	OK(io_read(io, buf, 16, 4, &e)); /* the end reads as zeros */
	ck_assert_mem_eq(buf, ten + 4, 6);
	ck_assert(mem_is_zero(buf + 6, 10));
	OK(io_read(io, buf, 16, 1000, &e));
	ck_assert(mem_is_zero(buf, 16));
	OK(io_read_exact(io, buf, 6, 4, "a table", &e));
	FAILS(io_read_exact(io, buf, 7, 4, "a table", &e), ERR_CORRUPT);
	ck_assert_ptr_nonnull(strstr(e.msg, "a table"));
	FAILS(io_read(io, buf, 16, UINT64_MAX - 3, &e), ERR_LIMIT);
	FAILS(io_read(io, buf, 16, INT64_MAX - 3, &e), ERR_LIMIT);
	FAILS(io_write(io, buf, 16, UINT64_MAX - 15, &e), ERR_LIMIT);
	FAILS(io_truncate(io, (uint64_t)INT64_MAX + 1, &e), ERR_LIMIT);
	struct extent x;
	FAILS(io_extent(io, 8, UINT64_MAX, &x, &e), ERR_LIMIT);
	OK(io_extent(io, 4, 100, &x, &e));
	ck_assert_uint_eq(x.start, 4);
	ck_assert_uint_eq(x.len, 6);
	ck_assert_int_eq(x.kind, EXTENT_DATA);
	ck_assert(x.has_host && x.host == 4 && x.file == io);
	OK(io_extent(io, 10, 100, &x, &e));
	ck_assert_int_eq(x.kind, EXTENT_ABSENT);
	ck_assert_uint_eq(x.len, 100);
	OK(io_write(io, ten, 10, 20, &e)); /* grows, with zeros between */
	ck_assert_uint_eq(io->size, 30);
	ck_assert(mem_is_zero(io_memory_bytes(io) + 10, 10));
	OK(io_zero(io, 25, 10, 0, &e));
	ck_assert_uint_eq(io->size, 35);
	OK(io_truncate(io, 3, &e));
	OK(io_truncate(io, 40, &e));
	ck_assert(mem_is_zero(io_memory_bytes(io) + 3, 37)); /* what was cut off does not come back */
	io->caps &= ~(unsigned)IO_CAN_WRITE;
	FAILS(io_write(io, ten, 1, 0, &e), ERR_USAGE);
	FAILS(io_zero(io, 0, 1, 0, &e), ERR_USAGE);
	FAILS(io_truncate(io, 0, &e), ERR_USAGE);
}
END_TEST

START_TEST(test_null)
{
	uint8_t buf[8] = {1};
	AUTO_IO struct io *io = NULL;
	OK(io_null_new(&io, &e));
	OK(io_write(io, buf, 8, (uint64_t)1 << 50, &e));
	ck_assert_uint_eq(io->size, ((uint64_t)1 << 50) + 8);
	OK(io_read(io, buf, 8, (uint64_t)1 << 50, &e));
	ck_assert(mem_is_zero(buf, 8));
}
END_TEST

START_TEST(test_fault)
{
	uint8_t buf[8] = {1, 2, 3};
	struct io *inner;
	OK(io_memory_new(&inner, NULL, 0, "m", &e));
	AUTO_IO struct io *io = io_fault_new(inner);
	io_fault_fail(io, FAULT_WRITE, 2, ENOSPC, false);
	OK(io_write(io, buf, 8, 0, &e));
	FAILS(io_write(io, buf, 8, 8, &e), ERR_IO);
	ck_assert_int_eq(e.sys_errno, ENOSPC);
	ck_assert_uint_eq(io->size, 8);
	OK(io_write(io, buf, 8, 16, &e));
	OK(io_flush(io, &e));
	io_fault_fail(io, FAULT_FLUSH, 1, EIO, true);
	FAILS(io_flush(io, &e), ERR_IO);
	FAILS(io_flush(io, &e), ERR_IO);
	OK(io_truncate(io, 20, &e));
	size_t n;
	const struct fault_record *r = io_fault_records(io, &n);
	ck_assert_uint_eq(n, 4);
	AUTO_IO struct io *again = NULL;
	OK(io_memory_new(&again, NULL, 0, "again", &e));
	for (size_t i = 0; i < n; i++)
		OK(io_fault_replay(&r[i], again, &e));
	ck_assert_uint_eq(again->size, 20);
	ck_assert_mem_eq(io_memory_bytes(again), io_memory_bytes(inner), 20);
}
END_TEST

/* ---- files ---- */

static const struct {
	int kind;
	unsigned flags;
} file_ways[] = {
	{SCRATCH_DISK, 0},
	{SCRATCH_DISK, IO_OPEN_DIRECT},
	{SCRATCH_TMPFS, 0},
	{SCRATCH_TMPFS, IO_OPEN_DIRECT},
	{SCRATCH_DISK, IO_OPEN_SYNC},
};

enum { MODEL_BYTES = 3 << 20, STEPS = 400 };

/* Ranges of all sizes, most of them with odd ends, memory of any alignment. */
static void random_range(uint64_t *off, size_t *len)
{
	static const unsigned steps[] = {1, 512, 4096, 65536};
	unsigned step = steps[random() % 4];
	*off = (uint64_t)random() % MODEL_BYTES / step * step;
	*len = (size_t)min_u64((uint64_t)(random() % 64 + 1) * step, MODEL_BYTES - *off);
}

START_TEST(test_file_is_like_memory)
{
	if (!scratch_enter(file_ways[_i].kind))
		return;
	scratch_file("f", "", 0);
	struct io *io, *model;
	uint8_t *buf = malloc(MODEL_BYTES + 64), *want = malloc(MODEL_BYTES);
	ck_assert(buf && want);
	OK(io_file_open(&io, "f", IO_OPEN_WRITE | file_ways[_i].flags, &e));
	OK(io_memory_new(&model, NULL, 0, "model", &e));
	if (file_ways[_i].kind == SCRATCH_DISK && (file_ways[_i].flags & IO_OPEN_DIRECT))
		ck_assert(io->caps & IO_DIRECT);
	srandom(7);
	for (unsigned i = 0; i < STEPS; i++) {
		uint64_t off;
		size_t len;
		random_range(&off, &len);
		uint8_t *p = random() % 2 ? buf + random() % 64 : (uint8_t *)align_up((uintptr_t)buf, 64);
		switch (random() % 8) {
		case 0:
		case 1:
		case 2:
			fill(p, len, i + 1);
			OK(io_write(io, p, len, off, &e));
			OK(io_write(model, p, len, off, &e));
			break;
		case 3:
			OK(io_zero(io, off, len, random() % 2 ? IO_ZERO_UNMAP : 0, &e));
			OK(io_zero(model, off, len, 0, &e));
			break;
		case 4:
			if (random() % 8)
				break;
			OK(io_truncate(io, off, &e));
			OK(io_truncate(model, off, &e));
			break;
		default:
			OK(io_read(io, p, len, off, &e));
			OK(io_read(model, want, len, off, &e));
			ck_assert_msg(memcmp(p, want, len) == 0, "step %u: %zu bytes at %llu", i, len,
				(unsigned long long)off);
		}
		ck_assert_uint_eq(io->size, model->size);
	}
	OK(io_flush(io, &e));
	OK(io_read(io, buf, MODEL_BYTES, 0, &e));
	ck_assert_mem_eq(buf, io_memory_bytes(model), model->size);
	io_close(io);
	struct stat st;
	ck_assert_int_eq(stat("f", &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, model->size);
	io_close(model);
	free(want);
	free(buf);
	scratch_leave();
}
END_TEST

/* Several writers of odd neighbouring ranges: nobody loses a byte, whatever the order. */
enum { WRITERS = 4, PIECES = 160, PIECE = 12345 };

struct writer_arg {
	struct io *io;
	unsigned index;
};

static void *write_pieces(void *p)
{
	struct writer_arg *w = p;
	struct error own = {0};
	uint8_t *piece = malloc(PIECE);
	for (unsigned i = w->index; i < PIECES; i += WRITERS) {
		fill(piece, PIECE, i + 1);
		bool zero = i % 7 == 3;
		int rc = zero ? io_zero(w->io, (uint64_t)i * PIECE, PIECE, IO_ZERO_UNMAP, &own)
			      : io_write(w->io, piece, PIECE, (uint64_t)i * PIECE, &own);
		if (rc < 0)
			abort();
	}
	free(piece);
	return NULL;
}

START_TEST(test_concurrent_writers)
{
	if (!scratch_enter(file_ways[_i].kind))
		return;
	scratch_file("f", "", 0);
	struct io *io;
	OK(io_file_open(&io, "f", IO_OPEN_WRITE | file_ways[_i].flags, &e));
	pthread_t threads[WRITERS];
	struct writer_arg args[WRITERS];
	for (unsigned i = 0; i < WRITERS; i++) {
		args[i] = (struct writer_arg){io, i};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_pieces, &args[i]), 0);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(io->size, (uint64_t)PIECES * PIECE);
	static uint8_t got[PIECE], want[PIECE];
	for (unsigned i = 0; i < PIECES; i++) {
		OK(io_read(io, got, PIECE, (uint64_t)i * PIECE, &e));
		fill(want, PIECE, i + 1);
		if (i % 7 == 3)
			memset(want, 0, PIECE);
		ck_assert_msg(memcmp(got, want, PIECE) == 0, "piece %u", i);
	}
	io_close(io);
	scratch_leave();
}
END_TEST

START_TEST(test_memory_writers)
{
	AUTO_IO struct io *io = NULL;
	OK(io_memory_new(&io, NULL, 0, "m", &e));
	pthread_t threads[WRITERS];
	struct writer_arg args[WRITERS];
	for (unsigned i = 0; i < WRITERS; i++) {
		args[i] = (struct writer_arg){io, i};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_pieces, &args[i]), 0);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(io->size, (uint64_t)PIECES * PIECE);
	static uint8_t want[PIECE];
	for (unsigned i = 0; i < PIECES; i++) {
		fill(want, PIECE, i + 1);
		if (i % 7 != 3)
			ck_assert_mem_eq(io_memory_bytes(io) + (size_t)i * PIECE, want, PIECE);
	}
}
END_TEST

START_TEST(test_holes)
{
	if (!scratch_enter(_i))
		return;
	enum { MIB = 1 << 20 };
	uint8_t *mib = malloc(MIB);
	fill(mib, MIB, 3);
	scratch_file("f", "", 0);
	struct io *io;
	struct extent x;
	OK(io_file_open(&io, "f", IO_OPEN_WRITE, &e));
	OK(io_truncate(io, 8 * MIB, &e));
	OK(io_write(io, mib, MIB, 2 * MIB, &e));
	OK(io_write(io, mib, MIB, 5 * MIB, &e));
	uint64_t before = io_file_allocated(io);
	ck_assert_uint_ge(before, 2 * MIB);
	OK(io_zero(io, 5 * MIB, MIB, IO_ZERO_UNMAP, &e));
	ck_assert_uint_lt(io_file_allocated(io), before);
	ck_assert_uint_eq(io->size, 8 * MIB);
	io_close(io);

	OK(io_file_open(&io, "f", 0, &e));
	static const struct {
		uint64_t off, len, got;
		enum extent_kind kind;
	} asks[] = {
		{0, 8 * MIB, 2 * MIB, EXTENT_ZERO},
		{4096, 4096, 4096, EXTENT_ZERO},
		{2 * MIB, 8 * MIB, MIB, EXTENT_DATA},
		{2 * MIB + 777, 100, 100, EXTENT_DATA},
		{3 * MIB - 1, 100, 1, EXTENT_DATA},
		{3 * MIB, 100 * MIB, 5 * MIB, EXTENT_ZERO},
		{1 * MIB, 2 * MIB, MIB, EXTENT_ZERO}, /* back again */
		{8 * MIB, 5, 5, EXTENT_ABSENT},
	};
	for (unsigned i = 0; i < sizeof asks / sizeof *asks; i++) {
		OK(io_extent(io, asks[i].off, asks[i].len, &x, &e));
		ck_assert_int_eq(x.kind, asks[i].kind);
		ck_assert_uint_eq(x.len, asks[i].got);
		ck_assert_uint_eq(x.start, asks[i].off);
		if (x.kind != EXTENT_ABSENT)
			ck_assert(x.has_host && x.host == asks[i].off && x.file == io);
	}
	io_close(io);
	free(mib);
	scratch_leave();
}
END_TEST

START_TEST(test_reserve)
{
	if (!scratch_enter(_i))
		return;
	scratch_file("f", "abc", 3);
	struct io *io;
	OK(io_file_open(&io, "f", IO_OPEN_WRITE, &e));
	OK(io_file_reserve(io, 0, 1 << 20, &e));
	ck_assert_uint_eq(io->size, 1 << 20);
	ck_assert_uint_ge(io_file_allocated(io), 1 << 20);
	char buf[6];
	OK(io_read(io, buf, 6, 0, &e));
	ck_assert_mem_eq(buf, "abc\0\0\0", 6);
	io_close(io);
	scratch_leave();
}
END_TEST

/* A block device of 4 KiB sectors, through the cache and with O_DIRECT, which refuses everything that is not aligned. */
START_TEST(test_device)
{
	enum { LEN = 16 << 20, AT = 100001, SIZE = 300003 };
	char device[64] = "";
	if (geteuid() != 0 || !scratch_enter(SCRATCH_DISK))
		return;
	scratch_file("disk", "", 0);
	ck_assert_int_eq(truncate("disk", LEN), 0);
	FILE *p = popen("losetup -b 4096 -f --show disk 2>/dev/null", "r");
	bool made = p && fscanf(p, "%63s", device) == 1;
	if (!p || pclose(p) != 0 || !made) {
		scratch_leave();
		return;
	}
	uint8_t *bytes = malloc(SIZE), *got = malloc(SIZE);
	struct io *io;
	for (unsigned flags = 0; flags <= IO_OPEN_DIRECT; flags += IO_OPEN_DIRECT) {
		OK(io_file_open(&io, device, IO_OPEN_WRITE | flags, &e));
		ck_assert_uint_eq(io->size, LEN);
		ck_assert((io->caps & IO_IS_DEVICE) && !(io->caps & IO_READS_ZERO));
		ck_assert(!flags == !(io->caps & IO_DIRECT));
		fill(bytes, SIZE, flags + 1);
		OK(io_write(io, bytes, SIZE, AT, &e));
		OK(io_zero(io, AT + 5001, 50000, IO_ZERO_UNMAP, &e));
		OK(io_zero(io, AT + 100000, 50001, 0, &e));
		memset(bytes + 5001, 0, 50000);
		memset(bytes + 100000, 0, 50001);
		OK(io_read(io, got, SIZE, AT, &e));
		ck_assert_mem_eq(got, bytes, SIZE);
		OK(io_flush(io, &e));
		struct extent x;
		OK(io_extent(io, 5, LEN, &x, &e));
		ck_assert(x.kind == EXTENT_DATA && x.len == LEN - 5);
		FAILS(io_write(io, bytes, 2, LEN - 1, &e), ERR_IO);
		OK(io_truncate(io, LEN - 100, &e));
		ck_assert_uint_eq(io->size, LEN);
		FAILS(io_truncate(io, LEN + 1, &e), ERR_IO);
		io_close(io);
	}
	FAILS(io_file_open(&io, device, IO_OPEN_REGULAR, &e), ERR_UNSUPPORTED);
	char detach[80];
	snprintf(detach, sizeof detach, "losetup -d %s", device);
	ck_assert_int_eq(system(detach), 0);
	free(bytes);
	free(got);
	scratch_leave();
}
END_TEST

START_TEST(test_only_files_open)
{
	struct io *io = NULL;
	ck_assert(scratch_enter(SCRATCH_DISK));
	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	ck_assert_int_eq(mkdir("dir", 0700), 0);
	ck_assert_int_eq(symlink("file", "link"), 0);
	scratch_file("file", "x", 1);
	alarm(5); /* a FIFO must not hang */
	FAILS(io_file_open(&io, "fifo", 0, &e), ERR_UNSUPPORTED);
	FAILS(io_file_open(&io, "fifo", IO_OPEN_WRITE, &e), ERR_UNSUPPORTED);
	FAILS(io_file_open(&io, "dir", 0, &e), ERR_UNSUPPORTED);
	FAILS(io_file_open(&io, "/dev/null", 0, &e), ERR_UNSUPPORTED);
	FAILS(io_file_open(&io, "missing", 0, &e), ERR_NOT_FOUND);
	ck_assert_str_eq(e.msg, "Could not open 'missing': No such file or directory");
	FAILS(io_file_open(&io, "link", IO_OPEN_NOFOLLOW, &e), ERR_IO);
	alarm(0);
	struct io_identity a, b;
	OK(io_file_open(&io, "link", 0, &e));
	ck_assert_str_eq(io->name, "link");
	ck_assert(fcntl(io_file_fd(io), F_GETFD) & FD_CLOEXEC);
	ck_assert(io_file_identity(io, &a));
	io_close(io);
	OK(io_file_open(&io, "file", 0, &e));
	ck_assert(io_file_identity(io, &b));
	ck_assert(a.dev == b.dev && a.ino == b.ino);
	FAILS(io_write(io, "y", 1, 0, &e), ERR_USAGE);
	io_close(io);
	scratch_leave();
}
END_TEST

START_TEST(test_file_grows_and_shrinks_under_a_reader)
{
	ck_assert(scratch_enter(SCRATCH_DISK));
	char buf[8];
	scratch_file("f", "abcd", 4);
	struct io *io;
	OK(io_file_open(&io, "f", 0, &e));
	scratch_file("f", "abcdefgh", 8);
	OK(io_read(io, buf, 8, 0, &e));
	ck_assert_mem_eq(buf, "abcdefgh", 8);
	ck_assert_int_eq(truncate("f", 2), 0);
	FAILS(io_read(io, buf, 8, 0, &e), ERR_CHANGED);
	io_close(io);
	scratch_leave();
}
END_TEST

START_TEST(test_copy_range)
{
	if (!scratch_enter(_i))
		return;
	enum { LEN = 300000 };
	uint8_t *bytes = malloc(LEN);
	fill(bytes, LEN, 9);
	scratch_file("a", bytes, LEN);
	scratch_file("b", "", 0);
	struct io *a, *b, *m;
	OK(io_file_open(&a, "a", 0, &e));
	OK(io_file_open(&b, "b", IO_OPEN_WRITE, &e));
	OK(io_memory_new(&m, bytes, 10, "m", &e));
	ck_assert_int_eq(io_copy_range(m, 0, a, 0, 10, &e), 1);
	ck_assert_int_eq(io_clone(m, 0, a, 0, 10, &e), 1);
	int rc = io_copy_range(b, 1000, a, 5, LEN - 5, &e);
	if (rc == 0) {
		ck_assert_uint_eq(b->size, LEN - 5 + 1000);
		uint8_t *got = malloc(LEN - 5);
		OK(io_read(b, got, LEN - 5, 1000, &e));
		ck_assert_mem_eq(got, bytes + 5, LEN - 5);
		free(got);
	} else {
		ck_assert_int_eq(rc, 1);
	}
	/* An odd range is never a reason to fail. */
	ck_assert_int_eq(io_clone(b, 511, a, 3, 77, &e), 1);
	io_close(a);
	io_close(b);
	io_close(m);
	free(bytes);
	scratch_leave();
}
END_TEST

/* ---- streams ---- */

START_TEST(test_stream)
{
	int fds[2];
	ck_assert_int_eq(pipe(fds), 0);
	struct io_stream *s;
	struct io *io;
	OK(io_stream_fd(&s, fds[1], "pipe", &e));
	OK(io_from_stream(&io, s, &e));
	OK(io_write(io, "abc", 3, 0, &e));
	OK(io_write(io, "de", 2, 5, &e)); /* a gap of two */
	OK(io_zero(io, 7, 2, 0, &e));
	FAILS(io_write(io, "x", 1, 8, &e), ERR_USAGE);
	FAILS(io_truncate(io, 8, &e), ERR_USAGE);
	OK(io_truncate(io, 12, &e));
	ck_assert_uint_eq(io->size, 12);
	ck_assert_uint_eq(s->pos, 12);
	char buf[20];
	FAILS(io_read(io, buf, 1, 0, &e), ERR_UNSUPPORTED);
	io_close(io);
	OK(io_stream_append(s, "!", 1, &e));
	OK(io_stream_finish(s, &e));
	io_stream_close(s);
	close(fds[1]); /* still ours: the stream has not closed it */
	ck_assert_int_eq(read(fds[0], buf, sizeof buf), 13);
	ck_assert_mem_eq(buf, "abc\0\0de\0\0\0\0\0!", 13);
	close(fds[0]);
}
END_TEST

static void *drain(void *arg)
{
	size_t total = 0;
	char buf[7000];
	for (ssize_t n; (n = read(*(int *)arg, buf, sizeof buf)) > 0;)
		total += (size_t)n;
	return (void *)total;
}

/* A pipe that was made non-blocking by somebody else, and one whose reader is gone. */
START_TEST(test_stream_slow_and_broken)
{
	enum { LEN = 1 << 20 };
	int fds[2];
	pthread_t reader;
	void *total;
	char *bytes = calloc(1, LEN);
	struct io_stream *s;
	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, 0), 0);
	OK(io_stream_fd(&s, fds[1], "pipe", &e));
	ck_assert_int_eq(pthread_create(&reader, NULL, drain, &fds[0]), 0);
	OK(io_stream_append(s, bytes, LEN, &e));
	OK(io_stream_append(s, NULL, LEN, &e));
	io_stream_close(s);
	close(fds[1]);
	pthread_join(reader, &total);
	ck_assert_uint_eq((size_t)total, 2 * LEN);
	close(fds[0]);

	ck_assert_int_eq(pipe(fds), 0);
	close(fds[0]);
	OK(io_stream_fd(&s, fds[1], "pipe", &e));
	FAILS(io_stream_append(s, "x", 1, &e), ERR_IO);
	ck_assert_int_eq(e.sys_errno, EPIPE);
	io_stream_close(s);
	close(fds[1]);
	free(bytes);
}
END_TEST

START_TEST(test_full_disk)
{
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	struct io_stream *s;
	OK(io_stream_fd(&s, fd, "full", &e));
	FAILS(io_stream_append(s, "x", 1, &e), ERR_IO);
	ck_assert_int_eq(e.sys_errno, ENOSPC);
	io_stream_close(s);
	close(fd);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

Suite *suite_io(void);
Suite *suite_io(void)
{
	Suite *s = suite_create("io");
	TCase *t = tcase_create("io");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, NULL, scratch_leave);
	tcase_add_test(t, test_border);
	tcase_add_test(t, test_null);
	tcase_add_test(t, test_fault);
	tcase_add_loop_test(t, test_file_is_like_memory, 0, COUNT(file_ways));
	tcase_add_loop_test(t, test_concurrent_writers, 0, COUNT(file_ways));
	tcase_add_test(t, test_memory_writers);
	tcase_add_loop_test(t, test_holes, 0, SCRATCH_KINDS);
	tcase_add_loop_test(t, test_reserve, 0, SCRATCH_KINDS);
	tcase_add_test(t, test_device);
	tcase_add_test(t, test_only_files_open);
	tcase_add_test(t, test_file_grows_and_shrinks_under_a_reader);
	tcase_add_loop_test(t, test_copy_range, 0, SCRATCH_KINDS);
	tcase_add_test(t, test_stream);
	tcase_add_test(t, test_stream_slow_and_broken);
	tcase_add_test(t, test_full_disk);
	suite_add_tcase(s, t);
	return s;
}
