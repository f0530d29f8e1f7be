/* SPDX-License-Identifier: Apache-2.0
 *
 * base/: errors, memory, sizes as text, JSON.
 */
#include "base/base.h"

#include <check.h>
#include <errno.h>

START_TEST(test_errors)
{
	struct error e = {0};
	ck_assert_int_eq(err_set(&e, ERR_CORRUPT, "entry %d", 7), -1);
	ck_assert_int_eq(e.code, ERR_CORRUPT);
	ck_assert_int_eq(e.sys_errno, 0);
	ck_assert_str_eq(e.msg, "entry 7");
	ck_assert_int_eq(err_prefix(&e, "snapshot %d", 3), -1);
	ck_assert_str_eq(e.msg, "snapshot 3: entry 7");
	ck_assert_int_eq(e.code, ERR_CORRUPT);
	err_set(&e, ERR_LIMIT, "[%s]", e.msg); /* its own text as an argument */
	ck_assert_str_eq(e.msg, "[snapshot 3: entry 7]");

	ck_assert_int_eq(err_sys(&e, ENOENT, "Could not open '%s'", "x"), -1);
	ck_assert_str_eq(e.msg, "Could not open 'x': No such file or directory");
	ck_assert_int_eq(e.code, ERR_NOT_FOUND);
	ck_assert_int_eq(e.sys_errno, ENOENT);
	err_sys(&e, ENOSPC, "x");
	ck_assert_int_eq(e.code, ERR_IO);
	ck_assert_int_eq(e.sys_errno, ENOSPC);
}
END_TEST

START_TEST(test_long_messages_are_cut)
{
	struct error e = {0};
	char big[3000];
	memset(big, 'a', sizeof big - 1);
	big[sizeof big - 1] = 0;
	err_set(&e, ERR_IO, "%s", big);
	ck_assert_uint_eq(strlen(e.msg), sizeof e.msg - 1);
	err_prefix(&e, "%s", big);
	ck_assert_uint_eq(strlen(e.msg), sizeof e.msg - 1);
	err_sys(&e, EIO, "%s", big);
	ck_assert_uint_lt(strlen(e.msg), sizeof e.msg);
	ck_assert_ptr_nonnull(strstr(e.msg, "Input/output error")); /* the reason survives */
}
END_TEST

/* Every length, every place of the one byte that is not zero, every alignment. */
START_TEST(test_is_zero)
{
	static uint8_t buf[700];
	for (size_t start = 0; start < 33; start += 8 + start % 3)
		for (size_t len = 0; len < 600; len++) {
			uint8_t *p = buf + start;
			ck_assert(mem_is_zero(p, len));
			p[len] = 1; /* just behind is not looked at */
			ck_assert(mem_is_zero(p, len));
			p[len] = 0;
			for (size_t at = 0; at < len; at += len < 140 ? 1 : 13) {
				p[at] = 0x80;
				ck_assert(!mem_is_zero(p, len));
				p[at] = 0;
			}
		}
}
END_TEST

START_TEST(test_is_zero_large)
{
	enum { LEN = 1 << 20 };
	uint8_t *p = calloc(1, LEN + 1);
	ck_assert_ptr_nonnull(p);
	for (size_t at = 0; at < LEN; at += 40961) {
		p[at + 1] = 1;
		ck_assert(!mem_is_zero(p + 1, LEN));
		p[at + 1] = 0;
		ck_assert(mem_is_zero(p + 1, LEN));
	}
	free(p);
}
END_TEST

START_TEST(test_memory)
{
	struct error e = {0};
	AUTO_FREE uint8_t *zeros = mem_calloc(3, 5, "a test", &e);
	ck_assert_ptr_nonnull(zeros);
	ck_assert(mem_is_zero(zeros, 15));
	AUTO_FREE void *none = mem_calloc(0, 8, "a test", &e);
	ck_assert_ptr_nonnull(none);
	ck_assert_ptr_null(mem_calloc(SIZE_MAX / 2, 16, "the moon", &e));
	ck_assert_int_eq(e.code, ERR_NO_MEMORY);
	ck_assert_ptr_nonnull(strstr(e.msg, "the moon"));
	AUTO_FREE void *pages = mem_alloc_pages(100, "a test", &e);
	ck_assert_uint_eq((uintptr_t)pages % 4096, 0);
	AUTO_FREE char *text = mem_printf(&e, "%s-%d", "a", 5);
	ck_assert_str_eq(text, "a-5");
	char *taken = STEAL(text);
	ck_assert_ptr_null(text);
	free(taken);
}
END_TEST

