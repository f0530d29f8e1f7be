/* SPDX-License-Identifier: Apache-2.0
 *
 * Header decoding, FORMAT.md §3: each row of the table changes one field of a good header and says what must come of it.
 * What is accepted and refused was compared with qemu-img 7.2 on images patched in the same way.
 */
#include <check.h>

#include "qcow2/format.h"

static struct header good_header(void)
{
	struct header h;

	memset(&h, 0, sizeof h);
	h.version = 3;
	h.cluster_bits = 16;
	h.size = 1 << 30;
	h.l1_entries = 2;
	h.l1_offset = 0x30000;
	h.reftable_offset = 0x10000;
	h.reftable_clusters = 1;
	h.refcount_order = 4;
	h.header_length = 112;
	return h;
}

static void assert_same(const struct header *a, const struct header *b)
{
	ck_assert_uint_eq(a->version, b->version);
	ck_assert_uint_eq(a->backing_offset, b->backing_offset);
	ck_assert_uint_eq(a->backing_len, b->backing_len);
	ck_assert_uint_eq(a->cluster_bits, b->cluster_bits);
	ck_assert_uint_eq(a->size, b->size);
	ck_assert_uint_eq(a->crypt_method, b->crypt_method);
	ck_assert_uint_eq(a->l1_entries, b->l1_entries);
	ck_assert_uint_eq(a->l1_offset, b->l1_offset);
	ck_assert_uint_eq(a->reftable_offset, b->reftable_offset);
	ck_assert_uint_eq(a->reftable_clusters, b->reftable_clusters);
	ck_assert_uint_eq(a->snapshot_count, b->snapshot_count);
	ck_assert_uint_eq(a->snapshots_offset, b->snapshots_offset);
	ck_assert_uint_eq(a->incompatible, b->incompatible);
	ck_assert_uint_eq(a->compatible, b->compatible);
	ck_assert_uint_eq(a->autoclear, b->autoclear);
	ck_assert_uint_eq(a->refcount_order, b->refcount_order);
	ck_assert_uint_eq(a->header_length, b->header_length);
	ck_assert_uint_eq(a->compression_type, b->compression_type);
}

START_TEST(a_version_3_header_survives_the_round_trip)
{
	struct header h = good_header(), back;
	uint8_t buf[112];
	struct error e;

	h.backing_offset = 0x1f8;
	h.backing_len = 1023;
	h.crypt_method = 2;
	h.snapshot_count = 65536;
	h.snapshots_offset = 0x7fff0000;
	h.incompatible = INCOMPAT_KNOWN | 1ull << 63;
	h.compatible = COMPAT_LAZY_REFCOUNTS | 1ull << 40;
	h.autoclear = AUTOCLEAR_BITMAPS | AUTOCLEAR_DATA_FILE_RAW;
	h.refcount_order = 6;
	h.l1_entries = 17;
	h.compression_type = 1;
	ck_assert_uint_eq(header_encode(&h, buf), 112);
	ck_assert_msg(header_decode(buf, sizeof buf, &back, &e) == 0, "%s", e.msg);
	assert_same(&h, &back);
}
END_TEST

START_TEST(a_header_of_104_bytes_survives_the_round_trip)
{
	struct header h = good_header(), back;
	uint8_t buf[104];
	struct error e;

	h.header_length = 104;
	ck_assert_uint_eq(header_encode(&h, buf), 104);
	ck_assert_msg(header_decode(buf, sizeof buf, &back, &e) == 0, "%s", e.msg);
	assert_same(&h, &back);
}
END_TEST

START_TEST(a_version_2_header_has_fixed_values_for_version_3_fields)
{
	struct header h = good_header(), back;
	uint8_t buf[112];
	struct error e;

	memset(buf, 0xee, sizeof buf);
	h.version = 2;
	h.header_length = 72;
	ck_assert_uint_eq(header_encode(&h, buf), 72);
	ck_assert_msg(header_decode(buf, sizeof buf, &back, &e) == 0, "%s", e.msg);
	assert_same(&h, &back);
	ck_assert_int_eq(header_decode(buf, 72, &back, &e), 0);
}
END_TEST

