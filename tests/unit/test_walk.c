/* SPDX-License-Identifier: Apache-2.0
 *
 * The map of one layer and of a chain (FORMAT.md §5.6, §10.4): single cases with their extents, damaged tables,
 * and random chains against a model that is nothing but an array of sectors.
 */
#include "tests/unit/image_builder.h"

#include <check.h>

enum { SECTOR = 512, K = 1024 };

static struct error e;

#define MUST(call) ck_assert_msg((call) == 0, "%s", e.msg)

/* All extents of the chain in words: "kind start+len depth @host", sizes in units of `unit`. */
static char *map_text(struct chain *c, uint64_t unit)
{
	static char text[4000];
	size_t at = 0;
	struct walk *w;

	MUST(walk_new(&w, c, c->count, 0, &e));
	for (uint64_t p = 0; p < c->size;) {
		struct extent x;

		MUST(walk_extent(w, p, c->size, &x, &e));
		ck_assert(x.start == p && x.len > 0);
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%c%g+%g/%u", at ? " " : "", "-zdc"[x.kind],
			(double)x.start / (double)unit, (double)x.len / (double)unit, x.depth);
		if (x.has_host && x.kind != EXTENT_COMPRESSED)
			at += (size_t)snprintf(text + at, sizeof text - at, "@%g", (double)x.host / (double)unit);
		p += x.len;
	}
	walk_free(w);
	return text;
}

static uint8_t *filled(size_t len, int value)
{
	static uint8_t bytes[2 << 20];

	memset(bytes, value, len);
	return bytes;
}

START_TEST(runs_merge_and_split)
{
	struct image_builder b;
	struct chain *c;
	uint64_t host;

	builder_init(&b, 64 * 64 * K, 16, 0);
	host = builder_alloc(&b, 8);
	ck_assert_uint_eq(host, 3 * 64 * K);
	builder_entry(&b, 2 * 64 * K, host | ENTRY_COPIED, 0);
	builder_entry(&b, 3 * 64 * K, (host + 64 * K), 0); /* COPIED or not is the same run */
	builder_entry(&b, 4 * 64 * K, (host + 3 * 64 * K) | ENTRY_COPIED, 0);
	builder_entry(&b, 5 * 64 * K, ENTRY_ZERO, 0);
	builder_entry(&b, 6 * 64 * K, ENTRY_ZERO, 0);
	builder_entry(&b, 7 * 64 * K, (host + 5 * 64 * K) | ENTRY_ZERO, 0);
	builder_entry(&b, 8 * 64 * K, (host + 6 * 64 * K) | ENTRY_ZERO, 0);
	builder_compressed(&b, 9 * 64 * K, filled(64 * K, 1), 100);
	builder_compressed(&b, 10 * 64 * K, filled(64 * K, 1), 100);
	c = chain_of(&(struct io *){builder_finish(&b)}, NULL, 1);
	ck_assert_str_eq(map_text(c, 64 * K), "-0+2/0 d2+2/0@3 d4+1/0@6 z5+2/0 z7+2/0@8 c9+1/0 c10+1/0 -11+53/0");
	chain_close(c);
	builder_free(&b);
}
END_TEST

START_TEST(runs_cross_tables)
{
	struct image_builder b;
	struct chain *c;
	uint64_t host, tables = 5, per_table = 512 / 8;

	builder_init(&b, tables * per_table * 512, 9, 0);
	host = builder_alloc(&b, (unsigned)(3 * per_table));
	for (uint64_t i = 0; i < 3 * per_table; i++)
		builder_entry(&b, (per_table + i) * 512, host + i * 512, 0);
	c = chain_of(&(struct io *){builder_finish(&b)}, NULL, 1);
	ck_assert_str_eq(map_text(c, 512), "-0+64/0 d64+192/0@3 -256+64/0");
	chain_close(c);
	builder_free(&b);
}
END_TEST

START_TEST(subclusters)
{
	struct image_builder b;
	struct chain *c;
	uint64_t host;

	builder_init(&b, 4 * 64 * K, 16, BUILD_EXTENDED);
	host = builder_alloc(&b, 2);
	builder_entry(&b, 0, host, 0x0000000f000000f0ull);       /* zero 0-3, data 4-7, else unallocated */
	builder_entry(&b, 64 * K, host + 64 * K, 0xffffffffull); /* all data */
	builder_entry(&b, 2 * 64 * K, 0, 0xffffffff00000000ull); /* all zero without a host cluster */
	c = chain_of(&(struct io *){builder_finish(&b)}, NULL, 1);
	ck_assert_str_eq(map_text(c, 2 * K), "z0+4/0@96 d4+4/0@100 -8+24/0@104 d32+32/0@128 z64+32/0 -96+32/0");
	chain_close(c);
	builder_free(&b);
}
END_TEST

