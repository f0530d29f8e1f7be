/* SPDX-License-Identifier: Apache-2.0
 *
 * The facade's changes: bytes, snapshots, what differs, deltas; and each way to misuse them.
 */
#include "lib/qsnap.h"
#include "qcow2/writer.h"

#include <check.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 4 << 20, CLUSTER = 65536 };

static char folder[64], raw[128], top[128], copy[128];
static struct qsnap_error err;

static void ok(int rc)
{
	ck_assert_msg(rc >= 0, "%s", err.message);
}

static void refused(int rc, int code)
{
	ck_assert_int_eq(rc, -1);
	ck_assert_msg(err.code == code, "%d: %s", err.code, err.message);
}

/* An empty disk over a raw one with "base" at its start. */
static void set_up(void)
{
	struct image_create c;
	struct error e;
	struct io *made;
	snprintf(folder, sizeof folder, "/tmp/qsnap-lib-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(raw, sizeof raw, "%s/base.raw", folder);
	snprintf(top, sizeof top, "%s/top.qcow2", folder);
	snprintf(copy, sizeof copy, "%s/copy.qcow2", folder);
	int fd = open(raw, O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(ftruncate(fd, SIZE), 0);
	ck_assert_int_eq(pwrite(fd, "base", 4, 0), 4);
	close(fd);
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = SIZE;
	c.backing_name = raw;
	c.backing_format = "raw";
	ck_assert_int_eq(io_memory_new(&made, "", 0, "top", &e), 0);
	ck_assert_msg(image_create_run(&c, made, NULL, &e) == 0, "%s", e.msg);
	fd = open(top, O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(pwrite(fd, io_memory_bytes(made), made->size, 0), (ssize_t)made->size);
	close(fd);
	io_close(made);
}

static void tear_down(void)
{
	unlink(raw);
	unlink(top);
	unlink(copy);
	rmdir(folder);
}

static qsnap_image *open_with(const char *path, const char *format, unsigned flags)
{
	struct qsnap_open_options o = {.size = sizeof o, .format = format, .flags = flags};
	qsnap_image *image;
	ok(qsnap_open(&image, path, &o, &err));
	return image;
}

static void expect(qsnap_image *image, const char *text, uint64_t guest)
{
	char bytes[32] = "";
	ok(qsnap_read(image, bytes, strlen(text), guest, &err));
	ck_assert_str_eq(bytes, text);
}

static void expect_zeros(qsnap_image *image, uint64_t guest, uint64_t length)
{
	static char bytes[SIZE];
	ok(qsnap_read(image, bytes, length, guest, &err));
	for (uint64_t i = 0; i < length; i++)
		ck_assert_int_eq(bytes[i], 0);
}

START_TEST(what_is_written_is_there)
{
	struct qsnap_extent x = {.size = sizeof x};
	qsnap_image *image = open_with(top, "qcow2", QSNAP_OPEN_WRITE);
	expect(image, "base", 0);
	ok(qsnap_extent_at(image, 0, 0, &x, &err));
	ck_assert_uint_eq(x.layer, 1);
	ok(qsnap_write(image, "one", 3, 1, &err));
	ok(qsnap_write(image, "", 0, SIZE, &err));
	expect(image, "bone", 0);
	/* tables that are in memory only are seen, too */
	ok(qsnap_extent_at(image, 0, 0, &x, &err));
	ck_assert_uint_eq(x.layer, 0);
	ck_assert_uint_eq(x.length, CLUSTER);
	ok(qsnap_zero(image, 0, 2, 0, &err));
	ok(qsnap_write(image, "two", 3, 3 * CLUSTER + 1, &err));
	ok(qsnap_zero(image, CLUSTER, CLUSTER, QSNAP_ZERO_UNMAP, &err));
	ok(qsnap_discard(image, 3 * CLUSTER, CLUSTER, &err));
	expect_zeros(image, CLUSTER, 3 * CLUSTER);
	ok(qsnap_flush(image, &err));
	ok(qsnap_finish(image, &err));
	expect(image, "ne", 2);
	refused(qsnap_write(image, "x", 1, 0, &err), QSNAP_ERROR_USAGE);
	ok(qsnap_finish(image, &err));
	qsnap_close(image);
	image = open_with(top, NULL, 0);
	expect_zeros(image, 0, 2);
	expect(image, "ne", 2);
	ok(qsnap_extent_at(image, CLUSTER, 0, &x, &err));
	ck_assert_uint_eq(x.flags, QSNAP_EXTENT_PRESENT);
	qsnap_close(image);
}
END_TEST

START_TEST(a_raw_disk_is_its_file)
{
	struct stat st;
	qsnap_image *image = open_with(raw, "raw", QSNAP_OPEN_WRITE);
	ok(qsnap_write(image, "raw", 3, SIZE - 3, &err));
	refused(qsnap_write(image, "raw", 3, SIZE - 2, &err), QSNAP_ERROR_USAGE);
	refused(qsnap_write(image, "raw", 3, UINT64_MAX - 1, &err), QSNAP_ERROR_USAGE);
	ok(qsnap_zero(image, 0, 2, 0, &err));
	ok(qsnap_discard(image, CLUSTER, CLUSTER, &err));
	ok(qsnap_flush(image, &err));
	expect(image, "se", 2);
	expect(image, "raw", SIZE - 3);
	refused(qsnap_snapshot_create(image, "s", NULL, &err), QSNAP_ERROR_UNSUPPORTED);
	qsnap_diff *diff;
	refused(qsnap_diff_open(&diff, image, NULL, NULL, &err), QSNAP_ERROR_UNSUPPORTED);
	ck_assert_ptr_null(diff);
	ok(qsnap_finish(image, &err));
	qsnap_close(image);
	ck_assert_int_eq(stat(raw, &st), 0);
	ck_assert_int_eq(st.st_size, SIZE);
}
END_TEST

static unsigned snapshots_of(qsnap_image *image)
{
	struct qsnap_layer layer = {.size = sizeof layer};
	ok(qsnap_layer_info(image, 0, &layer, &err));
	return layer.snapshot_count;
}

START_TEST(snapshots_come_and_go)
{
	struct qsnap_snapshot_options one = {.size = sizeof one, .threads = -1};
	struct qsnap_snapshot s = {.size = sizeof s};
	qsnap_image *image = open_with(top, "qcow2", QSNAP_OPEN_WRITE);
	ok(qsnap_write(image, "first", 5, 0, &err));
	ok(qsnap_snapshot_create(image, "a", NULL, &err));
	ok(qsnap_write(image, "later", 5, 0, &err));
	ok(qsnap_snapshot_create(image, "b", &one, &err));
	ck_assert_uint_eq(snapshots_of(image), 2);
	ok(qsnap_snapshot_info(image, 1, &s, &err));
	ck_assert_str_eq(s.id, "2");
	ck_assert_str_eq(s.name, "b");
	ck_assert_uint_eq(s.disk_size, SIZE);
	ck_assert_uint_gt(s.date_seconds, 1700000000);
	ok(qsnap_snapshot_apply(image, "a", &one, &err));
	expect(image, "first", 0);
	ok(qsnap_snapshot_delete(image, "1", NULL, &err));
	ck_assert_uint_eq(snapshots_of(image), 1);
	refused(qsnap_snapshot_delete(image, "a", NULL, &err), QSNAP_ERROR_NOT_FOUND);
	refused(qsnap_snapshot_apply(image, "a", NULL, &err), QSNAP_ERROR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(err.message, top));
	expect(image, "first", 0);
	ok(qsnap_finish(image, &err));
	refused(qsnap_snapshot_create(image, "c", NULL, &err), QSNAP_ERROR_USAGE);
	qsnap_close(image);
	/* for snapshots the backing file is not needed */
	unlink(raw);
	image = open_with(top, "qcow2", QSNAP_OPEN_WRITE | QSNAP_OPEN_TOP_ONLY);
	ok(qsnap_snapshot_apply(image, "b", NULL, &err));
	refused(qsnap_write(image, "x", 1, 0, &err), QSNAP_ERROR_USAGE);
	one.flags = 2;
	refused(qsnap_snapshot_create(image, "c", &one, &err), QSNAP_ERROR_UNSUPPORTED);
	one.flags = QSNAP_SNAPSHOT_WIDEN;
	one.threads = 1000;
	refused(qsnap_snapshot_create(image, "c", &one, &err), QSNAP_ERROR_USAGE);
	one.size = 0;
	refused(qsnap_snapshot_create(image, "c", &one, &err), QSNAP_ERROR_USAGE);
	ck_assert_uint_eq(snapshots_of(image), 1);
	qsnap_close(image);
}
END_TEST

START_TEST(opened_for_writing_by_one_alone)
{
	struct qsnap_open_options o = {.size = sizeof o, .flags = QSNAP_OPEN_WRITE};
	qsnap_image *image, *other;
	refused(qsnap_open(&image, raw, &o, &err), QSNAP_ERROR_USAGE);
	ck_assert_ptr_null(image);
	o.flags |= QSNAP_OPEN_SHARED;
	refused(qsnap_open(&image, top, &o, &err), QSNAP_ERROR_USAGE);
	o = (struct qsnap_open_options){.size = sizeof o, .flags = QSNAP_OPEN_WRITE, .snapshot = "s"};
	refused(qsnap_open(&image, top, &o, &err), QSNAP_ERROR_USAGE);
	image = open_with(top, "qcow2", QSNAP_OPEN_WRITE);
	o = (struct qsnap_open_options){.size = sizeof o};
	refused(qsnap_open(&other, top, &o, &err), QSNAP_ERROR_BUSY);
	o.flags = QSNAP_OPEN_WRITE;
	refused(qsnap_open(&other, top, &o, &err), QSNAP_ERROR_BUSY);
	qsnap_close(image);
	image = open_with(top, NULL, 0);
	refused(qsnap_write(image, "x", 1, 0, &err), QSNAP_ERROR_USAGE);
	refused(qsnap_zero(image, 0, 1, 0, &err), QSNAP_ERROR_USAGE);
	refused(qsnap_discard(image, 0, 1, &err), QSNAP_ERROR_USAGE);
	refused(qsnap_flush(image, &err), QSNAP_ERROR_USAGE);
	ok(qsnap_finish(image, &err));
	qsnap_close(image);
	struct qsnap_convert_options c = {.size = sizeof c};
	refused(qsnap_convert(top, &o, copy, &c, &err), QSNAP_ERROR_USAGE);
}
END_TEST

/* One cluster written before the snapshot, and zeros afterwards; two others afterwards. */
static qsnap_image *with_changes(void)
{
	qsnap_image *image = open_with(top, "qcow2", QSNAP_OPEN_WRITE);
	ok(qsnap_write(image, "old", 3, 8 * CLUSTER, &err));
	ok(qsnap_snapshot_create(image, "a", NULL, &err));
	ok(qsnap_write(image, "new", 3, 2 * CLUSTER, &err));
	ok(qsnap_write(image, "new", 3, 3 * CLUSTER, &err));
	ok(qsnap_zero(image, 8 * CLUSTER, CLUSTER, 0, &err));
	return image;
}

static void expect_next(qsnap_diff *diff, uint64_t start, uint64_t length, int kind)
{
	struct qsnap_difference d = {.size = sizeof d};
	ck_assert_int_eq(qsnap_diff_next(diff, &d, &err), 1);
	ck_assert_uint_eq(d.start, start);
	ck_assert_uint_eq(d.length, length);
	ck_assert_int_eq(d.kind, kind);
	ck_assert_int_eq(d.added, 0);
}

START_TEST(what_differs)
{
	struct qsnap_difference d = {.size = sizeof d};
	qsnap_diff *diff;
	qsnap_image *image = with_changes();
	ok(qsnap_diff_open(&diff, image, "a", NULL, &err));
	expect_next(diff, 2 * CLUSTER, 2 * CLUSTER, QSNAP_DIFFERENCE_DATA);
	expect_next(diff, 8 * CLUSTER, CLUSTER, QSNAP_DIFFERENCE_ZERO);
	ck_assert_int_eq(qsnap_diff_next(diff, &d, &err), 0);
	qsnap_diff_close(diff);
	ok(qsnap_diff_open(&diff, image, NULL, "a", &err));
	expect_next(diff, 8 * CLUSTER, CLUSTER, QSNAP_DIFFERENCE_DATA);
	ck_assert_int_eq(qsnap_diff_next(diff, &d, &err), 0);
	qsnap_diff_close(diff);
	refused(qsnap_diff_open(&diff, image, "none", NULL, &err), QSNAP_ERROR_NOT_FOUND);
	ck_assert_ptr_null(diff);
	ok(qsnap_diff_open(&diff, image, "a", NULL, &err));
	d.size = 0;
	refused(qsnap_diff_next(diff, &d, &err), QSNAP_ERROR_USAGE);
	qsnap_diff_close(diff);
	qsnap_diff_close(NULL);
	qsnap_close(image);
}
END_TEST

START_TEST(a_delta_since_a_snapshot)
{
	struct qsnap_open_options then = {.size = sizeof then, .snapshot = "a"};
	struct qsnap_convert_options o = {.size = sizeof o, .format = "raw"}, delta = {.size = sizeof delta,
										      .format = "qcow2",
										      .backing_name = raw,
										      .backing_format = "raw",
										      .since = "a"};
	struct qsnap_extent x = {.size = sizeof x};
	qsnap_image *image = with_changes();
	ok(qsnap_finish(image, &err));
	qsnap_close(image);
	/* the snapshot as a file, in the place of the old base, then what came later over it */
	ok(qsnap_convert(top, &then, copy, &o, &err));
	qsnap_image *base = open_with(copy, "raw", 0);
	expect(base, "old", 8 * CLUSTER);
	qsnap_close(base);
	ck_assert_int_eq(rename(copy, raw), 0);
	ok(qsnap_convert(top, NULL, copy, &delta, &err));
	image = open_with(copy, "qcow2", 0);
	ok(qsnap_extent_at(image, 0, 0, &x, &err));
	ck_assert_uint_eq(x.layer, 1);
	expect(image, "new", 2 * CLUSTER);
	expect(image, "new", 3 * CLUSTER);
	expect_zeros(image, 8 * CLUSTER, 3);
	ok(qsnap_extent_at(image, 2 * CLUSTER, 0, &x, &err));
	ck_assert_uint_eq(x.layer, 0);
	qsnap_close(image);
	delta.since = "none";
	refused(qsnap_convert(top, NULL, copy, &delta, &err), QSNAP_ERROR_NOT_FOUND);
	delta.since = "a";
	delta.backing_name = NULL;
	refused(qsnap_convert(top, NULL, copy, &delta, &err), QSNAP_ERROR_USAGE);
}
END_TEST

Suite *suite_lib_change(void);
Suite *suite_lib_change(void)
{
	Suite *s = suite_create("lib_change");
	TCase *t = tcase_create("facade");
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, what_is_written_is_there);
	tcase_add_test(t, a_raw_disk_is_its_file);
	tcase_add_test(t, snapshots_come_and_go);
	tcase_add_test(t, opened_for_writing_by_one_alone);
	tcase_add_test(t, what_differs);
	tcase_add_test(t, a_delta_since_a_snapshot);
	suite_add_tcase(s, t);
	return s;
}
