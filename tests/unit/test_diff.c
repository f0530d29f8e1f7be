/* SPDX-License-Identifier: Apache-2.0
 *
 * What differs between two states of an image: single cases, and what is read for it.
 */
#include "tests/unit/image_builder.h"

#include <check.h>

enum { K = 1024, STATES = 4 };

static struct error e;

#define MUST(call) ck_assert_msg((call) == 0, "%s", e.msg)

/* All differences in words: "kind start-end", in units of `unit`. */
static char *diff_text(struct chain *c, const struct qcow2_state *from, const struct qcow2_state *to, uint64_t unit)
{
	static const char *const kinds[] = {"data", "zero", "backing", "gone"};
	static char text[4000];
	struct diff_extent x = {0};
	struct diff *d;
	size_t at = 0;
	int more;

	text[0] = 0;
	MUST(diff_new(&d, c, from, to, &e));
	while ((more = diff_next(d, x.end, UINT64_MAX, &x, &e)) > 0)
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%s%s %g-%g", at ? ", " : "",
			x.added ? "added " : "", kinds[x.kind], (double)x.start / (double)unit,
			(double)x.end / (double)unit);
	ck_assert_msg(more == 0, "%s", e.msg);
	diff_free(d);
	return text;
}

/* [0, snapshot count): the snapshots; then the active state; then nothing but the backing file, as large as the active state. */
static void states_of(const struct qcow2 *q, struct qcow2_state *states)
{
	uint32_t n = q->snapshot_count;

	for (uint32_t i = 0; i < n; i++)
		MUST(qcow2_state_of_snapshot(q, i, &states[i], &e));
	qcow2_state_active(q, &states[n]);
	states[n + 1] = (struct qcow2_state){.size = states[n].size, .snapshot = -1};
}

static uint8_t *filled(size_t len, int value)
{
	static uint8_t bytes[2 << 20];

	memset(bytes, value, len);
	return bytes;
}

START_TEST(entries_are_compared_by_what_they_show)
{
	struct image_builder b;
	struct qcow2_state s[STATES];
	struct chain *c;
	uint64_t host;

	builder_init(&b, 64 * 64 * K, 16, 0);
	host = builder_data(&b, 0, filled(64 * K, 1));
	builder_data(&b, 64 * K, filled(64 * K, 2));
	builder_data(&b, 2 * 64 * K, filled(64 * K, 3));
	builder_data(&b, 3 * 64 * K, filled(64 * K, 4));
	builder_entry(&b, 4 * 64 * K, ENTRY_ZERO, 0);
	builder_entry(&b, 5 * 64 * K, ENTRY_ZERO, 0);
	builder_compressed(&b, 6 * 64 * K, filled(64 * K, 5), 10);
	builder_compressed(&b, 7 * 64 * K, filled(64 * K, 6), 10);
	builder_snapshot(&b, "1", "s", 64 * 64 * K);
	builder_entry(&b, 0, host, 0);                   /* COPIED is no difference */
	builder_data(&b, 64 * K, filled(64 * K, 2));     /* another cluster is, whatever it holds */
	builder_entry(&b, 2 * 64 * K, 0, 0);             /* discarded */
	builder_entry(&b, 3 * 64 * K, ENTRY_ZERO, 0);    /* zeroed */
	builder_entry(&b, 4 * 64 * K, 0, 0);             /* no backing file: zeros as before */
	builder_entry(&b, 5 * 64 * K, host | 1, 0);      /* the same with a cluster kept for it */
	builder_data(&b, 7 * 64 * K, filled(64 * K, 6)); /* no more compressed */
	builder_data(&b, 40 * 64 * K, filled(64 * K, 7));
	c = chain_of(&(struct io *){builder_finish(&b)}, NULL, 1);
	states_of(c->layers[0].q, s);
	ck_assert_str_eq(diff_text(c, &s[0], &s[1], 64 * K), "data 1-2, zero 2-4, data 7-8, data 40-41");
	ck_assert_str_eq(diff_text(c, &s[1], &s[0], 64 * K), "data 1-4, data 7-8, zero 40-41");
	ck_assert_str_eq(diff_text(c, &s[0], &s[0], 64 * K), "");
	ck_assert_str_eq(diff_text(c, &s[2], &s[0], 64 * K), "data 0-4, data 6-8");
	chain_close(c);
	builder_free(&b);
}
END_TEST

