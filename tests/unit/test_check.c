/* SPDX-License-Identifier: Apache-2.0
 *
 * check, FORMAT.md §12.3: each kind of damage gives its finding and nothing else, numbers are right, threads change nothing.
 * The image is built here: clusters of 512 bytes, refcounts of any width, one L2 table, four data clusters.
 */
#include <check.h>
#include <errno.h>

#include "qcow2/check.h"
#include "qcow2/check_internal.h"
#include "tests/unit/io_fault.h"

enum { CLUSTER = 512, CLUSTERS = 16, REFTABLE = 512, REFBLOCK = 1024, L1 = 1536, L2 = 2048, DATA = 2560 };

struct image {
	uint8_t bytes[CLUSTER * CLUSTERS];
	size_t len;
};

static void put(struct image *m, size_t at, uint64_t v)
{
	put_be64(m->bytes + at, v);
}

static void make_image(struct image *m, unsigned order)
{
	*m = (struct image){.len = 9 * CLUSTER};
	struct header h = {.version = 3,
		.cluster_bits = 9,
		.size = 64 << 9,
		.l1_entries = 1,
		.l1_offset = L1,
		.reftable_offset = REFTABLE,
		.reftable_clusters = 1,
		.refcount_order = order,
		.header_length = 112};
	header_encode(&h, m->bytes);
	put(m, REFTABLE, REFBLOCK);
	for (unsigned i = 0; i < 9; i++)
		refcount_put(m->bytes + REFBLOCK, order, i, 1);
	put(m, L1, ENTRY_COPIED | L2);
	for (unsigned i = 0; i < 4; i++)
		put(m, L2 + 8 * i, ENTRY_COPIED | (DATA + CLUSTER * i));
}

struct report {
	char text[8192];
	size_t count;
	struct check_result r;
	int rc;
	struct error e;
};

static void note(void *ctx, const struct finding *f)
{
	struct report *p = ctx;
	p->count++;
	if (strlen(p->text) + strlen(f->text) + 2 < sizeof p->text)
		strcat(strcat(p->text, f->text), "\n");
}

/* The k-th read after opening fails, if `io` is a faulting one and k is not 0. */
static void check_io(struct io *io, unsigned threads, unsigned k, struct report *p)
{
	struct layer l = {.file = io, .data = io, .format = IMAGE_QCOW2};
	struct check_opts opts = {.threads = threads, .found = note, .ctx = p};
	*p = (struct report){.e.msg = ""};
	p->rc = qcow2_open(&l.q, io, QCOW2_OPEN_INSPECT, &p->e);
	if (p->rc < 0)
		return;
	if (k) {
		io_fault_forget(io);
		io_fault_fail(io, FAULT_READ, k, EIO, false);
	}
	p->rc = qcow2_check(&l, &opts, &p->r, &p->e);
	qcow2_close(l.q);
}

static void check_image(const struct image *m, unsigned threads, struct report *p)
{
	struct error e;
	AUTO_IO struct io *io = NULL;
	ck_assert_int_eq(io_memory_new(&io, m->bytes, m->len, "image", &e), 0);
	check_io(io, threads, 0, p);
}

START_TEST(a_sound_image_has_no_findings)
{
	for (unsigned order = 0; order <= 6; order++) {
		struct image m;
		struct report p;
		make_image(&m, order);
		check_image(&m, 0, &p);
		ck_assert_msg(p.rc == 0, "%s", p.e.msg);
		ck_assert_str_eq(p.text, "");
		ck_assert_uint_eq(p.r.total_clusters, 64);
		ck_assert_uint_eq(p.r.allocated_clusters, 4);
		ck_assert_uint_eq(p.r.fragmented_clusters, 0);
		ck_assert_uint_eq(p.r.compressed_clusters, 0);
		ck_assert_uint_eq(p.r.image_end_offset, 9 * CLUSTER);
	}
}
END_TEST