/* One field of the good header changed: `bytes` of value `value` at `at`. */
struct patch {
	unsigned at, bytes;
	uint64_t value;
};
static const struct {
	const char *what;
	struct patch patch[3];
	enum err_code code; /* ERR_OK: must be accepted */
	const char *text;   /* in the message */
} cases[] = {
	{"magic", {{0, 4, 0x514649fa}}, ERR_CORRUPT, "magic"},
	{"version 1", {{4, 4, 1}}, ERR_UNSUPPORTED, "version 1"},
	{"version 4", {{4, 4, 4}}, ERR_UNSUPPORTED, "version 4"},
	{"version 2 takes no notice of what follows", {{4, 4, 2}, {72, 8, UINT64_MAX}, {96, 8, UINT64_MAX}}, ERR_OK,
		""},

	{"clusters of 256 bytes", {{20, 4, 8}}, ERR_CORRUPT, "cluster_bits 8"},
	{"clusters of 512 bytes, L1 too small then", {{20, 4, 9}}, ERR_CORRUPT, "too small"},
	{"clusters of 512 bytes", {{20, 4, 9}, {36, 4, 32768}}, ERR_OK, ""},
	{"clusters of 2 MiB", {{20, 4, 21}, {40, 8, 0}, {48, 8, 0}}, ERR_OK, ""},
	{"clusters of 4 MiB", {{20, 4, 22}}, ERR_CORRUPT, "cluster_bits 22"},
	{"absurd cluster_bits", {{20, 4, UINT32_MAX}}, ERR_CORRUPT, "cluster_bits 4294967295"},

	{"backing name at the first cluster's end, empty", {{8, 8, 65536}}, ERR_OK, ""},
	{"backing name one byte long at the end", {{8, 8, 65535}, {16, 4, 1}}, ERR_OK, ""},
	{"backing name over the end", {{8, 8, 65535}, {16, 4, 2}}, ERR_CORRUPT, "2 bytes at 0xffff"},
	{"backing name in the second cluster", {{8, 8, 65537}}, ERR_CORRUPT, "0x10001"},
	{"backing name at 2^64-1", {{8, 8, UINT64_MAX}}, ERR_CORRUPT, "0xffffffffffffffff"},
	{"backing name of 1023 bytes", {{8, 8, 1000}, {16, 4, 1023}}, ERR_OK, ""},
	{"backing name of 1024 bytes", {{8, 8, 1000}, {16, 4, 1024}}, ERR_CORRUPT, "1024 bytes"},
	{"backing name inside the header, as QEMU accepts", {{8, 8, 8}}, ERR_OK, ""},
	{"no backing name, but a length", {{16, 4, 2000}}, ERR_OK, ""},

	{"size of 0", {{24, 8, 0}, {36, 4, 0}}, ERR_OK, ""},
	{"size one byte too large for the L1 table", {{24, 8, (1ull << 30) + 1}}, ERR_CORRUPT, "needs 3"},
	{"size of 2^64-1", {{24, 8, UINT64_MAX}}, ERR_CORRUPT, "too small"},
	{"L1 of 32 MiB", {{36, 4, 4 << 20}}, ERR_OK, ""},
	{"L1 of more than 32 MiB", {{36, 4, (4 << 20) + 1}}, ERR_LIMIT, "4194305 entries"},
	{"L1 of 2^32-1 entries", {{36, 4, UINT32_MAX}}, ERR_LIMIT, "4294967295 entries"},
	{"L1 unaligned", {{40, 8, 0x30200}}, ERR_CORRUPT, "L1 table at 0x30200"},
	{"L1 ends at 2^63 - 1", {{40, 8, (1ull << 63) - 65536}}, ERR_OK, ""},
	{"L1 begins at 2^63", {{40, 8, 1ull << 63}}, ERR_CORRUPT, "beyond 2^63"},
	{"L1 ends beyond 2^63", {{40, 8, (1ull << 63) - 65536}, {36, 4, 8193}}, ERR_CORRUPT, "beyond 2^63"},

	{"no refcount table", {{56, 4, 0}}, ERR_CORRUPT, "no refcount table"},
	{"refcount table of 8 MiB", {{56, 4, 128}}, ERR_OK, ""},
	{"refcount table of more", {{56, 4, 129}}, ERR_LIMIT, "129 clusters"},
	{"refcount table of 2^32-1 clusters", {{56, 4, UINT32_MAX}}, ERR_LIMIT, "4294967295 clusters"},
	{"refcount table unaligned", {{48, 8, 0x10001}}, ERR_CORRUPT, "refcount table at 0x10001"},
	{"refcount table at 2^64-64k", {{48, 8, 0xffffffffffff0000}}, ERR_CORRUPT, "beyond 2^63"},

	{"65537 snapshots", {{60, 4, 65537}}, ERR_LIMIT, "65537 snapshots"},
	{"snapshot table unaligned though empty", {{64, 8, 8}}, ERR_CORRUPT, "snapshot table at 0x8"},

	{"unknown encryption passes", {{32, 4, 3}}, ERR_OK, ""},
	{"unknown incompatible features pass", {{72, 8, 1ull << 20}}, ERR_OK, ""},

	{"refcount_order 0", {{96, 4, 0}}, ERR_OK, ""},
	{"refcount_order 7", {{96, 4, 7}}, ERR_CORRUPT, "refcount_order 7"},
	{"refcount_order 2^32-1", {{96, 4, UINT32_MAX}}, ERR_CORRUPT, "refcount_order"},

	{"header_length 96", {{100, 4, 96}}, ERR_CORRUPT, "header_length 96"},
	{"header_length 108", {{100, 4, 108}}, ERR_CORRUPT, "header_length 108"},
	{"header_length 120", {{100, 4, 120}}, ERR_OK, ""},
	{"header_length of a cluster", {{100, 4, 65536}}, ERR_OK, ""},
	{"header_length beyond the cluster", {{100, 4, 65544}}, ERR_CORRUPT, "more than a cluster"},

	{"zstd without the bit", {{104, 1, 1}}, ERR_CORRUPT, "bit 3 is not set"},
	{"zstd", {{104, 1, 1}, {72, 8, 8}}, ERR_OK, ""},
	{"the bit without zstd", {{72, 8, 8}}, ERR_CORRUPT, "bit 3 is set"},
	{"no place for the type, but the bit", {{100, 4, 104}, {72, 8, 8}}, ERR_CORRUPT, "bit 3 is set"},
	{"unknown compression", {{104, 1, 2}, {72, 8, 8}}, ERR_UNSUPPORTED, "compression type 2"},
	{"bytes after the compression type", {{105, 4, 77}}, ERR_OK, ""},
	{"type outside a header of 104 bytes", {{100, 4, 104}, {104, 1, 77}}, ERR_OK, ""},

	{"extended L2 needs two L1 entries more", {{72, 8, 16}}, ERR_CORRUPT, "needs 4"},
	{"extended L2", {{72, 8, 16}, {36, 4, 4}}, ERR_OK, ""},
	{"extended L2, clusters of 8 KiB", {{72, 8, 16}, {20, 4, 13}, {36, 4, 4096}}, ERR_CORRUPT, "cluster_bits"},
	{"extended L2, clusters of 16 KiB", {{72, 8, 16}, {20, 4, 14}, {36, 4, 4096}}, ERR_OK, ""},
};