START_TEST(what_is_below_decides_between_zero_and_nothing)
{
	struct image_builder top, base;
	struct qcow2_state s[STATES];
	struct io *files[2];
	struct chain *c;

	builder_init(&base, 4 * 64 * K, 16, 0); /* shorter than the overlay */
	builder_data(&base, 0, filled(64 * K, 9));
	builder_data(&base, 64 * K, filled(64 * K, 9));
	builder_data(&base, 2 * 64 * K, filled(64 * K, 9));
	builder_init(&top, 8 * 64 * K, 16, 0);
	builder_data(&top, 2 * 64 * K, filled(64 * K, 1));
	builder_snapshot(&top, "1", "s", 8 * 64 * K);
	builder_entry(&top, 0, ENTRY_ZERO, 0);          /* hides the base's data */
	builder_entry(&top, 2 * 64 * K, 0, 0);          /* shows the base's data */
	builder_entry(&top, 3 * 64 * K, ENTRY_ZERO, 0); /* the base has none here */
	builder_entry(&top, 6 * 64 * K, ENTRY_ZERO, 0); /* nor here */
	files[0] = builder_finish(&top);
	files[1] = builder_finish(&base);
	c = chain_of(files, NULL, 2);
	states_of(c->layers[0].q, s);
	ck_assert_str_eq(diff_text(c, &s[0], &s[1], 64 * K), "zero 0-1, backing 2-3");
	ck_assert_str_eq(diff_text(c, &s[1], &s[0], 64 * K), "backing 0-1, data 2-3");
	ck_assert_str_eq(diff_text(c, &s[2], &s[1], 64 * K), "zero 0-1");
	ck_assert_str_eq(diff_text(c, &s[2], &s[0], 64 * K), "data 2-3");
	chain_close(c);
	builder_free(&top);
	builder_free(&base);
}
END_TEST

START_TEST(subclusters_of_one_host_cluster)
{
	struct image_builder b;
	struct qcow2_state s[STATES];
	struct chain *c;
	uint64_t host;

	builder_init(&b, 4 * 64 * K, 16, BUILD_EXTENDED);
	host = builder_alloc(&b, 2);
	builder_entry(&b, 0, host, 0x000000000000ffffull);
	builder_entry(&b, 64 * K, host + 64 * K, 0xffffffffull);
	builder_snapshot(&b, "1", "s", 4 * 64 * K);
	builder_entry(&b, 0, host, 0x0000ff000f0000ffull); /* 8-15 became zero, 24-27 data */
	builder_entry(&b, 64 * K, host + 64 * K, 0x800000007fffffffull);
	c = chain_of(&(struct io *){builder_finish(&b)}, NULL, 1);
	states_of(c->layers[0].q, s);
	ck_assert_str_eq(diff_text(c, &s[0], &s[1], 2 * K), "zero 8-16, data 24-28, zero 63-64");
	ck_assert_str_eq(diff_text(c, &s[1], &s[0], 2 * K), "data 8-16, zero 24-28, data 63-64");
	chain_close(c);
	builder_free(&b);
}
END_TEST

/* The last subcluster's zero bit lies where an entry has COPIED. */
START_TEST(last_subcluster_over_a_backing_file)
{
	struct image_builder b;
	struct qcow2_state s[STATES];
	struct io *files[2];
	struct chain *c;

	builder_init(&b, 64 * K, 16, BUILD_EXTENDED);
	builder_entry(&b, 0, 0, 0x7000000000000000ull);
	builder_snapshot(&b, "1", "s", 64 * K);
	builder_entry(&b, 0, 0, 0xf000000000000000ull);
	files[0] = builder_finish(&b);
	MUST(io_memory_new(&files[1], filled(64 * K, 1), 64 * K, "raw", &e));
	c = chain_of(files, NULL, 2);
	states_of(c->layers[0].q, s);
	ck_assert_str_eq(diff_text(c, &s[0], &s[1], 2 * K), "zero 31-32");
	ck_assert_str_eq(diff_text(c, &s[1], &s[0], 2 * K), "backing 31-32");
	chain_close(c);
	builder_free(&b);
}
END_TEST

START_TEST(disks_of_different_size)
{
	struct image_builder b;
	struct qcow2_state s[STATES];
	struct chain *c;

	builder_init(&b, 4 * 64 * K, 16, 0);
	builder_data(&b, 64 * K, filled(64 * K, 1));
	builder_snapshot(&b, "1", "small", 64 * K + 512); /* ends within the cluster that both have */
	builder_entry(&b, 3 * 64 * K, ENTRY_ZERO, 0);
	c = chain_of(&(struct io *){builder_finish(&b)}, NULL, 1);
	states_of(c->layers[0].q, s);
	ck_assert_str_eq(diff_text(c, &s[0], &s[1], 512), "added data 129-256, added zero 256-512");
	ck_assert_str_eq(diff_text(c, &s[1], &s[0], 512), "gone 129-512");
	chain_close(c);
	builder_free(&b);
}
END_TEST

/* An io that passes reads on and notes them. */
struct noting_io {
	struct io io;
	struct io *below;
	uint64_t reads, bytes, data_reads;
	uint64_t data_start, data_end;
};

