/* SPDX-License-Identifier: Apache-2.0
 *
 * Mapping entries and refcounts, FORMAT.md §5.2 to §5.5 and §7.3.
 */
#include <check.h>

#include "qcow2/format.h"

#define C ENTRY_COPIED
#define HOST 0x50000ull

static const struct {
	const char *what;
	unsigned version;
	bool extended, data_file;
	uint64_t raw, bitmap;
	int rc;
	enum cluster_type type;
	uint64_t host;
	uint32_t alloc, zero;
} cases[] = {
	{"empty", 3, 0, 0, 0, 0, 0, CLUSTER_UNALLOCATED, 0, 0, 0},
	{"copied alone means nothing", 3, 0, 0, C, 0, 0, CLUSTER_UNALLOCATED, 0, 0, 0},
	{"copied at 0 in a data file", 3, 0, 1, C, 0, 0, CLUSTER_NORMAL, 0, 1, 0},
	{"data file, not copied at 0", 3, 0, 1, 0, 0, 0, CLUSTER_UNALLOCATED, 0, 0, 0},
	{"normal", 3, 0, 0, C | HOST, 0, 0, CLUSTER_NORMAL, HOST, 1, 0},
	{"normal, shared", 2, 0, 0, HOST, 0, 0, CLUSTER_NORMAL, HOST, 1, 0},
	{"reserved bits are ignored", 3, 0, 0, HOST | ENTRY_L2_RESERVED, 0, 0, CLUSTER_NORMAL, HOST, 1, 0},
	{"highest host", 3, 0, 0, 0x00ffffffffff0000, 0, 0, CLUSTER_NORMAL, 0x00ffffffffff0000, 1, 0},
	{"unaligned", 3, 0, 0, HOST + 512, 0, -1, 0, 0, 0, 0},
	{"zero", 3, 0, 0, 1, 0, 0, CLUSTER_ZERO_PLAIN, 0, 0, 1},
	{"zero keeping its cluster", 3, 0, 0, C | HOST | 1, 0, 0, CLUSTER_ZERO_ALLOC, HOST, 0, 1},
	{"zero, unaligned", 3, 0, 0, (HOST + 512) | 1, 0, -1, 0, 0, 0, 0},
	{"zero in version 2", 2, 0, 0, 1, 0, -1, 0, 0, 0, 0},
	{"zero with a cluster in version 2", 2, 0, 0, HOST | 1, 0, -1, 0, 0, 0, 0},
	{"zero in a data file at 0", 3, 0, 1, C | 1, 0, 0, CLUSTER_ZERO_PLAIN, 0, 0, 1},
	{"compressed in a data file", 3, 0, 1, ENTRY_COMPRESSED | HOST, 0, -1, 0, 0, 0, 0},

	{"extended: empty", 3, 1, 0, 0, 0, 0, CLUSTER_UNALLOCATED, 0, 0, 0},
	{"extended: all data", 3, 1, 0, C | HOST, 0xffffffff, 0, CLUSTER_NORMAL, HOST, 0xffffffff, 0},
	{"extended: host without data", 3, 1, 0, HOST, 0, 0, CLUSTER_NORMAL, HOST, 0, 0},
	{"extended: mixed", 3, 1, 0, HOST, 0xf0000000000000f0, 0, CLUSTER_NORMAL, HOST, 0xf0, 0xf0000000},
	{"extended: zeros, no host", 3, 1, 0, 0, 0xffffffff00000000, 0, CLUSTER_UNALLOCATED, 0, 0, 0xffffffff},
	{"extended: zeros with host", 3, 1, 0, HOST, 0xffffffff00000000, 0, CLUSTER_NORMAL, HOST, 0, 0xffffffff},
	{"extended: bit 0 is not the zero flag", 3, 1, 0, HOST | 1, 0xffffffff, 0, CLUSTER_NORMAL, HOST, 0xffffffff, 0},
	{"extended: data without host", 3, 1, 0, 0, 1, -1, 0, 0, 0, 0},
	{"extended: data at 0 in a data file", 3, 1, 1, C, 1, 0, CLUSTER_NORMAL, 0, 1, 0},
	{"extended: data and zero at once", 3, 1, 0, HOST, 0x8000000080000000, -1, 0, 0, 0, 0},
	{"extended: unaligned", 3, 1, 0, HOST + 512, 0xffffffff, -1, 0, 0, 0, 0},
	{"extended: compressed, bitmap ignored", 3, 1, 0, ENTRY_COMPRESSED | HOST, UINT64_MAX, 0, CLUSTER_COMPRESSED,
		HOST, 0, 0},
};