static void apply(uint8_t *buf, const struct patch *p)
{
	for (unsigned i = 0; i < p->bytes; i++)
		buf[p->at + i] = (uint8_t)(p->value >> 8 * (p->bytes - 1 - i));
}

START_TEST(a_field_is_judged)
{
	struct header good = good_header(), h;
	uint8_t buf[112];
	struct error e = {.msg = ""};
	int rc;

	header_encode(&good, buf);
	for (unsigned i = 0; i < 3; i++)
		apply(buf, &cases[_i].patch[i]);
	rc = header_decode(buf, sizeof buf, &h, &e);
	if (cases[_i].code == ERR_OK) {
		ck_assert_msg(rc == 0, "%s: %s", cases[_i].what, e.msg);
		return;
	}
	ck_assert_msg(rc == -1, "%s: accepted", cases[_i].what);
	ck_assert_msg(e.code == cases[_i].code, "%s: code %d, %s", cases[_i].what, e.code, e.msg);
	ck_assert_msg(strstr(e.msg, cases[_i].text) != NULL, "%s: %s", cases[_i].what, e.msg);
}
END_TEST

START_TEST(a_cut_header_is_corrupt)
{
	struct header good = good_header(), h;
	uint8_t buf[112];
	struct error e;

	header_encode(&good, buf);
	for (size_t len = 0; len < sizeof buf; len++) {
		AUTO_FREE uint8_t *exact = malloc(len + 1); /* so that a sanitizer sees a read beyond */

		ck_assert_ptr_nonnull(exact);
		memcpy(exact + 1, buf, len);
		ck_assert_int_eq(header_decode(exact + 1, len, &h, &e), -1);
		ck_assert_int_eq(e.code, ERR_CORRUPT);
	}
}
END_TEST

START_TEST(an_odd_size_counts_whole_sectors)
{
	struct header h = good_header(), back;
	uint8_t buf[112];
	struct error e;

	h.size -= 1;
	header_encode(&h, buf);
	ck_assert_int_eq(header_decode(buf, sizeof buf, &back, &e), 0);
	ck_assert_uint_eq(back.size, (1 << 30) - 512);
}
END_TEST

START_TEST(geometry_follows_the_header)
{
	struct header h = good_header();
	struct geometry g;

	header_geometry(&h, &g);
	ck_assert_uint_eq(g.cluster_size, 65536);
	ck_assert_uint_eq(g.l2_bits, 13);
	ck_assert_uint_eq(g.refblock_bits, 15);
	ck_assert_uint_eq(g.csize_shift, 54);
	ck_assert_uint_eq(g.subclusters, 1);
	h.incompatible = INCOMPAT_EXTENDED_L2;
	h.refcount_order = 0;
	header_geometry(&h, &g);
	ck_assert_uint_eq(g.l2_bits, 12);
	ck_assert_uint_eq(g.refblock_bits, 19);
	ck_assert_uint_eq(g.subclusters, 32);
	ck_assert_uint_eq(g.subcluster_bits, 11);
}
END_TEST

Suite *suite_format_header(void);
Suite *suite_format_header(void)
{
	Suite *s = suite_create("format_header");
	TCase *t = tcase_create("header");

	tcase_add_test(t, a_version_3_header_survives_the_round_trip);
	tcase_add_test(t, a_header_of_104_bytes_survives_the_round_trip);
	tcase_add_test(t, a_version_2_header_has_fixed_values_for_version_3_fields);
	tcase_add_loop_test(t, a_field_is_judged, 0, sizeof cases / sizeof cases[0]);
	tcase_add_test(t, a_cut_header_is_corrupt);
	tcase_add_test(t, an_odd_size_counts_whole_sectors);
	tcase_add_test(t, geometry_follows_the_header);
	suite_add_tcase(s, t);
	return s;
}
