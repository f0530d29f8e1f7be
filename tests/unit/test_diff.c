/* SPDX-License-Identifier: Apache-2.0
 *
 * What differs between two states of an image: single cases, what is read for it, and random images against a model made of the
 * merged extents of both states and of the bytes that they show.
 */
#include "tests/unit/image_builder.h"

#include <check.h>

enum { SECTOR = 512, K = 1024, STATES = 4 };

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

/* ---- random images ---- */

static uint32_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)(((uint64_t)(seed >> 4) * n) >> 28);
}

static void change(struct image_builder *b, uint64_t guest, uint64_t shared_host)
{
	bool v3 = b->h.version == 3, extended = b->g.subclusters > 1;
	uint32_t alloc = extended ? rnd(1u << 20) * rnd(1u << 12) : 0, zero = extended ? ~alloc & rnd(1u << 28) : 0;
	uint64_t bitmap = (uint64_t)zero << 32 | alloc, host;

	switch (rnd(8)) {
	case 0:
		builder_entry(b, guest, 0, 0);
		break;
	case 1:
		builder_entry(b, guest, v3 && !extended ? ENTRY_ZERO : 0, v3 && extended ? (uint64_t)zero << 32 : 0);
		break;
	case 2:
		if (v3 && !extended)
			builder_entry(b, guest, shared_host | ENTRY_ZERO, 0);
		break;
	case 3:
		builder_compressed(b, guest, filled(b->g.cluster_size, (int)rnd(256)), rnd(b->g.cluster_size));
		break;
	case 4: /* a cluster that others have, too, marked as one's own or not */
		builder_entry(b, guest, shared_host | (rnd(2) ? ENTRY_COPIED : 0), bitmap);
		break;
	default:
		host = builder_data(b, guest, filled(b->g.cluster_size, (int)rnd(256)));
		builder_entry(b, guest, host | (rnd(2) ? ENTRY_COPIED : 0), extended ? bitmap : 0);
	}
}

static void change_some(struct image_builder *b, uint64_t clusters, uint64_t shared_host)
{
	uint64_t first = rnd((uint32_t)clusters), n = 1 + rnd((uint32_t)clusters);

	for (uint64_t i = first; i < clusters && i < first + n; i++)
		if (rnd(3))
			change(b, i << b->g.cluster_bits, shared_host);
}

static uint64_t some_size(uint64_t most)
{
	return (1 + rnd((uint32_t)(most / SECTOR))) * SECTOR;
}

/* Clusters, tables, snapshots and sizes by chance; with two snapshots. */
static struct io *random_image(uint64_t most, bool snapshots)
{
	static const unsigned bits[] = {9, 10, 12, 14};
	unsigned flags = rnd(4) == 0 ? BUILD_V2 : 0, cluster_bits = bits[rnd(4)];
	struct image_builder b;
	uint64_t shared, clusters;

	if (!flags && cluster_bits == 14 && rnd(2))
		flags = BUILD_EXTENDED;
	builder_init(&b, most, cluster_bits, flags);
	clusters = geometry_clusters(&b.g, most);
	shared = builder_alloc(&b, 1);
	builder_poke(&b, shared, filled(b.g.cluster_size, 0x5a), b.g.cluster_size);
	change_some(&b, clusters, shared);
	for (unsigned i = 0; snapshots && i < 2; i++) {
		uint64_t tables[512];

		ck_assert(b.h.l1_entries <= 512);
		memcpy(tables, b.l1, b.h.l1_entries * sizeof *tables);
		builder_snapshot(&b, i ? "2" : "1", "s", some_size(most));
		for (unsigned t = rnd(2) ? b.h.l1_entries : 0; t-- > 0;)
			if (rnd(2)) /* what changes in a shared table changes for all */
				b.l1[t] = tables[t];
		change_some(&b, clusters, shared);
	}
	b.h.size = some_size(most);
	builder_finish(&b);
	struct io *io = b.io;
	builder_free(&b);
	return io;
}

static void use_state(struct chain *c, const struct qcow2_state *s)
{
	struct qcow2 *q = c->layers[0].q;

	q->l1_offset = s->l1_offset;
	q->l1_entries = s->l1_entries;
	q->size = c->layers[0].size = c->size = s->size;
}

/* Where a sector's bytes come from: the same place is the same bytes. */
struct origin {
	const struct io *file; /* NULL: zeros */
	uint64_t at;
	unsigned depth;
};

static void look_up(struct chain *c, const struct qcow2_state *s, struct origin *sectors, uint8_t *bytes)
{
	struct walk *w;
	struct io *io;
	struct extent x;

	use_state(c, s);
	MUST(walk_new(&w, c, c->count, 0, &e));
	for (uint64_t p = 0; p < c->size; p += x.len) {
		MUST(walk_extent(w, p, c->size, &x, &e));
		for (uint64_t at = 0; at < x.len; at += SECTOR) {
			struct origin *o = &sectors[(p + at) / SECTOR];

			*o = (struct origin){.depth = x.depth};
			if (x.kind == EXTENT_DATA)
				*o = (struct origin){x.file, x.host + at, x.depth};
			if (x.kind == EXTENT_COMPRESSED) /* no two streams begin at one place with different lengths */
				*o = (struct origin){x.file, (x.host << 24) + x.skip + at, x.depth};
		}
	}
	walk_free(w);
	MUST(chain_io(&io, c, &e));
	MUST(io_read(io, bytes, c->size, 0, &e));
	io_close(io);
}