/* What qemu-img makes of these texts, -EINVAL and -ERANGE included. */
static const struct {
	const char *text;
	int64_t bytes;
} sizes[] = {
	{"0", 0},
	{"512", 512},
	{"1k", 1024},
	{"1K", 1024},
	{"1.5G", 1610612736},
	{"0x10", 16},
	{"0X1e", 30},
	{"0x1E", 30},
	{"0x10k", 16384},
	{"0.5k", 512},
	{".5k", 512},
	{"1.1k", 1126},
	{"1.k", 1024},
	{"1.0", 1},
	{" 5", 5},
	{"+5k", 5120},
	{"5b", 5},
	{"5B", 5},
	{"010", 10},
	{"1g", 1 << 30},
	{"1T", (int64_t)1 << 40},
	{"1p", (int64_t)1 << 50},
	{"1e", (int64_t)1 << 60},
	{"7.9E", 9108079886394091110},
	{"1.00000000001k", 1024},
	{"1.99999999999999999999999999999999999k", 2048},
	{"9223372036854775807", INT64_MAX},
	{"8E", -ERANGE},
	{"9223372036854775808", -ERANGE},
	{"18446744073709551615", -ERANGE},
	{"18446744073709551616", -ERANGE},
	{"99999999999999999999999999", -ERANGE},
	{"16777216T", -ERANGE},
	{"", -EINVAL},
	{" ", -EINVAL},
	{"-1", -EINVAL},
	{"-1k", -EINVAL},
	{"1e3", -EINVAL},
	{"1e3k", -EINVAL},
	{"1.5", -EINVAL},
	{"1.9b", -EINVAL},
	{"1 k", -EINVAL},
	{"1k ", -EINVAL},
	{"1kB", -EINVAL},
	{"1KiB", -EINVAL},
	{"12x", -EINVAL},
	{"0x", -EINVAL},
	{"0x1.8k", -EINVAL},
	{"k", -EINVAL},
	{".", -EINVAL},
	{".k", -EINVAL},
	{"inf", -EINVAL},
	{"nan", -EINVAL},
};

START_TEST(test_size_parse)
{
	struct error e = {0};
	uint64_t bytes = 77;
	int rc = size_parse(sizes[_i].text, &bytes, &e);
	if (sizes[_i].bytes >= 0) {
		ck_assert_msg(rc == 0, "'%s': %s", sizes[_i].text, e.msg);
		ck_assert_uint_eq(bytes, (uint64_t)sizes[_i].bytes);
	} else {
		ck_assert_msg(rc == -1, "'%s' was taken for %llu", sizes[_i].text, (unsigned long long)bytes);
		ck_assert_int_eq(e.code, ERR_USAGE);
		ck_assert_int_eq(e.sys_errno, (int)-sizes[_i].bytes);
		ck_assert_uint_eq(bytes, 77);
	}
}
END_TEST

static const struct {
	uint64_t bytes;
	const char *text;
} formatted[] = {
	{0, "0 B"},
	{1, "1 B"},
	{512, "512 B"},
	{999, "999 B"},
	{1000, "0.977 KiB"},
	{1024, "1 KiB"},
	{1536, "1.5 KiB"},
	{197120, "192 KiB"},
	{200704, "196 KiB"},
	{1023488, "1e+03 KiB"},
	{1024000, "0.977 MiB"},
	{10240000, "9.77 MiB"},
	{1610612736, "1.5 GiB"},
	{(uint64_t)8 << 40, "8 TiB"},
	{(uint64_t)1 << 60, "1 EiB"},
	{INT64_MAX, "8 EiB"},
};

START_TEST(test_size_format)
{
	char buf[32];
	ck_assert_str_eq(size_format(formatted[_i].bytes, buf), formatted[_i].text);
}
END_TEST