static int noting_read(struct io *io, void *buf, size_t len, uint64_t off, struct error *err)
{
	struct noting_io *n = (struct noting_io *)io;

	n->reads++;
	n->bytes += len;
	n->data_reads += off < n->data_end && off + len > n->data_start;
	return io_read(n->below, buf, len, off, err);
}

static const struct io_ops noting_ops = {.read = noting_read};

START_TEST(no_data_and_no_shared_table_is_read)
{
	struct image_builder b;
	struct qcow2_state s[STATES];
	struct noting_io n = {0};
	struct chain *c;
	uint64_t span = 2048 * 16 * K, host, clusters = 40, tables[8];

	builder_init(&b, 8 * span, 14, 0);
	n.data_start = host = builder_alloc(&b, (unsigned)clusters);
	n.data_end = host + clusters * 16 * K;
	for (uint64_t i = 0; i < clusters; i++)
		builder_entry(&b, i * span / 5, host + i * 16 * K, 0); /* five in each table */
	memcpy(tables, b.l1, sizeof tables);
	builder_snapshot(&b, "1", "s", 8 * span);
	for (unsigned i = 0; i < 8; i++)
		if (i != 2 && i != 6)
			b.l1[i] = tables[i];
	builder_entry(&b, 2 * span + 16 * K, ENTRY_ZERO | host, 0);
	builder_entry(&b, 6 * span, 0, 0);
	n.below = builder_finish(&b);
	n.io = (struct io){.ops = &noting_ops, .size = n.below->size, .align = 1, .name = n.below->name};
	c = chain_of(&(struct io *){n.below}, NULL, 1);
	c->layers[0].file = c->layers[0].data = c->layers[0].q->file = &n.io;
	states_of(c->layers[0].q, s);
	n.reads = n.bytes = 0;
	ck_assert_str_eq(diff_text(c, &s[0], &s[1], span), "zero 6-6.00049");
	/* two L1 tables, two pairs of L2 tables */
	ck_assert_msg(n.reads == 6 && n.bytes == 2 * 64 + 4 * 16 * K, "%llu reads, %llu bytes",
		(unsigned long long)n.reads, (unsigned long long)n.bytes);
	ck_assert_uint_eq(n.data_reads, 0);
	c->layers[0].file = c->layers[0].data = c->layers[0].q->file = n.below;
	chain_close(c);
	builder_free(&b);
}
END_TEST

START_TEST(damage_is_named_where_it_is)
{
	struct image_builder b;
	struct qcow2_state s[STATES];
	struct diff_extent x;
	struct chain *c;
	struct diff *d;

	builder_init(&b, 8 * 64 * K, 16, 0);
	builder_snapshot(&b, "1", "s", 8 * 64 * K);
	builder_data(&b, 0, filled(64 * K, 1));
	builder_entry(&b, 64 * K, 0x50200, 0);
	c = chain_of(&(struct io *){builder_finish(&b)}, NULL, 1);
	states_of(c->layers[0].q, s);
	MUST(diff_new(&d, c, &s[0], &s[1], &e));
	ck_assert_int_eq(diff_next(d, 0, UINT64_MAX, &x, &e), 1);
	ck_assert(x.start == 0 && x.end == 64 * K);
	ck_assert_int_eq(diff_next(d, x.end, UINT64_MAX, &x, &e), -1);
	ck_assert_msg(e.code == ERR_CORRUPT && strstr(e.msg, "0x50200") && strstr(e.msg, "0x10000"), "%s", e.msg);
	diff_free(d);
	chain_close(c);
	builder_free(&b);
}
END_TEST

START_TEST(a_raw_image_has_no_states)
{
	struct qcow2_state s = {.size = 512};
	struct chain *c;
	struct diff *d;
	struct io *raw;

	MUST(io_memory_new(&raw, filled(512, 1), 512, "raw", &e));
	c = chain_of(&raw, NULL, 1);
	ck_assert_int_eq(diff_new(&d, c, &s, &s, &e), -1);
	ck_assert_int_eq(e.code, ERR_UNSUPPORTED);
	chain_close(c);
}
END_TEST

Suite *suite_diff(void);
Suite *suite_diff(void)
{
	Suite *s = suite_create("diff");
	TCase *cases = tcase_create("cases");

	tcase_add_test(cases, entries_are_compared_by_what_they_show);
	tcase_add_test(cases, what_is_below_decides_between_zero_and_nothing);
	tcase_add_test(cases, subclusters_of_one_host_cluster);
	tcase_add_test(cases, last_subcluster_over_a_backing_file);
	tcase_add_test(cases, disks_of_different_size);
	tcase_add_test(cases, no_data_and_no_shared_table_is_read);
	tcase_add_test(cases, damage_is_named_where_it_is);
	tcase_add_test(cases, a_raw_image_has_no_states);
	suite_add_tcase(s, cases);
	return s;
}
