/* SPDX-License-Identifier: Apache-2.0
 *
 * io/lock.c, FORMAT.md §13: which bytes each mode locks, who keeps whom out, and the same against a real QEMU program when
 * there is one.
 */
#include "io/io.h"

#include "tests/unit/scratch.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct error e;

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, e.msg)

static void enter(void)
{
	ck_assert(scratch_enter(SCRATCH_DISK));
	scratch_file("disk", "x", 1);
}

static struct io *open_disk(enum io_lock_mode mode, bool expect_busy)
{
	struct io *io;
	bool write = mode == IO_LOCK_WRITE || mode == IO_LOCK_WRITE_RAW;
	OK(io_file_open(&io, "disk", write ? IO_OPEN_WRITE : 0, &e));
	int rc = io_lock(io, mode, &e);
	ck_assert_msg(rc == (expect_busy ? -1 : 0), "mode %d: %s", mode, rc < 0 ? e.msg : "was let in");
	if (rc == 0)
		return io;
	ck_assert_int_eq(e.code, ERR_BUSY);
	io_close(io);
	return NULL;
}

/* The locked bytes of 90..210, as "100,201", seen from outside. */
static void locked_bytes(char *out)
{
	int fd = open("disk", O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	*out = 0;
	for (int at = 90; at < 210; at++) {
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
		ck_assert_int_eq(fcntl(fd, F_OFD_GETLK, &lock), 0);
		if (lock.l_type != F_UNLCK)
			out += sprintf(out, "%d,", at);
	}
	close(fd);
}

/* As seen in /proc/locks with QEMU's own programs. */
static const struct {
	enum io_lock_mode mode;
	const char *bytes;
} taken[] = {
	{IO_LOCK_READ, "100,201,203,"},
	{IO_LOCK_WRITE, "100,101,103,201,203,"},
	{IO_LOCK_WRITE_RAW, "100,101,"},
	{IO_LOCK_SHARED, "100,"},
	{IO_LOCK_NONE, ""},
};

START_TEST(test_bytes)
{
	char bytes[600];
	struct io *io = open_disk(taken[_i].mode, false);
	locked_bytes(bytes);
	ck_assert_str_eq(bytes, taken[_i].bytes);
	io_close(io);
	locked_bytes(bytes);
	ck_assert_str_eq(bytes, ""); /* held as long as the file is open, no longer */
}
END_TEST

static const struct {
	enum io_lock_mode first, second;
	const char *refused; /* what the second is told; NULL: both may */
} pairs[] = {
	{IO_LOCK_READ, IO_LOCK_READ, NULL},
	{IO_LOCK_READ, IO_LOCK_SHARED, NULL},
	{IO_LOCK_READ, IO_LOCK_WRITE, "Failed to get \"write\" lock"},
	{IO_LOCK_READ, IO_LOCK_WRITE_RAW, "Failed to get \"write\" lock"},
	{IO_LOCK_WRITE, IO_LOCK_READ, "Failed to get shared \"write\" lock"},
	{IO_LOCK_WRITE, IO_LOCK_WRITE, "Failed to get \"write\" lock"},
	{IO_LOCK_WRITE, IO_LOCK_SHARED, NULL},
	{IO_LOCK_WRITE, IO_LOCK_NONE, NULL},
	{IO_LOCK_WRITE_RAW, IO_LOCK_READ, "Failed to get shared \"write\" lock"},
	{IO_LOCK_WRITE_RAW, IO_LOCK_WRITE_RAW, NULL},
	{IO_LOCK_SHARED, IO_LOCK_WRITE, NULL},
	{IO_LOCK_NONE, IO_LOCK_WRITE, NULL},
};

START_TEST(test_pairs)
{
	struct io *first = open_disk(pairs[_i].first, false);
	struct io *second = open_disk(pairs[_i].second, pairs[_i].refused);
	if (pairs[_i].refused) {
		char expected[200];
		snprintf(expected, sizeof expected, "%s\nIs another process using the image [disk]?",
			pairs[_i].refused);
		ck_assert_str_eq(e.msg, expected);
	}
	io_close(second);
	io_close(first);
	io_close(open_disk(IO_LOCK_WRITE, false));
}
END_TEST

START_TEST(test_other_kinds_need_none)
{
	AUTO_IO struct io *io = NULL;
	OK(io_memory_new(&io, NULL, 0, "m", &e));
	OK(io_lock(io, IO_LOCK_WRITE, &e));
}
END_TEST

/* ---- with qemu-io ---- */

static bool have_qemu(void)
{
	return system("command -v qemu-io qemu-img >/dev/null 2>&1 && qemu-img create -q -f qcow2 disk 1M") == 0;
}

/* qemu-io that has the disk open when this returns. */
static pid_t start_qemu_io(const char *mode)
{
	pid_t child = fork();
	if (child == 0) {
		const char *args[] = {"qemu-io", "-f", "qcow2", "-c", "sleep 20000", mode, "disk", NULL};
		execvp(args[0], (char **)(uintptr_t)args);
		_exit(127);
	}
	char bytes[600] = "";
	for (unsigned i = 0; i < 500 && !strstr(bytes, "203"); i++) {
		usleep(10000);
		locked_bytes(bytes);
	}
	ck_assert_ptr_nonnull(strstr(bytes, "203"));
	return child;
}

static void stop(pid_t child)
{
	kill(child, SIGKILL);
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
}

START_TEST(test_against_qemu)
{
	if (!have_qemu())
		return;
	pid_t writer = start_qemu_io("-n"); /* -n: cache=none, that is read-write */
	open_disk(IO_LOCK_READ, true);
	ck_assert_ptr_nonnull(strstr(e.msg, "Failed to get shared \"write\" lock"));
	open_disk(IO_LOCK_WRITE, true);
	io_close(open_disk(IO_LOCK_SHARED, false));
	stop(writer);

	pid_t reader = start_qemu_io("-r");
	char theirs[600], ours[600];
	locked_bytes(theirs);
	open_disk(IO_LOCK_WRITE, true);
	struct io *io = open_disk(IO_LOCK_READ, false);
	stop(reader);
	locked_bytes(ours);
	ck_assert_str_eq(ours, theirs);
	/* And QEMU sees ours. */
	ck_assert_int_eq(system("qemu-img info disk >/dev/null 2>&1"), 0);
	ck_assert_int_ne(system("qemu-io -f qcow2 -c 'write 0 512' disk 2>&1 | grep -q 'Failed to get \"write\"' && "
				"exit 1; exit 0"),
		0);
	io_close(io);
	io = open_disk(IO_LOCK_WRITE, false);
	ck_assert_int_ne(system("qemu-img info disk >/dev/null 2>&1"), 0);
	ck_assert_int_eq(system("qemu-img info -U disk >/dev/null 2>&1"), 0);
	io_close(io);
	ck_assert_int_eq(system("qemu-io -f qcow2 -c 'write 0 512' disk >/dev/null 2>&1"), 0);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

Suite *suite_lock(void);
Suite *suite_lock(void)
{
	Suite *s = suite_create("lock");
	TCase *t = tcase_create("lock");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, enter, scratch_leave);
	tcase_add_loop_test(t, test_bytes, 0, COUNT(taken));
	tcase_add_loop_test(t, test_pairs, 0, COUNT(pairs));
	tcase_add_test(t, test_other_kinds_need_none);
	tcase_add_test(t, test_against_qemu);
	suite_add_tcase(s, t);
	return s;
}
