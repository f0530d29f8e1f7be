/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries of variable length: the snapshot table and the bitmap directory, FORMAT.md §8 and §9.
 */
#include <check.h>

#include "qcow2/format.h"

static struct snapshot_entry good_snapshot(void)
{
	return (struct snapshot_entry){
		.l1_offset = 0x60000,
		.l1_entries = 1,
		.date_sec = 1700000000,
		.date_nsec = 5,
		.vm_clock_nsec = 77,
		.vm_state_bytes = 0x1234567890,
		.disk_size = 64 << 20,
		.has_disk_size = true,
		.icount = 42,
		.has_icount = true,
		.id_len = 1,
		.name_len = 4,
		.id = "7",
		.name = "na\0e",
	};
}

START_TEST(a_snapshot_survives_the_round_trip)
{
	struct snapshot_entry in = good_snapshot(), out;
	uint8_t buf[128];
	struct error e;

	ck_assert_uint_eq(snapshot_entry_encode(&in, buf, 71), 0);
	ck_assert_uint_eq(snapshot_entry_encode(&in, buf, sizeof buf), 72); /* 40 + 24 + 1 + 4, padded */
	ck_assert_int_eq(snapshot_entry_decode(buf, 72, &out, &e), 0);
	ck_assert_uint_eq(out.bytes, 72);
	ck_assert_uint_eq(out.extra_bytes, 24);
	ck_assert_uint_eq(out.l1_offset, in.l1_offset);
	ck_assert_uint_eq(out.l1_entries, in.l1_entries);
	ck_assert_uint_eq(out.date_sec, in.date_sec);
	ck_assert_uint_eq(out.date_nsec, in.date_nsec);
	ck_assert_uint_eq(out.vm_clock_nsec, in.vm_clock_nsec);
	ck_assert_uint_eq(out.vm_state_bytes, in.vm_state_bytes);
	ck_assert(out.has_disk_size && out.has_icount);
	ck_assert_uint_eq(out.disk_size, in.disk_size);
	ck_assert_uint_eq(out.icount, 42);
	ck_assert_mem_eq(out.id, "7", 1);
	ck_assert_uint_eq(out.name_len, 4);
	ck_assert_mem_eq(out.name, in.name, 4);
	ck_assert_uint_eq(get_be32(buf + 32), 0); /* the state does not fit into 32 bits */
}
END_TEST

START_TEST(extra_data_may_end_anywhere)
{
	for (uint32_t extra = 0; extra <= 32; extra++) {
		AUTO_FREE uint8_t *buf = calloc(1, 40 + extra + 2);
		struct snapshot_entry out;
		struct error e;

		memset(buf + 40, 0x11, extra);
		put_be32(buf + 32, 99);
		put_be32(buf + 36, extra);
		put_be16(buf + 12, 1);
		put_be16(buf + 14, 1);
		memcpy(buf + 40 + extra, "in", 2);
		ck_assert_int_eq(snapshot_entry_decode(buf, 40 + extra + 2, &out, &e), 0);
		ck_assert_uint_eq(out.vm_state_bytes, extra >= 8 ? 0x1111111111111111 : 99);
		ck_assert_int_eq(out.has_disk_size, extra >= 16);
		ck_assert_uint_eq(out.disk_size, extra >= 16 ? 0x1111111111111111 : 0);
		ck_assert_int_eq(out.has_icount, extra >= 24);
		ck_assert_uint_eq(out.icount, extra >= 24 ? 0x1111111111111111 : UINT64_MAX);
		ck_assert_mem_eq(out.id, "i", 1);
		ck_assert_mem_eq(out.name, "n", 1);
		ck_assert_uint_eq(out.bytes, align_up(40 + extra + 2, 8));
	}
}
END_TEST

START_TEST(a_short_buffer_asks_for_more)
{
	struct snapshot_entry in = good_snapshot(), out;
	uint8_t buf[72];
	struct error e;

	snapshot_entry_encode(&in, buf, sizeof buf);
	for (size_t len = 0; len < 72; len++) {
		AUTO_FREE uint8_t *exact = malloc(len ? len : 1);

		memcpy(exact, buf, len);
		/* 3 bytes of padding are not waited for: a file may end without them */
		ck_assert_int_eq(snapshot_entry_decode(exact, len, &out, &e), len < 69);
		ck_assert_uint_eq(out.bytes, len < 40 ? 40 : 72);
	}
}
END_TEST

