/* SPDX-License-Identifier: Apache-2.0
 *
 * io/target.c and io/temporary.c: what a reader of the folder can see before, during and after, and what stays behind.
 */
#include "io/internal.h"

#include "tests/unit/scratch.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct error e;
static const struct target_opts plain = {0}, synced = {.sync_at_end = true}, direct = {.direct = true, .dsync = true};
static const struct target_opts in_place = {.in_place = true};
static const struct target_opts *const all_opts[] = {&plain, &synced, &direct};

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, e.msg)
#define FAILS(call, expected)                                                                                          \
	do {                                                                                                           \
		ck_assert_int_eq(call, -1);                                                                            \
		ck_assert_msg(e.code == (expected), "%s: code %d: %s", #call, e.code, e.msg);                          \
	} while (0)

static void assert_content(const char *name, const char *text)
{
	size_t len;
	char *got = scratch_read(name, &len);
	ck_assert_str_eq(got, text);
	free(got);
}

static void enter(void)
{
	ck_assert(scratch_enter(SCRATCH_DISK));
	umask(022);
}

START_TEST(test_new_file)
{
	struct target *t;
	struct stat st;
	umask(027);
	OK(target_open(&t, "new", all_opts[_i], &e));
	ck_assert(target_is_new(t));
	ck_assert(target_io(t)->caps & IO_READS_ZERO);
	ck_assert_str_eq(target_io(t)->name, "new");
	OK(io_write(target_io(t), "hello", 5, 0, &e));
	ck_assert_int_eq(access("new", F_OK), -1);
	OK(target_commit(t, &e));
	target_close(t);
	assert_content("new", "hello");
	ck_assert_int_eq(stat("new", &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0640);
	ck_assert_uint_eq(scratch_count(), 1);
}
END_TEST

START_TEST(test_nothing_is_left_without_commit)
{
	struct target *t;
	scratch_file("old", "old", 3);
	OK(target_open(&t, "new", all_opts[_i], &e));
	OK(io_write(target_io(t), "hello", 5, 0, &e));
	target_close(t);
	OK(target_open(&t, "old", all_opts[_i], &e));
	OK(io_write(target_io(t), "hello", 5, 0, &e));
	assert_content("old", "old");
	target_close(t);
	assert_content("old", "old");
	ck_assert_uint_eq(scratch_count(), 1);
	target_close(NULL);
}
END_TEST

START_TEST(test_replace_keeps_mode_and_owner)
{
	struct target *t;
	struct stat st;
	scratch_file("old", "something longer", 16);
	bool root = geteuid() == 0;
	if (root)
		ck_assert_int_eq(chown("old", 1234, 5678), 0);
	ck_assert_int_eq(chmod("old", 04751), 0);
	OK(target_open(&t, "old", all_opts[_i], &e));
	ck_assert(target_is_new(t));
	ck_assert_uint_eq(target_io(t)->size, 0);
	OK(io_write(target_io(t), "new", 3, 0, &e));
	assert_content("old", "something longer");
	OK(target_commit(t, &e));
	target_close(t);
	assert_content("old", "new");
	ck_assert_int_eq(stat("old", &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 04751);
	if (root)
		ck_assert(st.st_uid == 1234 && st.st_gid == 5678);
	ck_assert_uint_eq(scratch_count(), 1);
}
END_TEST

/* The link stays a link; the file that it leads to is the target, also through two links and folders, and when that file
 * does not exist yet. */
START_TEST(test_symlinks)
{
	struct target *t;
	struct stat st;
	ck_assert_int_eq(mkdir("a", 0755), 0);
	ck_assert_int_eq(mkdir("b", 0755), 0);
	scratch_file("b/file", "old", 3);
	ck_assert_int_eq(symlink("a/second", "first"), 0);
	ck_assert_int_eq(symlink("../b/file", "a/second"), 0);
	ck_assert_int_eq(symlink("b/missing", "dangling"), 0);
	ck_assert_int_eq(symlink("loop", "loop"), 0);
	OK(target_open(&t, "first", &plain, &e));
	OK(io_write(target_io(t), "new", 3, 0, &e));
	OK(target_commit(t, &e));
	target_close(t);
	assert_content("b/file", "new");
	ck_assert_int_eq(lstat("first", &st), 0);
	ck_assert(S_ISLNK(st.st_mode));
	OK(target_open(&t, "dangling", &plain, &e));
	OK(io_write(target_io(t), "born", 4, 0, &e));
	OK(target_commit(t, &e));
	target_close(t);
	assert_content("b/missing", "born");
	FAILS(target_open(&t, "loop", &plain, &e), ERR_IO);
	ck_assert_int_eq(e.sys_errno, ELOOP);
}
END_TEST

START_TEST(test_refused_targets)
{
	struct target *t;
	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	ck_assert_int_eq(mkdir("dir", 0755), 0);
	alarm(5);
	FAILS(target_open(&t, "fifo", &plain, &e), ERR_UNSUPPORTED);
	FAILS(target_open(&t, "/dev/null", &plain, &e), ERR_UNSUPPORTED);
	FAILS(target_open(&t, "dir", &plain, &e), ERR_IO);
	ck_assert_str_eq(e.msg, "Could not create 'dir': Is a directory");
	FAILS(target_open(&t, "dir/", &plain, &e), ERR_IO);
	FAILS(target_open(&t, "", &plain, &e), ERR_IO);
	FAILS(target_open(&t, "missing/new", &plain, &e), ERR_NOT_FOUND);
	ck_assert_str_eq(e.msg, "Could not create 'missing/new': No such file or directory");
	FAILS(target_open(&t, "missing", &in_place, &e), ERR_NOT_FOUND);
	ck_assert_str_eq(e.msg, "Could not open 'missing': No such file or directory");
	alarm(0);
	ck_assert_uint_eq(scratch_count(), 2);
}
END_TEST

START_TEST(test_in_place)
{
	struct target *t;
	scratch_file("old", "0123456789", 10);
	OK(target_open(&t, "old", &in_place, &e));
	ck_assert(!target_is_new(t));
	ck_assert(!(target_io(t)->caps & IO_READS_ZERO));
	OK(io_write(target_io(t), "ab", 2, 3, &e));
	OK(target_commit(t, &e));
	target_close(t);
	assert_content("old", "012ab56789");
}
END_TEST

START_TEST(test_a_name_that_came_up_meanwhile_is_kept)
{
	struct target *t;
	OK(target_open(&t, "new", &plain, &e));
	OK(io_write(target_io(t), "ours", 4, 0, &e));
	scratch_file("new", "theirs", 6);
	FAILS(target_commit(t, &e), ERR_IO);
	ck_assert_int_eq(e.sys_errno, EEXIST);
	target_close(t);
	assert_content("new", "theirs");
	ck_assert_uint_eq(scratch_count(), 1);
}
END_TEST

START_TEST(test_locked_files_are_refused)
{
	struct target *t;
	struct io *user;
	struct target_opts locked = {.locked = true};
	scratch_file("disk", "x", 1);
	OK(io_file_open(&user, "disk", 0, &e));
	OK(io_lock(user, IO_LOCK_READ, &e));
	FAILS(target_open(&t, "disk", &plain, &e), ERR_BUSY);
	FAILS(target_open(&t, "disk", &in_place, &e), ERR_BUSY);
	OK(target_open(&t, "disk", &locked, &e));
	target_close(t);
	io_close(user);
	OK(target_open(&t, "disk", &plain, &e));
	OK(io_file_open(&user, "disk", 0, &e));
	FAILS(io_lock(user, IO_LOCK_READ, &e), ERR_BUSY); /* and ours is held until the end */
	io_close(user);
	target_close(t);
}
END_TEST

/* As an ordinary user: a file that may not be written to is not replaced, although its folder would allow it; and a folder
 * that takes no new file says so. */
START_TEST(test_permissions)
{
	struct target *t;
	scratch_file("readonly", "keep", 4);
	scratch_file("writable", "keep", 4);
	ck_assert_int_eq(chmod("readonly", 0444), 0);
	ck_assert_int_eq(chmod("writable", 0666), 0);
	ck_assert_int_eq(chmod(".", 0777), 0);
	if (geteuid() == 0 && seteuid(65534) < 0)
		return;
	FAILS(target_open(&t, "readonly", &plain, &e), ERR_IO);
	ck_assert_int_eq(e.sys_errno, EACCES);
	if (geteuid() == 65534)
		ck_assert_int_eq(seteuid(0), 0);
	ck_assert_int_eq(chmod(".", 0555), 0);
	if (geteuid() == 0)
		ck_assert_int_eq(seteuid(65534), 0);
	FAILS(target_open(&t, "writable", &plain, &e), ERR_IO);
	ck_assert_ptr_nonnull(strstr(e.msg, "beside 'writable'"));
	FAILS(target_open(&t, "new", &plain, &e), ERR_IO);
	ck_assert_str_eq(e.msg, "Could not create 'new': Permission denied");
	if (getuid() == 0)
		ck_assert_int_eq(seteuid(0), 0);
	chmod(".", 0755);
	assert_content("writable", "keep");
}
END_TEST

/* Where O_TMPFILE is not to be had, a hidden name serves: the same steps by hand. */
START_TEST(test_hidden_names)
{
	struct temporary t = {.dir_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), .name = ".final.tmp"};
	t.fd = open(t.name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(t.fd, "one", 3), 3);
	ck_assert_int_eq(temporary_name(&t, "final", false), 0);
	assert_content("final", "one");
	ck_assert_uint_eq(scratch_count(), 1);
	close(t.fd);

	strcpy(t.name, ".final.tmp");
	t.fd = open(t.name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(t.fd, "two", 3), 3);
	ck_assert_int_eq(temporary_name(&t, "final", false), -1);
	ck_assert_int_eq(errno, EEXIST);
	assert_content("final", "one");
	ck_assert_int_eq(temporary_name(&t, "final", true), 0);
	assert_content("final", "two");
	ck_assert_uint_eq(scratch_count(), 1);
	close(t.fd);

	strcpy(t.name, ".final.tmp");
	t.fd = open(t.name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	temporary_forget(&t);
	ck_assert_uint_eq(scratch_count(), 1);
	close(t.fd);
	close(t.dir_fd);
}
END_TEST

/* A name as long as a name can be. */
START_TEST(test_long_name)
{
	struct target *t;
	char name[256];
	memset(name, 'n', 255);
	name[255] = 0;
	for (unsigned i = 0; i < 2; i++) {
		OK(target_open(&t, name, &plain, &e));
		OK(io_write(target_io(t), i ? "b" : "a", 1, 0, &e));
		OK(target_commit(t, &e));
		target_close(t);
		assert_content(name, i ? "b" : "a");
	}
	ck_assert_uint_eq(scratch_count(), 1);
}
END_TEST

START_TEST(test_killed_writer_leaves_the_old_file)
{
	scratch_file("old", "old", 3);
	pid_t child = fork();
	if (child == 0) {
		struct target *t, *u;
		if (target_open(&t, "old", &synced, &e) < 0 || io_write(target_io(t), "half", 4, 0, &e) < 0 ||
			target_open(&u, "new", &synced, &e) < 0 || io_write(target_io(u), "half", 4, 0, &e) < 0)
			_exit(1);
		_exit(0);
	}
	int status;
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	assert_content("old", "old");
	ck_assert_uint_eq(scratch_count(), 1);
}
END_TEST

START_TEST(test_spool)
{
	struct io *io;
	struct stat st;
	char buf[4];
	OK(io_spool_new(&io, ".", &e));
	ck_assert_uint_eq(scratch_count(), 0);
	ck_assert_int_eq(fstat(io_file_fd(io), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	OK(io_write(io, "abcd", 4, 1 << 20, &e));
	OK(io_read(io, buf, 4, 1 << 20, &e));
	ck_assert_mem_eq(buf, "abcd", 4);
	io_close(io);
	FAILS(io_spool_new(&io, "missing", &e), ERR_NOT_FOUND);
	setenv("TMPDIR", "missing", 1);
	FAILS(io_spool_new(&io, NULL, &e), ERR_NOT_FOUND);
	setenv("TMPDIR", ".", 1);
	OK(io_spool_new(&io, NULL, &e));
	io_close(io);
	ck_assert_uint_eq(scratch_count(), 0);
}
END_TEST

Suite *suite_target(void);
Suite *suite_target(void)
{
	Suite *s = suite_create("target");
	TCase *t = tcase_create("target");
	tcase_add_checked_fixture(t, enter, scratch_leave);
	tcase_add_loop_test(t, test_new_file, 0, 3);
	tcase_add_loop_test(t, test_nothing_is_left_without_commit, 0, 3);
	tcase_add_loop_test(t, test_replace_keeps_mode_and_owner, 0, 3);
	tcase_add_test(t, test_symlinks);
	tcase_add_test(t, test_refused_targets);
	tcase_add_test(t, test_in_place);
	tcase_add_test(t, test_a_name_that_came_up_meanwhile_is_kept);
	tcase_add_test(t, test_locked_files_are_refused);
	tcase_add_test(t, test_permissions);
	tcase_add_test(t, test_hidden_names);
	tcase_add_test(t, test_long_name);
	tcase_add_test(t, test_killed_writer_leaves_the_old_file);
	tcase_add_test(t, test_spool);
	suite_add_tcase(s, t);
	return s;
}