START_TEST(an_l2_entry_is_judged)
{
	struct geometry g;
	struct l2_entry out;
	struct error e = {.msg = ""};
	int rc;

	geometry_init(&g, 16, 4, cases[_i].extended);
	rc = l2_entry_decode(&g, cases[_i].version, cases[_i].data_file, cases[_i].raw, cases[_i].bitmap, &out, &e);
	ck_assert_msg(rc == cases[_i].rc, "%s: %d, %s", cases[_i].what, rc, e.msg);
	if (rc) {
		ck_assert_int_eq(e.code, ERR_CORRUPT);
		return;
	}
	ck_assert_msg(out.type == cases[_i].type, "%s: type %d", cases[_i].what, out.type);
	ck_assert_uint_eq(out.host, cases[_i].host);
	ck_assert_uint_eq(out.alloc, cases[_i].alloc);
	ck_assert_uint_eq(out.zero, cases[_i].zero);
	ck_assert_int_eq(out.copied, cases[_i].raw >> 63);
}
END_TEST

/* Every length at every place in a sector, for every cluster size: the descriptor reaches to the end of the last sector. */
START_TEST(a_compressed_descriptor_covers_its_bytes)
{
	struct geometry g;
	struct l2_entry out;
	struct error e;

	geometry_init(&g, (uint32_t)_i, 4, false);
	for (uint64_t host = 0x70000; host < 0x70000 + 1100; host += 97)
		for (uint64_t len = 1; len < g.cluster_size; len += len < 1200 ? 1 : 4099) {
			uint64_t raw = l2_compressed_encode(&g, host, len);

			ck_assert_int_eq(l2_entry_decode(&g, 3, false, raw, 0, &out, &e), 0);
			ck_assert_int_eq(out.type, CLUSTER_COMPRESSED);
			ck_assert(!out.copied);
			ck_assert_uint_eq(out.host, host);
			ck_assert_uint_ge(out.csize, len);
			ck_assert_uint_lt(out.csize, len + 512);
			ck_assert_uint_eq((host + out.csize) % 512, 0);
		}
}
END_TEST

START_TEST(a_compressed_descriptor_has_the_documented_bits)
{
	struct geometry g;
	struct l2_entry out;
	struct error e;

	geometry_init(&g, 16, 4, false);
	ck_assert_uint_eq(l2_compressed_encode(&g, 0x50000, 512), 0x4000000000050000);
	ck_assert_uint_eq(l2_compressed_encode(&g, 0x50001, 512), 0x4040000000050001);
	geometry_init(&g, 21, 4, false);
	ck_assert_uint_eq(l2_compressed_encode(&g, 0x50001, 512), 0x4002000000050001);
	geometry_init(&g, 16, 4, false);
	ck_assert_int_eq(l2_entry_decode(&g, 3, false, UINT64_MAX & ~(0x3ull << 52), 0, &out, &e), 0);
	ck_assert_uint_eq(out.csize, 256 * 512 - 511); /* all sectors, from the last byte of the first */
	/* With small clusters the descriptor could name offsets that no other entry can. */
	geometry_init(&g, 9, 4, false);
	ck_assert_int_eq(l2_entry_decode(&g, 3, false, ENTRY_COMPRESSED | 1ull << 56, 0, &out, &e), -1);
	ck_assert_int_eq(l2_entry_decode(&g, 3, false, ENTRY_COMPRESSED | ((1ull << 56) - 1), 0, &out, &e), 0);
	ck_assert_uint_eq(out.host, (1ull << 56) - 1);
}
END_TEST

START_TEST(an_l1_entry_is_judged)
{
	struct geometry g;
	uint64_t l2;
	struct error e;

	geometry_init(&g, 16, 4, false);
	ck_assert_int_eq(l1_entry_decode(&g, 0, &l2, &e), 0);
	ck_assert_uint_eq(l2, 0);
	ck_assert_int_eq(l1_entry_decode(&g, C | 0x40000, &l2, &e), 0);
	ck_assert_uint_eq(l2, 0x40000);
	ck_assert_int_eq(l1_entry_decode(&g, 0x40000 | ENTRY_L1_RESERVED, &l2, &e), 0);
	ck_assert_uint_eq(l2, 0x40000);
	ck_assert_int_eq(l1_entry_decode(&g, 0x40200, &l2, &e), -1);
	ck_assert_int_eq(e.code, ERR_CORRUPT);
	geometry_init(&g, 9, 4, false);
	ck_assert_int_eq(l1_entry_decode(&g, 0x40200, &l2, &e), 0);
}
END_TEST