START_TEST(extra_data_has_a_limit)
{
	uint8_t buf[40] = {0};
	struct snapshot_entry out;
	struct error e;

	put_be16(buf + 12, 65535);
	put_be16(buf + 14, 65535);
	put_be32(buf + 36, 1024);
	ck_assert_int_eq(snapshot_entry_decode(buf, sizeof buf, &out, &e), 1);
	ck_assert_uint_eq(out.bytes, align_up(40 + 1024 + 2 * 65535, 8));
	put_be32(buf + 36, 1025);
	ck_assert_int_eq(snapshot_entry_decode(buf, sizeof buf, &out, &e), -1);
	ck_assert_int_eq(e.code, ERR_LIMIT);
	put_be32(buf + 36, UINT32_MAX);
	ck_assert_int_eq(snapshot_entry_decode(buf, sizeof buf, &out, &e), -1);
}
END_TEST

static struct bitmap_entry good_bitmap(void)
{
	return (struct bitmap_entry){
		.table_offset = 0x60000,
		.table_entries = 1,
		.flags = BITMAP_AUTO,
		.type = 1,
		.granularity_bits = 16,
		.name_len = 3,
		.name = "bm0",
	};
}

START_TEST(a_bitmap_survives_the_round_trip)
{
	struct bitmap_entry in = good_bitmap(), out;
	struct geometry g;
	uint8_t buf[32];
	struct error e;

	geometry_init(&g, 16, 4, false);
	ck_assert_uint_eq(bitmap_entry_encode(&in, buf, 31), 0);
	ck_assert_uint_eq(bitmap_entry_encode(&in, buf, 32), 32);
	ck_assert_int_eq(bitmap_entry_decode(&g, buf, 32, &out, &e), 0);
	ck_assert_uint_eq(out.table_offset, in.table_offset);
	ck_assert_uint_eq(out.table_entries, in.table_entries);
	ck_assert_uint_eq(out.flags, in.flags);
	ck_assert_uint_eq(out.type, in.type);
	ck_assert_uint_eq(out.granularity_bits, in.granularity_bits);
	ck_assert_uint_eq(out.name_len, 3);
	ck_assert_mem_eq(out.name, "bm0", 3);
	ck_assert_uint_eq(out.bytes, 32);
	for (size_t len = 0; len < 32; len++) {
		AUTO_FREE uint8_t *exact = malloc(len ? len : 1);

		memcpy(exact, buf, len);
		ck_assert_int_eq(bitmap_entry_decode(&g, exact, len, &out, &e), -1);
		ck_assert_int_eq(e.code, ERR_CORRUPT);
	}
}
END_TEST

static const struct {
	const char *what;
	unsigned at, bytes;
	uint64_t value;
	enum err_code code;
} cases[] = {
	{"no table", 0, 8, 0, ERR_CORRUPT},
	{"table unaligned", 0, 8, 0x60200, ERR_CORRUPT},
	{"table beyond 2^63", 0, 8, 0xffffffffffff0000, ERR_CORRUPT},
	{"table empty", 8, 4, 0, ERR_CORRUPT},
	{"table for 512 MiB", 8, 4, 8192, ERR_OK},
	{"table for more", 8, 4, 8193, ERR_LIMIT},
	{"table of 2^32-1", 8, 4, UINT32_MAX, ERR_LIMIT},
	{"in use", 12, 4, BITMAP_IN_USE, ERR_OK},
	{"extra data may be ignored", 12, 4, BITMAP_EXTRA_COMPATIBLE, ERR_OK},
	{"unknown flag", 12, 4, 8, ERR_UNSUPPORTED},
	{"type 0", 16, 1, 0, ERR_UNSUPPORTED},
	{"type 2", 16, 1, 2, ERR_UNSUPPORTED},
	{"granularity 256", 17, 1, 8, ERR_CORRUPT},
	{"granularity 512", 17, 1, 9, ERR_OK},
	{"granularity 2^31", 17, 1, 31, ERR_OK},
	{"granularity 2^32", 17, 1, 32, ERR_CORRUPT},
	{"granularity 2^255", 17, 1, 255, ERR_CORRUPT},
	{"no name", 18, 2, 0, ERR_CORRUPT},
	{"name of 1023 bytes", 18, 2, 1023, ERR_OK},
	{"name of 1024 bytes", 18, 2, 1024, ERR_CORRUPT},
	{"extra data", 20, 4, 8, ERR_UNSUPPORTED},
	{"extra data beyond the directory", 20, 4, UINT32_MAX, ERR_CORRUPT},
};

