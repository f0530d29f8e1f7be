/* SPDX-License-Identifier: Apache-2.0
 *
 * Header extensions, FORMAT.md §4.
 */
#include <check.h>

#include "qcow2/format.h"

START_TEST(extensions_come_back_in_order)
{
	uint8_t buf[256];
	struct extension x;
	struct error e;
	size_t pos = 112, end;

	memset(buf, 0xee, sizeof buf);
	pos = extension_encode(buf, sizeof buf, pos, EXT_BACKING_FORMAT, "qcow2", 5);
	ck_assert_uint_eq(pos, 128);
	pos = extension_encode(buf, sizeof buf, pos, 0x12345678, NULL, 0);
	ck_assert_uint_eq(pos, 136);
	end = extension_encode(buf, sizeof buf, pos, EXT_END, NULL, 0);
	ck_assert_uint_eq(end, 144);
	ck_assert_mem_eq(buf + 120, "qcow2\0\0\0", 8);

	pos = 112;
	ck_assert_int_eq(extension_next(buf, sizeof buf, &pos, &x, &e), 1);
	ck_assert_uint_eq(x.type, EXT_BACKING_FORMAT);
	ck_assert_uint_eq(x.len, 5);
	ck_assert_mem_eq(x.data, "qcow2", 5);
	ck_assert_int_eq(extension_next(buf, sizeof buf, &pos, &x, &e), 1);
	ck_assert_uint_eq(x.type, 0x12345678);
	ck_assert_uint_eq(x.len, 0);
	ck_assert_int_eq(extension_next(buf, sizeof buf, &pos, &x, &e), 0);
	ck_assert_int_eq(extension_next(buf, sizeof buf, &pos, &x, &e), 0);
}
END_TEST

START_TEST(an_extension_must_end_in_time)
{
	static const struct {
		uint32_t len;
		size_t end;
		int rc;
	} cases[] = {
		{8, 16, 1},
		{9, 17, 1},
		{9, 16, -1},
		{8, 8, -1},
		{0, 8, 1},
		{0, 7, -1},
		{0, 1, -1},
		{0, 0, 0},
		{UINT32_MAX, 32, -1},
		{UINT32_MAX - 7, 32, -1},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		AUTO_FREE uint8_t *buf = calloc(1, cases[i].end ? cases[i].end : 1);
		uint8_t frame[8];
		struct extension x;
		struct error e;
		size_t pos = 0;

		put_be32(frame, 0xabcdef01);
		put_be32(frame + 4, cases[i].len);
		memcpy(buf, frame, min_u64(sizeof frame, cases[i].end));
		ck_assert_int_eq(extension_next(buf, cases[i].end, &pos, &x, &e), cases[i].rc);
		if (cases[i].rc < 0)
			ck_assert_int_eq(e.code, ERR_CORRUPT);
		if (cases[i].rc == 1) /* the padding may lie behind the end, then it was the last one */
			ck_assert_int_eq(extension_next(buf, cases[i].end, &pos, &x, &e), 0);
	}
}
END_TEST

START_TEST(a_start_behind_the_end_is_the_end)
{
	uint8_t buf[8] = {1};
	struct extension x;
	struct error e;
	size_t pos = 112;

	ck_assert_int_eq(extension_next(buf, sizeof buf, &pos, &x, &e), 0);
}
END_TEST

START_TEST(an_extension_that_does_not_fit_is_not_written)
{
	uint8_t buf[24] = {0};

	ck_assert_uint_eq(extension_encode(buf, 24, 0, 1, "0123456789abcdef", 16), 24);
	ck_assert_uint_eq(extension_encode(buf, 24, 0, 1, "0123456789abcdefg", 17), 0);
	ck_assert_uint_eq(extension_encode(buf, 23, 0, 1, "0123456789abcdef", 16), 0);
	ck_assert_uint_eq(extension_encode(buf, 24, 17, 1, NULL, 0), 0);
	ck_assert_uint_eq(extension_encode(buf, 24, 25, 1, NULL, 0), 0);
}
END_TEST