static const struct {
	size_t at;
	uint64_t value;
	unsigned corruptions, leaks;
	const char *text;
} damages[] = {
	{L2, 0, 0, 1, "Leaked cluster 5 refcount=1 reference=0\n"},
	{L2, DATA, 1, 0, "ERROR OFLAG_COPIED data cluster: l2_entry=a00 refcount=1\n"},
	{L2 + 64, ENTRY_COPIED | DATA, 1, 0, "ERROR cluster 5 refcount=1 reference=2\n"}, {L2 + 64, 1, 0, 0, ""},
	{L2, ENTRY_COPIED | DATA | 1, 0, 0, ""},
	{L2, ENTRY_COPIED | DATA | 1ull << 58, 1, 0, "ERROR found l2 entry with reserved bits set: 8400000000000a00\n"},
	{L2, ENTRY_COPIED | 1ull << 40, 2, 1,
		"ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset "
		"0x10000000000 size 0x200\n"
		"Leaked cluster 5 refcount=1 reference=0\n"
		"ERROR OFLAG_COPIED data cluster: l2_entry=8000010000000000 refcount=0\n"},
	{L2, ENTRY_COPIED | ENTRY_COMPRESSED | DATA, 1, 0,
		"ERROR: coffset=0xa00: copied flag must never be set for compressed clusters\n"},
	{L2 + 64, ENTRY_COMPRESSED | DATA, 1, 0, "ERROR cluster 5 refcount=1 reference=2\n"},
	{L1, L2, 1, 0, "ERROR OFLAG_COPIED L2 cluster: l1_index=0 l1_entry=800 refcount=1\n"},
	{L1, ENTRY_COPIED | L2 | 4, 1, 0, "ERROR found L1 entry with reserved bits set: 8000000000000804\n"},
	{REFTABLE, REFBLOCK | 1, 1, 1,
		"ERROR refcount table entry 0 has reserved bits set\n"
		"Leaked cluster 2 refcount=1 reference=0\n"},
	{REFTABLE + 8, 1ull << 40, 1, 0, "ERROR refcount block 1 is outside image\n"},
	{REFTABLE + 8, REFBLOCK, 2, 0, "ERROR refcount block 1 refcount=2\nERROR cluster 2 refcount=1 reference=2\n"},
	{REFBLOCK + 8, 0x0001000100010000, 2, 0,
		"ERROR cluster 7 refcount=0 reference=1\n"
		"ERROR OFLAG_COPIED data cluster: l2_entry=8000000000000e00 refcount=0\n"},
	{REFBLOCK + 8, 0x0001000100010002, 1, 1,
		"Leaked cluster 7 refcount=2 reference=1\n"
		"ERROR OFLAG_COPIED data cluster: l2_entry=8000000000000e00 refcount=2\n"},
	{REFBLOCK + 8, 0x00010001000100ff, 1, 1,
		"Leaked cluster 7 refcount=255 reference=1\n"
		"ERROR OFLAG_COPIED data cluster: l2_entry=8000000000000e00 refcount=255\n"},
	{REFBLOCK + 24, UINT64_MAX, 0, 0, ""}, /* beyond the end of the file: not looked at */
};

START_TEST(each_damage_has_its_finding)
{
	struct image m;
	struct report p;
	make_image(&m, 4);
	put(&m, damages[_i].at, damages[_i].value);
	check_image(&m, 0, &p);
	ck_assert_msg(p.rc == 0, "%s", p.e.msg);
	ck_assert_msg(strncmp(p.text, damages[_i].text, strlen(damages[_i].text)) == 0, "case %d: %s", _i, p.text);
	ck_assert_msg(*damages[_i].text || !*p.text, "case %d: %s", _i, p.text);
	ck_assert_msg(p.r.leaks == damages[_i].leaks, "case %d: %s", _i, p.text);
	ck_assert_msg(p.r.corruptions == damages[_i].corruptions, "case %d: %s", _i, p.text);
	ck_assert_uint_eq(p.r.check_errors, 0);
}
END_TEST

START_TEST(clusters_out_of_order_count_as_fragmented)
{
	struct image m;
	struct report p;
	make_image(&m, 4);
	put(&m, L2, ENTRY_COPIED | (DATA + CLUSTER));
	put(&m, L2 + 8, ENTRY_COPIED | DATA);
	check_image(&m, 0, &p);
	ck_assert_str_eq(p.text, "");
	ck_assert_uint_eq(p.r.fragmented_clusters, 2); /* 1 -> 0 and 0 -> 2 */
}
END_TEST

START_TEST(compressed_clusters_share_host_clusters)
{
	struct image m;
	struct report p;
	make_image(&m, 4);
	/* 300 bytes at DATA + 400: two sectors, two clusters. 100 bytes behind them: one. */
	struct geometry g;
	geometry_init(&g, 9, 4, false);
	put(&m, L2, l2_compressed_encode(&g, DATA + 400, 300));
	put(&m, L2 + 8, l2_compressed_encode(&g, DATA + 700, 100));
	refcount_put(m.bytes + REFBLOCK, 4, 6, 2);
	check_image(&m, 0, &p);
	ck_assert_str_eq(p.text, "");
	ck_assert_uint_eq(p.r.compressed_clusters, 2);
	ck_assert_uint_eq(p.r.allocated_clusters, 4);
	ck_assert_uint_eq(p.r.fragmented_clusters, 2);
}
END_TEST

START_TEST(a_count_that_cannot_be_stored_is_an_overflow)
{
	struct image m;
	struct report p;
	make_image(&m, 0); /* counts of one bit */
	put(&m, L2 + 64, ENTRY_COPIED | DATA);
	check_image(&m, 0, &p);
	ck_assert_str_eq(p.text, "ERROR: overflow cluster offset=0xa00\n");
	ck_assert_uint_eq(p.r.corruptions, 1);
}
END_TEST