START_TEST(a_bitmap_entry_is_judged)
{
	struct bitmap_entry in = good_bitmap(), out;
	struct geometry g;
	uint8_t buf[2048] = {0};
	struct error e = {.msg = ""};
	int rc;

	geometry_init(&g, 16, 4, false);
	bitmap_entry_encode(&in, buf, sizeof buf);
	for (unsigned i = 0; i < cases[_i].bytes; i++)
		buf[cases[_i].at + i] = (uint8_t)(cases[_i].value >> 8 * (cases[_i].bytes - 1 - i));
	rc = bitmap_entry_decode(&g, buf, sizeof buf, &out, &e);
	ck_assert_msg((rc == 0) == (cases[_i].code == ERR_OK), "%s: %s", cases[_i].what, e.msg);
	if (rc)
		ck_assert_msg(e.code == cases[_i].code, "%s: %d %s", cases[_i].what, e.code, e.msg);
}
END_TEST

START_TEST(compatible_extra_data_is_skipped)
{
	struct bitmap_entry in = good_bitmap(), out;
	struct geometry g;
	uint8_t buf[40] = {0};
	struct error e;

	geometry_init(&g, 16, 4, false);
	bitmap_entry_encode(&in, buf, sizeof buf);
	put_be32(buf + 12, BITMAP_EXTRA_COMPATIBLE);
	put_be32(buf + 20, 5);
	memcpy(buf + 29, "xyz", 3);
	ck_assert_int_eq(bitmap_entry_decode(&g, buf, sizeof buf, &out, &e), 0);
	ck_assert_mem_eq(out.name, "xyz", 3);
	ck_assert_uint_eq(out.bytes, 32);
}
END_TEST

START_TEST(a_bitmap_table_has_a_known_length)
{
	struct geometry g;

	geometry_init(&g, 16, 4, false);
	ck_assert_uint_eq(bitmap_table_entries(&g, 16, 0), 0);
	ck_assert_uint_eq(bitmap_table_entries(&g, 16, 1), 1);
	ck_assert_uint_eq(bitmap_table_entries(&g, 16, 1ull << 35), 1); /* 2^16 bytes of 8 bits of 2^16 bytes */
	ck_assert_uint_eq(bitmap_table_entries(&g, 16, (1ull << 35) + 1), 2);
	ck_assert_uint_eq(bitmap_table_entries(&g, 9, UINT64_MAX), 1ull << 36);
}
END_TEST

START_TEST(a_bitmap_table_entry_is_judged)
{
	struct geometry g;
	uint64_t host;
	bool ones;
	struct error e;

	geometry_init(&g, 16, 4, false);
	ck_assert_int_eq(bitmap_table_entry_decode(&g, 0, &host, &ones, &e), 0);
	ck_assert(host == 0 && !ones);
	ck_assert_int_eq(bitmap_table_entry_decode(&g, 1, &host, &ones, &e), 0);
	ck_assert(host == 0 && ones);
	ck_assert_int_eq(bitmap_table_entry_decode(&g, 0x50000, &host, &ones, &e), 0);
	ck_assert(host == 0x50000 && !ones);
	ck_assert_int_eq(bitmap_table_entry_decode(&g, 0x50001, &host, &ones, &e), -1);
	ck_assert_int_eq(bitmap_table_entry_decode(&g, 0x50200, &host, &ones, &e), -1);
	ck_assert_int_eq(bitmap_table_entry_decode(&g, 2, &host, &ones, &e), -1);
	ck_assert_int_eq(bitmap_table_entry_decode(&g, 1ull << 56, &host, &ones, &e), -1);
	ck_assert_int_eq(bitmap_table_entry_decode(&g, 1ull << 63 | 0x50000, &host, &ones, &e), -1);
	ck_assert_int_eq(e.code, ERR_CORRUPT);
}
END_TEST

Suite *suite_format_table(void);
Suite *suite_format_table(void)
{
	Suite *s = suite_create("format_table");
	TCase *snapshot = tcase_create("snapshot"), *bitmap = tcase_create("bitmap");

	tcase_add_test(snapshot, a_snapshot_survives_the_round_trip);
	tcase_add_test(snapshot, extra_data_may_end_anywhere);
	tcase_add_test(snapshot, a_short_buffer_asks_for_more);
	tcase_add_test(snapshot, extra_data_has_a_limit);
	tcase_add_test(bitmap, a_bitmap_survives_the_round_trip);
	tcase_add_loop_test(bitmap, a_bitmap_entry_is_judged, 0, sizeof cases / sizeof cases[0]);
	tcase_add_test(bitmap, compatible_extra_data_is_skipped);
	tcase_add_test(bitmap, a_bitmap_table_has_a_known_length);
	tcase_add_test(bitmap, a_bitmap_table_entry_is_judged);
	suite_add_tcase(s, snapshot);
	suite_add_tcase(s, bitmap);
	return s;
}