/* A middle layer that is shorter than both others: its end is where the base below is not to be seen any more. */
START_TEST(short_backing_hides_what_is_below)
{
	struct image_builder top, mid, base;
	struct io *files[3];
	struct chain *c;

	builder_init(&top, 8 * 64 * K, 16, 0);
	builder_init(&mid, 3 * 64 * K + 512, 16, 0);
	builder_init(&base, 8 * 64 * K, 16, 0);
	builder_data(&top, 6 * 64 * K, filled(64 * K, 6));
	builder_data(&mid, 3 * 64 * K, filled(64 * K, 0xee)); /* all but 512 bytes of it are beyond its end */
	for (unsigned i = 0; i < 8; i++)
		builder_data(&base, i * 64 * K, filled(64 * K, 1));
	files[0] = builder_finish(&top);
	files[1] = builder_finish(&mid);
	files[2] = builder_finish(&base);
	c = chain_of(files, NULL, 3);
	ck_assert_str_eq(map_text(c, 512),
		"d0+128/2@384 d128+256/2@640 d384+1/1@384 -385+383/0 d768+128/0@384 -896+128/0");
	chain_close(c);
	builder_free(&top);
	builder_free(&mid);
	builder_free(&base);
}
END_TEST

START_TEST(walk_below_a_layer)
{
	struct image_builder top, base;
	struct io *files[2];
	struct chain *c;
	struct walk *w;
	struct extent x;

	builder_init(&top, 2 * 64 * K, 16, 0);
	builder_init(&base, 2 * 64 * K, 16, 0);
	builder_data(&top, 0, filled(64 * K, 1));
	builder_data(&base, 64 * K, filled(64 * K, 2));
	files[0] = builder_finish(&top);
	files[1] = builder_finish(&base);
	c = chain_of(files, NULL, 2);
	MUST(walk_new(&w, c, 1, 0, &e));
	MUST(walk_extent(w, 64 * K, c->size, &x, &e));
	ck_assert(x.kind == EXTENT_ABSENT && x.len == 64 * K);
	MUST(walk_extent(w, 512, 1024, &x, &e)); /* backwards, and within a cluster */
	ck_assert(x.kind == EXTENT_DATA && x.len == 512 && x.host == 3 * 64 * K + 512);
	ck_assert_int_eq(walk_extent(w, c->size, c->size + 1, &x, &e), -1);
	walk_free(w);
	chain_close(c);
	builder_free(&top);
	builder_free(&base);
}
END_TEST

START_TEST(raw_backing)
{
	struct image_builder top;
	struct io *files[2];
	struct chain *c;

	builder_init(&top, 4 * 64 * K, 16, 0);
	builder_entry(&top, 64 * K, ENTRY_ZERO, 0);
	files[0] = builder_finish(&top);
	MUST(io_memory_new(&files[1], filled(3 * 64 * K, 7), 3 * 64 * K, "raw", &e));
	c = chain_of(files, NULL, 2);
	ck_assert_str_eq(map_text(c, 64 * K), "d0+1/1@0 z1+1/0 d2+1/1@2 -3+1/0");
	chain_close(c);
	builder_free(&top);
}
END_TEST

START_TEST(data_file)
{
	struct image_builder b;
	struct io *data;
	struct chain *c;
	struct walk *w;
	struct extent x;

	builder_init(&b, 4 * 64 * K, 16, BUILD_DATA_FILE);
	builder_entry(&b, 0, ENTRY_COPIED, 0); /* host 0 is a cluster in a data file */
	builder_entry(&b, 64 * K, ENTRY_COPIED | 64 * K, 0);
	MUST(io_memory_new(&data, filled(4 * 64 * K, 7), 4 * 64 * K, "data", &e));
	c = chain_of(&(struct io *){builder_finish(&b)}, &data, 1);
	ck_assert_str_eq(map_text(c, 64 * K), "d0+2/0@0 -2+2/0");
	MUST(walk_new(&w, c, 1, 0, &e));
	MUST(walk_extent(w, 0, c->size, &x, &e));
	ck_assert_ptr_eq(x.file, data);
	walk_free(w);
	/* cut off behind the first cluster */
	MUST(io_truncate(data, 64 * K, &e));
	MUST(walk_new(&w, c, 1, 0, &e));
	ck_assert_int_eq(walk_extent(w, 0, c->size, &x, &e), -1);
	ck_assert_msg(e.code == ERR_CORRUPT && strstr(e.msg, "external data file"), "%s", e.msg);
	walk_free(w);
	chain_close(c);
	builder_free(&b);
}
END_TEST