START_TEST(an_l1_table_is_judged)
{
	struct geometry g;
	struct error e;

	geometry_init(&g, 16, 4, false);
	ck_assert_int_eq(l1_table_check(&g, 0x10000, 0, 0, &e), 0);
	ck_assert_int_eq(l1_table_check(&g, 0x10000, 1, 512 << 20, &e), 0);
	ck_assert_int_eq(l1_table_check(&g, 0x10000, 1, (512 << 20) + 1, &e), -1);
	ck_assert_int_eq(e.code, ERR_CORRUPT);
	ck_assert_int_eq(l1_table_check(&g, 0x10000, 4194305, 0, &e), -1);
	ck_assert_int_eq(e.code, ERR_LIMIT);
	ck_assert_int_eq(l1_table_check(&g, 0x1234, 1, 0, &e), -1);
	ck_assert_int_eq(e.code, ERR_CORRUPT);
}
END_TEST

START_TEST(refcounts_of_every_width_keep_to_themselves)
{
	unsigned order = (unsigned)_i;
	uint64_t counts = 512 * 8 >> order, max = refcount_max(order);
	uint8_t block[512];

	memset(block, 0, sizeof block);
	for (uint64_t i = 0; i < counts; i++) {
		refcount_put(block, order, i, max);
		ck_assert_uint_eq(refcount_get(block, order, i), max);
		if (i + 1 < counts)
			ck_assert_uint_eq(refcount_get(block, order, i + 1), 0);
	}
	for (size_t i = 0; i < sizeof block; i++)
		ck_assert_uint_eq(block[i], 0xff);
	for (uint64_t i = 0; i < counts; i++)
		refcount_put(block, order, i, i * 0x0123456789abcdef & max);
	for (uint64_t i = 0; i < counts; i++)
		ck_assert_uint_eq(refcount_get(block, order, i), i * 0x0123456789abcdef & max);
}
END_TEST

START_TEST(narrow_refcounts_begin_at_the_low_bit)
{
	static const uint8_t block[] = {0x21, 0x43, 0x65, 0x87, 0xa9, 0xcb, 0xed, 0x0f};

	ck_assert_uint_eq(refcount_get(block, 0, 0), 1);
	ck_assert_uint_eq(refcount_get(block, 0, 5), 1);
	ck_assert_uint_eq(refcount_get(block, 0, 7), 0);
	ck_assert_uint_eq(refcount_get(block, 1, 0), 1);
	ck_assert_uint_eq(refcount_get(block, 1, 2), 2);
	ck_assert_uint_eq(refcount_get(block, 1, 4), 3);
	ck_assert_uint_eq(refcount_get(block, 2, 0), 1);
	ck_assert_uint_eq(refcount_get(block, 2, 1), 2);
	ck_assert_uint_eq(refcount_get(block, 3, 1), 0x43);
	ck_assert_uint_eq(refcount_get(block, 4, 1), 0x6587);
	ck_assert_uint_eq(refcount_get(block, 5, 1), 0xa9cbed0f);
	ck_assert_uint_eq(refcount_get(block, 6, 0), 0x21436587a9cbed0f);
}
END_TEST

Suite *suite_format_entry(void);
Suite *suite_format_entry(void)
{
	Suite *s = suite_create("format_entry");
	TCase *t = tcase_create("entry");

	tcase_add_loop_test(t, an_l2_entry_is_judged, 0, sizeof cases / sizeof cases[0]);
	tcase_add_loop_test(t, a_compressed_descriptor_covers_its_bytes, 9, 22);
	tcase_add_test(t, a_compressed_descriptor_has_the_documented_bits);
	tcase_add_test(t, an_l1_entry_is_judged);
	tcase_add_test(t, an_l1_table_is_judged);
	tcase_add_loop_test(t, refcounts_of_every_width_keep_to_themselves, 0, 7);
	tcase_add_test(t, narrow_refcounts_begin_at_the_low_bit);
	suite_add_tcase(s, t);
	return s;
}