START_TEST(features_have_names)
{
	static const struct {
		unsigned kind, bit;
		const char *name;
	} cases[] = {
		{0, 0, "dirty bit"},
		{0, 1, "corrupt bit"},
		{0, 2, "external data file"},
		{0, 3, "compression type"},
		{0, 4, "extended L2 entries"},
		{1, 0, "lazy refcounts"},
		{2, 0, "bitmaps"},
		{2, 1, "raw external data"},
	};
	uint8_t buf[1000];
	struct extension x = {.type = EXT_FEATURE_NAMES, .data = buf};
	char name[47];

	x.len = (uint32_t)feature_table_encode(buf, sizeof buf);
	ck_assert_uint_eq(x.len, 8 * 48);
	ck_assert_uint_eq(feature_table_encode(buf, x.len - 1), 0);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		ck_assert(feature_name(&x, cases[i].kind, cases[i].bit, name));
		ck_assert_str_eq(name, cases[i].name);
	}
	ck_assert(!feature_name(&x, 0, 5, name));
	ck_assert(!feature_name(&x, 3, 0, name));
	x.len = 47; /* a row that is not whole */
	ck_assert(!feature_name(&x, 0, 0, name));
}
END_TEST

START_TEST(a_feature_name_is_safe_to_print)
{
	uint8_t row[48];
	struct extension x = {.type = EXT_FEATURE_NAMES, .len = 48, .data = row};
	char name[47];

	memset(row, 'a', sizeof row);
	row[0] = 0;
	row[1] = 63;
	row[2] = 0x1b;
	row[3] = 0xff;
	ck_assert(feature_name(&x, 0, 63, name));
	ck_assert_uint_eq(strlen(name), 46);
	ck_assert_mem_eq(name, "??aa", 4);
}
END_TEST

static const struct {
	const char *what;
	uint32_t count, reserved;
	uint64_t bytes, offset;
	enum err_code code;
} bitmaps_cases[] = {
	{"good", 1, 0, 24, 0x10000, ERR_OK},
	{"most", 65535, 0, 64 << 20, 0x10000, ERR_OK},
	{"none", 0, 0, 24, 0x10000, ERR_CORRUPT},
	{"too many", 65536, 0, 64 << 20, 0x10000, ERR_LIMIT},
	{"reserved field", 1, 1, 32, 0x10000, ERR_CORRUPT},
	{"directory too large", 1, 0, (64 << 20) + 1, 0x10000, ERR_LIMIT},
	{"directory too small", 2, 0, 47, 0x10000, ERR_CORRUPT},
	{"unaligned", 1, 0, 32, 0x10200, ERR_CORRUPT},
	{"at 0", 1, 0, 32, 0, ERR_CORRUPT},
	{"beyond 2^63", 1, 0, 1 << 20, (1ull << 63) - 65536, ERR_CORRUPT},
	{"at 2^64-64k", 1, 0, 32, 0xffffffffffff0000, ERR_CORRUPT},
};

START_TEST(the_bitmaps_extension_is_judged)
{
	struct bitmaps_extension in = {bitmaps_cases[_i].count, bitmaps_cases[_i].bytes, bitmaps_cases[_i].offset}, out;
	uint8_t buf[24];
	struct extension x = {EXT_BITMAPS, 24, buf};
	struct error e;
	int rc;

	ck_assert_uint_eq(bitmaps_extension_encode(&in, buf), 24);
	put_be32(buf + 4, bitmaps_cases[_i].reserved);
	rc = bitmaps_extension_decode(&x, 65536, &out, &e);
	ck_assert_msg((rc == 0) == (bitmaps_cases[_i].code == ERR_OK), "%s", bitmaps_cases[_i].what);
	if (rc) {
		ck_assert_int_eq(e.code, bitmaps_cases[_i].code);
		return;
	}
	ck_assert_uint_eq(in.count, out.count);
	ck_assert_uint_eq(in.directory_bytes, out.directory_bytes);
	ck_assert_uint_eq(in.directory_offset, out.directory_offset);
	x.len = 23;
	ck_assert_int_eq(bitmaps_extension_decode(&x, 65536, &out, &e), -1);
}
END_TEST

Suite *suite_format_extension(void);
Suite *suite_format_extension(void)
{
	Suite *s = suite_create("format_extension");
	TCase *t = tcase_create("extension");

	tcase_add_test(t, extensions_come_back_in_order);
	tcase_add_test(t, an_extension_must_end_in_time);
	tcase_add_test(t, a_start_behind_the_end_is_the_end);
	tcase_add_test(t, an_extension_that_does_not_fit_is_not_written);
	tcase_add_test(t, features_have_names);
	tcase_add_test(t, a_feature_name_is_safe_to_print);
	tcase_add_loop_test(t, the_bitmaps_extension_is_judged, 0, sizeof bitmaps_cases / sizeof bitmaps_cases[0]);
	suite_add_tcase(s, t);
	return s;
}
