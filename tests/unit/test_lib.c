/* SPDX-License-Identifier: Apache-2.0
 *
 * The facade: each function, each way to misuse it.
 */
#include "lib/qsnap.h"

#include <check.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64], raw[128], qcow2[128];

static void set_up(void)
{
	snprintf(folder, sizeof folder, "/tmp/qsnap-lib-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(raw, sizeof raw, "%s/a.raw", folder);
	snprintf(qcow2, sizeof qcow2, "%s/a.qcow2", folder);
	int fd = open(raw, O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
	ck_assert_int_eq(pwrite(fd, "hello", 5, 300000), 5);
	close(fd);
}

static void tear_down(void)
{
	unlink(raw);
	unlink(qcow2);
	rmdir(folder);
}

static struct qsnap_error err;

static void convert(const struct qsnap_convert_options *o)
{
	ck_assert_msg(qsnap_convert(raw, NULL, qcow2, o, &err) == 0, "%s", err.message);
}

START_TEST(test_convert_and_look)
{
	struct qsnap_convert_options o = {
		sizeof o, .format = "qcow2", .compress = 1, .compression = "zstd", .threads = -1};
	struct qsnap_layer layer = {.size = sizeof layer};
	struct qsnap_snapshot snapshot = {.size = sizeof snapshot};
	qsnap_image *image;

	convert(&o);
	ck_assert_msg(qsnap_open(&image, qcow2, NULL, &err) == 0, "%s", err.message);
	ck_assert_uint_eq(qsnap_size(image), 1 << 20);
	ck_assert_uint_eq(qsnap_layer_count(image), 1);
	ck_assert_int_eq(qsnap_layer_info(image, 0, &layer, &err), 0);
	ck_assert_str_eq(layer.path, qcow2);
	ck_assert_str_eq(layer.format, "qcow2");
	ck_assert_ptr_null(layer.backing_name);
	ck_assert_uint_eq(layer.cluster_size, 65536);
	ck_assert_int_eq(qsnap_layer_info(image, 1, &layer, &err), -1);
	ck_assert_int_eq(qsnap_snapshot_info(image, 0, &snapshot, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_USAGE);
	qsnap_close(image);
}
END_TEST

START_TEST(test_extents_and_read)
{
	struct qsnap_convert_options o = {.size = sizeof o, .format = "qcow2"};
	struct qsnap_extent x = {.size = sizeof x};
	qsnap_image *image;
	char bytes[6] = "";

	convert(&o);
	ck_assert_int_eq(qsnap_open(&image, qcow2, NULL, &err), 0);
	ck_assert_int_eq(qsnap_extent_at(image, 0, 0, &x, &err), 0);
	ck_assert_uint_eq(x.length, 262144);
	ck_assert_uint_eq(x.flags, 0);
	ck_assert_int_eq(qsnap_extent_at(image, 262144, 300000, &x, &err), 0);
	ck_assert_uint_eq(x.length, 300000 - 262144);
	ck_assert_uint_eq(x.flags, QSNAP_EXTENT_DATA | QSNAP_EXTENT_PRESENT | QSNAP_EXTENT_HOST);
	ck_assert_int_eq(qsnap_extent_at(image, 1 << 20, 0, &x, &err), -1);
	ck_assert_int_eq(qsnap_read(image, bytes, 5, 300000, &err), 0);
	ck_assert_str_eq(bytes, "hello");
	ck_assert_int_eq(qsnap_read(image, bytes, 5, (1 << 20) - 4, &err), -1);
	ck_assert_int_eq(qsnap_read(image, bytes, 5, UINT64_MAX - 2, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_USAGE);
	qsnap_close(image);
}
END_TEST

START_TEST(test_open_options)
{
	struct qsnap_open_options o = {.size = sizeof o, .flags = QSNAP_OPEN_UNTRUSTED};
	qsnap_image *image;

	ck_assert_int_eq(qsnap_open(&image, raw, &o, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_DENIED);
	o.format = "raw";
	ck_assert_msg(qsnap_open(&image, raw, &o, &err) == 0, "%s", err.message);
	qsnap_close(image);
	o.max_virtual_size = 1000;
	ck_assert_int_eq(qsnap_open(&image, raw, &o, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_LIMIT);
	o = (struct qsnap_open_options){.size = sizeof o, .format = "frob"};
	ck_assert_int_eq(qsnap_open(&image, raw, &o, &err), -1);
	o = (struct qsnap_open_options){.format = "raw"};
	ck_assert_int_eq(qsnap_open(&image, raw, &o, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_USAGE);
	o = (struct qsnap_open_options){.size = sizeof o, .flags = 1u << 31};
	ck_assert_int_eq(qsnap_open(&image, raw, &o, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_UNSUPPORTED);
	ck_assert_ptr_null(image);
	/* nobody has to ask for the reason */
	ck_assert_int_eq(qsnap_open(&image, raw, &o, NULL), -1);
	ck_assert_int_eq(qsnap_open(&image, "/nonexistent", NULL, NULL), -1);
	/* an older caller's structure ends earlier */
	o = (struct qsnap_open_options){
		.size = offsetof(struct qsnap_open_options, flags), .format = "raw", .flags = ~0u};
	ck_assert_msg(qsnap_open(&image, raw, &o, &err) == 0, "%s", err.message);
	qsnap_close(image);
	o = (struct qsnap_open_options){.size = sizeof o, .snapshot = "none"};
	ck_assert_int_eq(qsnap_open(&image, raw, &o, &err), -1);
	qsnap_close(NULL);
}
END_TEST

/* Programs compiled with a newer header: what we do not know must be 0, what they get is 0. */
START_TEST(test_newer_structures)
{
	struct {
		struct qsnap_open_options known;
		uint64_t news;
	} o = {.known = {.size = sizeof o, .format = "raw"}, .news = 0};
	struct {
		struct qsnap_layer known;
		uint64_t news;
	} layer = {.known = {.size = sizeof layer}, .news = 7};
	qsnap_image *image;

	ck_assert_msg(qsnap_open(&image, raw, &o.known, &err) == 0, "%s", err.message);
	ck_assert_int_eq(qsnap_layer_info(image, 0, &layer.known, &err), 0);
	ck_assert_uint_eq(layer.known.size, sizeof layer);
	ck_assert_uint_eq(layer.known.virtual_size, 1 << 20);
	ck_assert_uint_eq(layer.news, 0);
	layer.known.size = offsetof(struct qsnap_layer, format);
	layer.known.path = layer.known.format = NULL;
	ck_assert_int_eq(qsnap_layer_info(image, 0, &layer.known, &err), 0);
	ck_assert_str_eq(layer.known.path, raw);
	ck_assert_ptr_null(layer.known.format);
	layer.known.size = 0;
	ck_assert_int_eq(qsnap_layer_info(image, 0, &layer.known, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_USAGE);
	qsnap_close(image);
	o.news = 1;
	ck_assert_int_eq(qsnap_open(&image, raw, &o.known, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_UNSUPPORTED);
}
END_TEST

START_TEST(test_layers)
{
	struct qsnap_convert_options c = {.size = sizeof c,
		.format = "qcow2",
		.backing_name = "a.raw",
		.backing_format = "raw",
		.cluster_size = 16384,
		.flags = QSNAP_CONVERT_EXTENDED_L2};
	struct qsnap_layer layer = {.size = sizeof layer};
	struct qsnap_extent x = {.size = sizeof x};
	qsnap_image *image;
	char bytes[6] = "";

	convert(&c);
	ck_assert_msg(qsnap_open(&image, qcow2, NULL, &err) == 0, "%s", err.message);
	ck_assert_uint_eq(qsnap_layer_count(image), 2);
	ck_assert_int_eq(qsnap_layer_info(image, 0, &layer, &err), 0);
	ck_assert_str_eq(layer.backing_name, "a.raw");
	ck_assert_str_eq(layer.backing_format, "raw");
	ck_assert_uint_eq(layer.version, 3);
	ck_assert_uint_eq(layer.flags, QSNAP_LAYER_PROBED | QSNAP_LAYER_EXTENDED_L2);
	ck_assert_int_eq(qsnap_layer_info(image, 1, &layer, &err), 0);
	ck_assert_str_eq(layer.path, raw);
	ck_assert_uint_eq(layer.version + layer.cluster_size + layer.flags, 0);
	ck_assert_int_eq(qsnap_verify(image, &err), 0);
	ck_assert_int_eq(qsnap_extent_at(image, 300000, 0, &x, &err), 0);
	ck_assert_uint_eq(x.layer, 0);
	ck_assert_str_eq(x.file, qcow2);
	ck_assert_int_eq(qsnap_read(image, bytes, 5, 300000, &err), 0);
	ck_assert_str_eq(bytes, "hello");
	qsnap_close(image);
	c.backing_format = NULL;
	ck_assert_int_eq(qsnap_convert(raw, NULL, qcow2, &c, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_USAGE);
}
END_TEST

static void count_warnings(void *context, const char *text)
{
	ck_assert_ptr_nonnull(text);
	*(int *)context += 1;
}

START_TEST(test_convert_options)
{
	const char *more[] = {raw, raw};
	struct qsnap_convert_result result = {.size = sizeof result};
	int warnings = 0;
	struct qsnap_convert_options o = {.size = sizeof o,
		.more_sources = more,
		.more_source_count = 2,
		.hash = "sha256",
		.warn = count_warnings,
		.context = &warnings,
		.sparse_size = 65536,
		.result = &result};
	convert(&o);
	ck_assert_uint_eq(result.virtual_size, 3 << 20);
	ck_assert_uint_eq(result.target_size, 3 << 20);
	ck_assert_uint_eq(strlen(result.digest), 64);
	ck_assert_int_eq(warnings, 0);
	/* the same image through a descriptor */
	char digest[136];
	memcpy(digest, result.digest, sizeof digest);
	FILE *out = tmpfile();
	o.target_fd = fileno(out);
	ck_assert_msg(qsnap_convert(raw, NULL, NULL, &o, &err) == 0, "%s", err.message);
	ck_assert_str_eq(result.digest, digest);
	ck_assert_int_eq(fseek(out, 2 * (1 << 20) + 300000, SEEK_SET), 0);
	ck_assert_int_eq(fgetc(out), 'h');
	fclose(out);
}
END_TEST

START_TEST(test_nonsense_conversions)
{
	struct qsnap_open_options snapshot = {.size = sizeof snapshot, .snapshot = "a"};
	struct qsnap_convert_result unset = {.size = 0};
	const char *more[] = {raw};
	const struct qsnap_convert_options cases[] = {
		{.flags = 1u << 31},
		{.flags = QSNAP_CONVERT_TARGET_IS_ZERO},
		{.threads = 257},
		{.threads = -2},
		{.sparse_size = 100},
		{.more_source_count = 1},
		{.more_source_count = 20000, .more_sources = more},
		{.compress = 1, .format = "raw"},
		{.format = "qcow2", .level = 13},
		{.format = "qcow2", .level = -2},
		{.format = "qcow2", .level = 20, .compression = "zstd"},
		{.format = "qcow2", .flags = QSNAP_CONVERT_VERSION_2, .compression = "zstd"},
		{.hash = "no such digest"},
		{.result = &unset},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct qsnap_convert_options o = cases[i];
		o.size = sizeof o;
		err.code = QSNAP_OK;
		ck_assert_msg(qsnap_convert(raw, NULL, qcow2, &o, &err) == -1, "case %zu", i);
		ck_assert_msg(err.code == (i == 0 ? QSNAP_ERROR_UNSUPPORTED : QSNAP_ERROR_USAGE), "case %zu: %d %s", i,
			err.code, err.message);
		ck_assert_int_ne(access(qcow2, F_OK), 0);
	}
	struct qsnap_convert_options o = {.size = sizeof o, .more_sources = more, .more_source_count = 1};
	ck_assert_int_eq(qsnap_convert(raw, &snapshot, qcow2, &o, &err), -1);
	o = (struct qsnap_convert_options){.size = sizeof o, .flags = QSNAP_CONVERT_IN_PLACE};
	ck_assert_int_eq(qsnap_convert(raw, NULL, NULL, &o, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_USAGE);
}
END_TEST

START_TEST(test_in_place)
{
	struct qsnap_convert_options o = {.size = sizeof o, .flags = QSNAP_CONVERT_IN_PLACE};
	char bytes[6] = "";

	ck_assert_int_eq(qsnap_convert(raw, NULL, qcow2, &o, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_NOT_FOUND);
	int fd = open(qcow2, O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(ftruncate(fd, 2 << 20), 0);
	ck_assert_int_eq(pwrite(fd, "xxx", 3, 100), 3);
	ck_assert_int_eq(pwrite(fd, "rest", 4, 1 << 20), 4);
	convert(&o);
	ck_assert_int_eq(pread(fd, bytes, 3, 100), 3);
	ck_assert_int_eq(bytes[0], 0);
	ck_assert_int_eq(pread(fd, bytes, 4, 1 << 20), 4);
	ck_assert_str_eq(bytes, "rest");
	close(fd);
	/* a source is no target */
	ck_assert_int_eq(qsnap_convert(raw, NULL, raw, NULL, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_USAGE);
}
END_TEST

START_TEST(test_top_only)
{
	struct qsnap_convert_options c = {.size = sizeof c, .format = "qcow2"};
	struct qsnap_open_options o = {.size = sizeof o, .flags = QSNAP_OPEN_TOP_ONLY};
	qsnap_image *image;
	char byte;

	convert(&c);
	ck_assert_int_eq(qsnap_open(&image, qcow2, &o, &err), 0);
	ck_assert_int_eq(qsnap_read(image, &byte, 1, 0, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_USAGE);
	qsnap_close(image);
	ck_assert_int_eq(qsnap_convert(raw, &o, qcow2, &c, &err), -1);
}
END_TEST

static int refuse(void *context, uint64_t done, uint64_t total)
{
	(void)done, (void)total;
	*(int *)context += 1;
	return 1;
}

START_TEST(test_failing_conversions)
{
	int calls = 0;
	struct qsnap_convert_options o = {.size = sizeof o, .format = "frob"};
	ck_assert_int_eq(qsnap_convert(raw, NULL, qcow2, &o, &err), -1);
	o = (struct qsnap_convert_options){.size = sizeof o, .format = "qcow2", .compression = "lzma"};
	ck_assert_int_eq(qsnap_convert(raw, NULL, qcow2, &o, &err), -1);
	o = (struct qsnap_convert_options){.size = sizeof o, .format = "qcow2", .cluster_size = 3000};
	ck_assert_int_eq(qsnap_convert(raw, NULL, qcow2, &o, &err), -1);
	o = (struct qsnap_convert_options){.size = sizeof o, .progress = refuse, .context = &calls};
	ck_assert_int_eq(qsnap_convert(raw, NULL, qcow2, &o, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_CANCELLED);
	ck_assert_int_gt(calls, 0);
	ck_assert_int_eq(qsnap_convert("/nonexistent", NULL, qcow2, NULL, &err), -1);
	ck_assert_int_eq(err.code, QSNAP_ERROR_NOT_FOUND);
	ck_assert_int_eq(qsnap_convert(raw, NULL, "-", NULL, &err), -1);
	ck_assert_int_ne(access(qcow2, F_OK), 0);
}
END_TEST

Suite *suite_lib(void);
Suite *suite_lib(void)
{
	Suite *s = suite_create("lib");
	TCase *tc = tcase_create("facade");
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_convert_and_look);
	tcase_add_test(tc, test_extents_and_read);
	tcase_add_test(tc, test_open_options);
	tcase_add_test(tc, test_newer_structures);
	tcase_add_test(tc, test_layers);
	tcase_add_test(tc, test_convert_options);
	tcase_add_test(tc, test_nonsense_conversions);
	tcase_add_test(tc, test_in_place);
	tcase_add_test(tc, test_top_only);
	tcase_add_test(tc, test_failing_conversions);
	suite_add_tcase(s, tc);
	return s;
}
