/* SPDX-License-Identifier: Apache-2.0
 *
 * What differs between two states of random images, against a model made of the merged extents of both and of the bytes that
 * they show: all that differs is told, nothing else, and what is told of it is so.
 */
#include "tests/unit/image_builder.h"

#include <check.h>

enum { SECTOR = 512, STATES = 4 };

static struct error e;

#define MUST(call) ck_assert_msg((call) == 0, "%s", e.msg)

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

Suite *suite_diff_model(void);
Suite *suite_diff_model(void)
{
	Suite *s = suite_create("diff_model");
	TCase *t = tcase_create("random");

	tcase_add_loop_test(t, random_images_agree_with_the_model, 0, 20);
	tcase_set_timeout(t, 120);
	suite_add_tcase(s, t);
	return s;
}