struct model {
	struct origin *from, *to;
	uint8_t *from_bytes, *to_bytes;
	uint64_t from_size, to_size;
};

static void check_sector(const struct model *m, uint64_t at, const struct diff_extent *x)
{
	const struct origin *from = &m->from[at / SECTOR], *to = &m->to[at / SECTOR];
	bool in_from = at < m->from_size, in_to = at < m->to_size;
	bool same = in_from && in_to && from->file == to->file && from->at == to->at;

	ck_assert_msg(same == !x, "sector at 0x%llx: %s", (unsigned long long)at, same ? "same" : "different");
	if (!x) {
		ck_assert_msg(memcmp(m->from_bytes + at, m->to_bytes + at, SECTOR) == 0, "bytes at 0x%llx differ",
			(unsigned long long)at);
		return;
	}
	ck_assert_int_eq(x->added, !in_from);
	ck_assert_int_eq(x->kind, !in_to ? DIFF_GONE : !to->file ? DIFF_ZERO : to->depth ? DIFF_BACKING : DIFF_DATA);
}

/* From end to end, with limits by chance; then from anywhere. */
static void check_diff(struct diff *d, const struct model *m)
{
	uint64_t size = max_u64(m->from_size, m->to_size), at = 0;
	struct diff_extent x;

	while (at < size) {
		uint64_t limit = rnd(2) ? UINT64_MAX : at + (1 + rnd(200)) * SECTOR, end = min_u64(size, limit);
		int more = diff_next(d, at, limit, &x, &e);

		ck_assert_msg(more >= 0, "%s", e.msg);
		if (more)
			ck_assert(x.start >= at && x.start < x.end && x.end <= end);
		for (; at < (more ? x.start : end); at += SECTOR)
			check_sector(m, at, NULL);
		for (; more && at < x.end; at += SECTOR)
			check_sector(m, at, &x);
	}
	for (unsigned i = 0; i < 50; i++) {
		at = rnd((uint32_t)(size / SECTOR)) * (uint64_t)SECTOR;
		int more = diff_next(d, at, at + SECTOR, &x, &e);

		ck_assert_msg(more >= 0, "%s", e.msg);
		check_sector(m, at, more ? &x : NULL);
	}
}

static void check_pair(struct chain *c, const struct qcow2_state *from, const struct qcow2_state *to, uint64_t most)
{
	struct model m = {.from_size = from->size, .to_size = to->size};
	struct diff *d;

	m.from = calloc(most / SECTOR, sizeof *m.from);
	m.to = calloc(most / SECTOR, sizeof *m.to);
	m.from_bytes = calloc(1, most);
	m.to_bytes = calloc(1, most);
	look_up(c, from, m.from, m.from_bytes);
	look_up(c, to, m.to, m.to_bytes);
	MUST(diff_new(&d, c, from, to, &e));
	check_diff(d, &m);
	diff_free(d);
	free(m.from);
	free(m.to);
	free(m.from_bytes);
	free(m.to_bytes);
}

START_TEST(random_images_agree_with_the_model)
{
	for (unsigned round = 0; round < 12; round++) {
		uint64_t most = (20 + rnd(1000)) * (uint64_t)SECTOR;
		struct qcow2_state s[STATES];
		struct io *files[2] = {NULL};
		struct chain *c;

		seed = (unsigned)_i * 100 + round;
		files[0] = random_image(most, true);
		if (rnd(2))
			files[1] = random_image(some_size(most), false);
		c = chain_of(files, NULL, files[1] ? 2 : 1);
		states_of(c->layers[0].q, s);
		for (unsigned i = 0; i < 4; i++)
			check_pair(c, &s[rnd(STATES)], &s[rnd(3)], most);
		chain_close(c);
	}
}
END_TEST

Suite *suite_diff(void);
Suite *suite_diff(void)
{
	Suite *s = suite_create("diff");
	TCase *cases = tcase_create("cases"), *random = tcase_create("random");

	tcase_add_test(cases, entries_are_compared_by_what_they_show);
	tcase_add_test(cases, what_is_below_decides_between_zero_and_nothing);
	tcase_add_test(cases, subclusters_of_one_host_cluster);
	tcase_add_test(cases, last_subcluster_over_a_backing_file);
	tcase_add_test(cases, disks_of_different_size);
	tcase_add_test(cases, no_data_and_no_shared_table_is_read);
	tcase_add_test(cases, damage_is_named_where_it_is);
	tcase_add_test(cases, a_raw_image_has_no_states);
	tcase_add_loop_test(random, random_images_agree_with_the_model, 0, 20);
	tcase_set_timeout(random, 120);
	suite_add_tcase(s, cases);
	suite_add_tcase(s, random);
	return s;
}