static const struct {
	const char *what;
	unsigned flags;
	uint64_t guest, raw, bitmap;
	uint64_t l1_raw; /* when not 0, instead of an L2 entry */
	const char *words[3];
} broken[] = {
	{"cluster not aligned", 0, 64 * K, 0x50200, 0, 0, {"0x50200", "guest offset 0x10000", "L2 table at 0x"}},
	{"zero flag in version 2", BUILD_V2, 64 * K, 1, 0, 0, {"version 2", "entry 1", "memory"}},
	{"data and zero at once", BUILD_EXTENDED, 0, 0x50000, 0x100000001, 0, {"0x0000000100000001", "entry 0", ""}},
	{"data without a host cluster", BUILD_EXTENDED, 0, 0, 1, 0, {"no host", "", ""}},
	{"wrong host in a data file", BUILD_DATA_FILE, 64 * K, 0x50000, 0, 0, {"0x50000", "0x10000", "data file"}},
	{"compressed in a data file", BUILD_DATA_FILE, 0, ENTRY_COMPRESSED | 0x50000, 0, 0, {"compressed", "", ""}},
	{"L2 table not aligned", 0, 0, 0, 0, 0x50200, {"0x50200", "L1 entry 0", ""}},
	{"L2 table past the end", 0, 0, 0, 0, 0x5000000, {"0x5000000", "past the end", "L2 table"}},
	{"L2 table at the highest offset", 0, 0, 0, 0, 0x00ffffffffff0000, {"L2 table", "", ""}},
};

START_TEST(broken_tables_are_named)
{
	struct image_builder b;
	struct io *data;
	struct chain *c;
	struct walk *w;
	struct extent x;
	uint64_t good = 0;
	int failed = 0;

	builder_init(&b, 4 * 64 * K, 16, broken[_i].flags);
	MUST(io_memory_new(&data, filled(4 * 64 * K, 7), 4 * 64 * K, "data", &e));
	if (broken[_i].l1_raw)
		b.l1[0] = broken[_i].l1_raw;
	else
		builder_entry(&b, broken[_i].guest, broken[_i].raw, broken[_i].bitmap);
	c = chain_of(&(struct io *){builder_finish(&b)}, &data, 1);
	MUST(walk_new(&w, c, 1, 0, &e));
	while (!failed && good < c->size) {
		failed = walk_extent(w, good, c->size, &x, &e);
		if (!failed)
			good += x.len;
	}
	ck_assert_msg(failed && e.code == ERR_CORRUPT, "%s", broken[_i].what);
	/* what lies before the damage is told */
	ck_assert_msg(good == broken[_i].guest, "%s: %llu", broken[_i].what, (unsigned long long)good);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_msg(broken[_i].words[i] == NULL || strstr(e.msg, broken[_i].words[i]), "%s: %s",
			broken[_i].what, e.msg);
	walk_free(w);
	chain_close(c);
	builder_free(&b);
}
END_TEST

/* Offsets near 2^56: the next entry of a run would set a reserved bit; such an entry is no continuation. */
START_TEST(run_ends_at_the_highest_offset)
{
	struct image_builder b;
	struct chain *c;

	builder_init(&b, 4 * 64 * K, 16, 0);
	builder_entry(&b, 0, 0x00ffffffffff0000, 0);
	builder_entry(&b, 64 * K, 0x0100000000000000, 0); /* reserved bits alone: unallocated */
	c = chain_of(&(struct io *){builder_finish(&b)}, NULL, 1);
	ck_assert_int_eq(strncmp(map_text(c, 64 * K), "d0+1/0@", 7), 0);
	ck_assert_ptr_nonnull(strstr(map_text(c, 64 * K), " -1+3/0"));
	chain_close(c);
	builder_free(&b);
}
END_TEST

Suite *suite_walk(void);
Suite *suite_walk(void)
{
	Suite *s = suite_create("walk");
	TCase *t = tcase_create("walk");

	tcase_add_test(t, runs_merge_and_split);
	tcase_add_test(t, runs_cross_tables);
	tcase_add_test(t, subclusters);
	tcase_add_test(t, short_backing_hides_what_is_below);
	tcase_add_test(t, walk_below_a_layer);
	tcase_add_test(t, raw_backing);
	tcase_add_test(t, data_file);
	tcase_add_loop_test(t, broken_tables_are_named, 0, (int)(sizeof broken / sizeof broken[0]));
	tcase_add_test(t, run_ends_at_the_highest_offset);
	suite_add_tcase(s, t);
	return s;
}
