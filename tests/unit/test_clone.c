/* SPDX-License-Identifier: Apache-2.0
 *
 * io_clone on file systems that have reflinks, made in a file and mounted by way of a loop device; as root only.
 */
#include "io/io.h"

#include "tests/unit/scratch.h"

#include <check.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 4096, LEN = 64 * BLOCK + 1000 };

static struct error e;
static bool mounted; /* in the current folder, at mnt */
static uint8_t bytes[LEN], got[LEN + BLOCK];

static const struct {
	const char *make, *mount;
} systems[] = {
	{"truncate -s 320M fs && mkfs.xfs -q fs", "mount -o loop -t xfs fs mnt"},
	{"truncate -s 128M fs && mkfs.btrfs -q fs", "mount -o loop -t btrfs fs mnt"},
};

static bool run(const char *command)
{
	char quiet[300];
	snprintf(quiet, sizeof quiet, "{ %s; } >/dev/null 2>&1", command);
	int status = system(quiet);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool enter(int i)
{
	if (geteuid() != 0 || !scratch_enter(SCRATCH_DISK))
		return false;
	ck_assert_int_eq(mkdir("mnt", 0755), 0);
	mounted = run(systems[i].make) && run(systems[i].mount);
	if (mounted)
		return true;
	scratch_leave();
	return false;
}

static void leave(void)
{
	/* The loop device that `mount -o loop` made goes with the mount. */
	if (mounted)
		umount2("mnt", MNT_DETACH);
	mounted = false;
	scratch_leave();
}

START_TEST(test_clone)
{
	struct io *src, *dst, *other;
	if (!enter(_i))
		return;
	for (unsigned i = 0; i < LEN; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 256);
	scratch_file("mnt/src", bytes, LEN);
	scratch_file("mnt/dst", "", 0);
	scratch_file("other", "", 0);
	ck_assert_int_eq(io_file_open(&src, "mnt/src", 0, &e), 0);
	ck_assert_int_eq(io_file_open(&dst, "mnt/dst", IO_OPEN_WRITE, &e), 0);
	ck_assert_int_eq(io_file_open(&other, "other", IO_OPEN_WRITE, &e), 0);
	ck_assert(src->caps & dst->caps & IO_CAN_CLONE);

	ck_assert_int_eq(io_clone(dst, 2 * BLOCK, src, BLOCK, 10 * BLOCK, &e), 0);
	ck_assert_uint_eq(dst->size, 12 * BLOCK);
	ck_assert_int_eq(io_read(dst, got, 10 * BLOCK, 2 * BLOCK, &e), 0);
	ck_assert_mem_eq(got, bytes + BLOCK, 10 * BLOCK);
	/* The odd end of the source fits at the end of the target. */
	ck_assert_int_eq(io_clone(dst, 20 * BLOCK, src, 63 * BLOCK, BLOCK + 1000, &e), 0);
	ck_assert_uint_eq(dst->size, 21 * BLOCK + 1000);
	ck_assert_int_eq(io_read(dst, got, BLOCK + 1000, 20 * BLOCK, &e), 0);
	ck_assert_mem_eq(got, bytes + 63 * BLOCK, BLOCK + 1000);

	uint64_t size = dst->size;
	ck_assert_int_eq(io_clone(dst, 512, src, 0, BLOCK, &e), 1);
	ck_assert_int_eq(io_clone(dst, 0, src, 0, 512, &e), 1);
	ck_assert_int_eq(io_clone(dst, 0, src, 100 * BLOCK, BLOCK, &e), 1);
	ck_assert_int_eq(io_clone(other, 0, src, 0, BLOCK, &e), 1);
	ck_assert_int_eq(io_clone(src, 0, dst, 0, BLOCK, &e), 1); /* not opened for writing */
	ck_assert_int_eq(io_clone(dst, 0, src, 0, 0, &e), 0);
	ck_assert_uint_eq(dst->size, size);
	ck_assert_int_eq(io_copy_range(dst, 0, src, 77, 4 * BLOCK, &e), 0);
	ck_assert_int_eq(io_read(dst, got, 4 * BLOCK, 0, &e), 0);
	ck_assert_mem_eq(got, bytes + 77, 4 * BLOCK);

	io_close(src);
	io_close(dst);
	io_close(other);
	leave();
}
END_TEST

Suite *suite_clone(void);
Suite *suite_clone(void)
{
	Suite *s = suite_create("clone");
	TCase *t = tcase_create("clone");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, NULL, leave);
	tcase_add_loop_test(t, test_clone, 0, (int)(sizeof systems / sizeof *systems));
	suite_add_tcase(s, t);
	return s;
}