static void write_sample(struct json *j)
{
	json_object_begin(j, NULL);
	json_uint(j, "size", UINT64_MAX);
	json_int(j, "delta", -5);
	json_bool(j, "dirty", false);
	json_object_begin(j, "empty");
	json_object_end(j);
	json_array_begin(j, "flags");
	json_array_end(j);
	json_array_begin(j, "list");
	json_string(j, NULL, "a");
	json_object_begin(j, NULL);
	json_double(j, "x", 0.5);
	json_object_end(j);
	json_array_end(j);
	json_object_end(j);
}

/* The layout was taken from `qemu-img info --output=json`. */
START_TEST(test_json_layout)
{
	static const char *const expected[] = {
		"{\n"
		"    \"size\": 18446744073709551615,\n"
		"    \"delta\": -5,\n"
		"    \"dirty\": false,\n"
		"    \"empty\": {\n"
		"    },\n"
		"    \"flags\": [\n"
		"    ],\n"
		"    \"list\": [\n"
		"        \"a\",\n"
		"        {\n"
		"            \"x\": 0.5\n"
		"        }\n"
		"    ]\n"
		"}",
		"{\"size\": 18446744073709551615, \"delta\": -5, \"dirty\": false, \"empty\": {}, \"flags\": [], "
		"\"list\": [\"a\", {\"x\": 0.5}]}",
	};
	char *text;
	size_t len;
	struct json j;
	json_init(&j, open_memstream(&text, &len), _i == 1);
	write_sample(&j);
	fclose(j.out);
	ck_assert_str_eq(text, expected[_i]);
	free(text);
}
END_TEST

static const struct {
	const char *in, *out;
} strings[] = {
	{"", ""},
	{"a\"b\\c/", "a\\\"b\\\\c/"},
	{"\b\f\n\r\t\x01\x7f", "\\b\\f\\n\\r\\t\\u0001\\u007F"},
	{"\xc3\xa9", "\\u00E9"},
	{"\xe2\x82\xac", "\\u20AC"},
	{"\xf0\x9f\x98\x80", "\\uD83D\\uDE00"},
	{"x\xffy", "x\\uFFFDy"},
	{"\xc3", "\\uFFFD"},
	{"\xe2\x82", "\\uFFFD"},
	{"\xe2\x82z", "\\uFFFDz"},
	{"\xc0\xaf", "\\uFFFD"},
	{"\xf8\x88\x80\x80\x80z", "\\uFFFDz"},
	{"\xfc\x84\x80\x80\x80\x80z", "\\uFFFDz"},
	{"\xfe\x80", "\\uFFFD\\uFFFD"},
	{"\xe0\x80\x80", "\\uFFFD"},
	{"\xed\xa0\x80", "\\uFFFD"},
	{"\xef\xbf\xbf", "\\uFFFD"},
	{"\xf4\x90\x80\x80", "\\uFFFD"},
	{"\x80\x80", "\\uFFFD\\uFFFD"},
};

START_TEST(test_json_strings)
{
	char *text, expected[100];
	size_t len;
	struct json j;
	json_init(&j, open_memstream(&text, &len), true);
	json_string(&j, NULL, strings[_i].in);
	fclose(j.out);
	snprintf(expected, sizeof expected, "\"%s\"", strings[_i].out);
	ck_assert_str_eq(text, expected);
	free(text);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

Suite *suite_base(void);
Suite *suite_base(void)
{
	Suite *s = suite_create("base");
	TCase *t = tcase_create("base");
	tcase_add_test(t, test_errors);
	tcase_add_test(t, test_long_messages_are_cut);
	tcase_add_test(t, test_is_zero);
	tcase_add_test(t, test_is_zero_large);
	tcase_add_test(t, test_memory);
	tcase_add_loop_test(t, test_size_parse, 0, COUNT(sizes));
	tcase_add_loop_test(t, test_size_format, 0, COUNT(formatted));
	tcase_add_loop_test(t, test_json_layout, 0, 2);
	tcase_add_loop_test(t, test_json_strings, 0, COUNT(strings));
	suite_add_tcase(s, t);
	return s;
}