START_TEST(what_cannot_be_read_is_an_error_not_a_crash)
{
	struct image m;
	struct error e;
	make_image(&m, 4);
	for (unsigned k = 1;; k++) {
		struct io *memory;
		struct report p;
		ck_assert_int_eq(io_memory_new(&memory, m.bytes, m.len, "image", &e), 0);
		AUTO_IO struct io *io = io_fault_new(memory);
		check_io(io, 0, k, &p);
		if (io_fault_count(io, FAULT_READ) < k) {
			ck_assert_uint_eq(k, 5); /* refcount table, L1, L2, refcount block were read */
			ck_assert_str_eq(p.text, "");
			break;
		}
		ck_assert_msg(p.rc < 0 || p.r.check_errors > 0, "read %u failed unseen", k);
	}
}
END_TEST

START_TEST(threads_change_nothing)
{
	uint64_t seed = 88172645463325252ull + (uint64_t)_i;
	struct image m;
	make_image(&m, (unsigned)_i % 7);
	m.len = sizeof m.bytes;
	for (int k = 0; k < 12; k++) {
		seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
		size_t at = REFTABLE + seed % (L2 + 512 - REFTABLE);
		m.bytes[at] ^= (uint8_t)(1u << (seed >> 32 & 7));
	}
	struct report serial, parallel;
	check_image(&m, 0, &serial);
	for (unsigned threads = 1; threads <= 4; threads++) {
		check_image(&m, threads, &parallel);
		ck_assert_int_eq(serial.rc, parallel.rc);
		ck_assert_str_eq(serial.text, parallel.text);
		ck_assert_mem_eq(&serial.r, &parallel.r, sizeof serial.r);
	}
}
END_TEST

/* ---- counts ---- */

static uint64_t add(struct counts *c, uint64_t first, uint64_t n, bool *shared)
{
	struct error e;
	uint64_t done;
	ck_assert_int_eq(counts_add(c, first, n, &done, shared, &e), 0);
	return done;
}

START_TEST(counts_hold_runs_and_large_numbers)
{
	struct counts c;
	struct error e;
	bool shared = false;
	ck_assert_int_eq(counts_init(&c, 100000, 65535, UINT64_MAX, &e), 0);
	ck_assert_uint_eq(add(&c, 4000, 9000, &shared), 9000);
	ck_assert(!shared);
	ck_assert(counts_all_one(&c, 4000, 9000) && !counts_all_one(&c, 3999, 2) && !counts_all_one(&c, 12999, 2));
	ck_assert_uint_eq(add(&c, 5000, 100, &shared), 100);
	ck_assert(shared);
	ck_assert_uint_eq(counts_get(&c, 4999), 1);
	ck_assert_uint_eq(counts_get(&c, 5000), 2);
	ck_assert_uint_eq(counts_get(&c, 5099), 2);
	ck_assert_uint_eq(counts_get(&c, 5100), 1);
	ck_assert_uint_eq(counts_get(&c, 99999), 0);
	ck_assert_uint_eq(counts_get(&c, 1u << 30), 0);
	for (int k = 0; k < 70000; k++)
		add(&c, 6000, 1, &shared);
	for (int k = 0; k < 300; k++)
		add(&c, 7000, 200, &shared);
	ck_assert_uint_eq(counts_get(&c, 6000), 65535);
	ck_assert_uint_eq(counts_get(&c, 7000), 301);
	ck_assert_uint_eq(counts_get(&c, 7199), 301);
	ck_assert_uint_eq(add(&c, 5999, 3, &shared), 1); /* stops at the full one */
	counts_free(&c);
}
END_TEST

START_TEST(counts_take_no_more_memory_than_allowed)
{
	struct counts c;
	struct error e;
	bool shared = false;
	uint64_t done;
	ck_assert_int_eq(counts_init(&c, 1 << 20, 1, 2 * COUNTS_PAGE, &e), 0);
	add(&c, 0, 1, &shared);
	add(&c, 1 << 19, 1, &shared);
	ck_assert_int_eq(counts_add(&c, 1 << 18, 1, &done, &shared, &e), -1);
	ck_assert_int_eq(e.code, ERR_LIMIT);
	counts_free(&c);
}
END_TEST

Suite *suite_check(void);
Suite *suite_check(void)
{
	Suite *s = suite_create("check");
	TCase *t = tcase_create("check");
	suite_add_tcase(s, t);
	tcase_add_test(t, a_sound_image_has_no_findings);
	tcase_add_loop_test(t, each_damage_has_its_finding, 0, sizeof damages / sizeof *damages);
	tcase_add_test(t, clusters_out_of_order_count_as_fragmented);
	tcase_add_test(t, compressed_clusters_share_host_clusters);
	tcase_add_test(t, a_count_that_cannot_be_stored_is_an_overflow);
	tcase_add_test(t, what_cannot_be_read_is_an_error_not_a_crash);
	tcase_add_loop_test(t, threads_change_nothing, 0, 100);
	tcase_add_test(t, counts_hold_runs_and_large_numbers);
	tcase_add_test(t, counts_take_no_more_memory_than_allowed);
	return s;
}
