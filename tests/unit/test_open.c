/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening one image (FORMAT.md §3, §4, §8, §9): what is refused and in which words, what an untrusted image may
 * not have, snapshots found, selected and proved.
 */
#include "tests/unit/image_builder.h"

#include <check.h>

enum { K = 1024 };

static struct error e;

#define MUST(call) ck_assert_msg((call) == 0, "%s", e.msg)

/* Opens what is built; the builder and its io are gone afterwards. */
static int try_open(struct image_builder *b, unsigned flags)
{
	struct io *io = builder_finish(b);
	struct qcow2 *q = NULL;
	int rc = qcow2_open(&q, io, flags, &e);

	qcow2_close(q);
	io_close(io);
	builder_free(b);
	return rc;
}

static void no_change(struct image_builder *b)
{
	(void)b;
}
static void encrypted(struct image_builder *b)
{
	b->h.crypt_method = 2;
}
static void unknown_named(struct image_builder *b)
{
	static const uint8_t row[48] = "\0\x07time travel";

	b->h.incompatible |= 1 << 7 | 1 << 9;
	builder_extension(b, EXT_FEATURE_NAMES, row, sizeof row);
}
static void with_backing(struct image_builder *b)
{
	builder_backing(b, "/etc/passwd", "raw");
}
static void with_data_file(struct image_builder *b)
{
	b->h.incompatible |= INCOMPAT_DATA_FILE;
	builder_extension(b, EXT_DATA_FILE, "data", 4);
}
static void with_data_file_name_only(struct image_builder *b)
{
	builder_extension(b, EXT_DATA_FILE, "data", 4);
}
static void unknown_extension(struct image_builder *b)
{
	builder_extension(b, 0x12345678, "what", 4);
}
static void corrupt_bit(struct image_builder *b)
{
	b->h.incompatible |= INCOMPAT_CORRUPT;
}
static void dirty_bit(struct image_builder *b)
{
	b->h.incompatible |= INCOMPAT_DIRTY;
}
static void nul_in_format(struct image_builder *b)
{
	builder_extension(b, EXT_BACKING_FORMAT, "ra\0w", 4);
}
static void format_twice(struct image_builder *b)
{
	builder_extension(b, EXT_BACKING_FORMAT, "raw", 3);
	builder_extension(b, EXT_BACKING_FORMAT, "raw", 3);
}
static void long_format(struct image_builder *b)
{
	builder_extension(b, EXT_BACKING_FORMAT, "sixteen letters!", 16);
}
static void crypto_extension(struct image_builder *b)
{
	builder_extension(b, EXT_CRYPTO, "0123456789abcdef", 16);
}
static void snapshots_past_the_end(struct image_builder *b)
{
	b->h.snapshots_offset = 0x10000000;
	b->h.snapshot_count = 1000;
}
static void bitmaps_past_the_end(struct image_builder *b)
{
	uint8_t x[24];

	bitmaps_extension_encode(&(struct bitmaps_extension){1, 24, 0x10000000}, x);
	builder_extension(b, EXT_BITMAPS, x, sizeof x);
	b->h.autoclear = AUTOCLEAR_BITMAPS;
}
static void bitmaps_not_vouched_for(struct image_builder *b)
{
	bitmaps_past_the_end(b);
	b->h.autoclear = 0;
}

static const struct {
	const char *what;
	void (*change)(struct image_builder *b);
	unsigned flags;
	enum err_code code; /* ERR_OK: opens */
	const char *word;
} cases[] = {
	{"plain", no_change, 0, ERR_OK, ""},
	{"plain, untrusted", no_change, QCOW2_OPEN_STRICT, ERR_OK, ""},
	{"encrypted", encrypted, 0, ERR_UNSUPPORTED, "encrypted"},
	{"unknown features", unknown_named, 0, ERR_UNSUPPORTED, "time travel, unknown incompatible feature bit 9"},
	{"unknown features, info", unknown_named, QCOW2_OPEN_INSPECT, ERR_UNSUPPORTED, "time travel"},
	{"backing", with_backing, 0, ERR_OK, ""},
	{"backing, untrusted", with_backing, QCOW2_OPEN_STRICT, ERR_DENIED, "backing"},
	{"data file", with_data_file, 0, ERR_OK, ""},
	{"data file, untrusted", with_data_file, QCOW2_OPEN_STRICT, ERR_DENIED, "data file"},
	{"data file's name, untrusted", with_data_file_name_only, QCOW2_OPEN_STRICT, ERR_DENIED, "data file"},
	{"unknown extension", unknown_extension, 0, ERR_OK, ""},
	{"unknown extension, untrusted", unknown_extension, QCOW2_OPEN_STRICT, ERR_DENIED, "0x12345678"},
	{"corrupt", corrupt_bit, 0, ERR_OK, ""},
	{"corrupt, untrusted", corrupt_bit, QCOW2_OPEN_STRICT, ERR_DENIED, "corrupt"},
	{"dirty", dirty_bit, QCOW2_OPEN_STRICT, ERR_OK, ""},
	{"NUL in a name", nul_in_format, 0, ERR_CORRUPT, "NUL"},
	{"extension twice", format_twice, 0, ERR_CORRUPT, "twice"},
	{"long format name", long_format, 0, ERR_CORRUPT, "16 bytes"},
	{"encryption header", crypto_extension, 0, ERR_CORRUPT, "encryption"},
	{"snapshot table past the end", snapshots_past_the_end, 0, ERR_CORRUPT, "snapshot table of 1000"},
	{"bitmaps past the end", bitmaps_past_the_end, 0, ERR_CORRUPT, "bitmap directory"},
	{"bitmaps without the autoclear bit", bitmaps_not_vouched_for, 0, ERR_OK, ""},
};

START_TEST(opens_or_says_why)
{
	struct image_builder b;
	int rc;

	builder_init(&b, 1 << 20, 16, 0);
	cases[_i].change(&b);
	e = (struct error){0};
	rc = try_open(&b, cases[_i].flags);
	ck_assert_msg(rc == (cases[_i].code ? -1 : 0) && e.code == cases[_i].code, "%s: %s", cases[_i].what, e.msg);
	ck_assert_msg(rc == 0 || strstr(e.msg, cases[_i].word), "%s: %s", cases[_i].what, e.msg);
}
END_TEST

/* More extensions than the first read has: the rest of the cluster is read too. */
START_TEST(long_extensions)
{
	static const uint8_t many[5000] = {1};
	struct image_builder b;
	struct qcow2 *q;
	struct io *io;

	builder_init(&b, (1 << 20) + 700, 16, 0);
	builder_backing(&b, "base", "raw");
	builder_extension(&b, 0x12345678, many, sizeof many);
	builder_extension(&b, EXT_DATA_FILE, "data", 4);
	io = builder_finish(&b);
	MUST(qcow2_open(&q, io, 0, &e));
	ck_assert_str_eq(q->backing_name, "base");
	ck_assert_str_eq(q->backing_format, "raw");
	ck_assert_str_eq(q->data_file_name, "data");
	ck_assert_uint_eq(q->size, (1 << 20) + 512); /* whole sectors */
	qcow2_close(q);
	io_close(io);
	builder_free(&b);
}
END_TEST

START_TEST(no_image_at_all)
{
	struct qcow2 *q;
	struct io *io;

	MUST(io_memory_new(&io, "hello", 5, "memory", &e));
	ck_assert_int_eq(qcow2_open(&q, io, 0, &e), -1);
	ck_assert_str_eq(e.msg, "Image is not in qcow2 format");
	io_close(io);
}
END_TEST

static uint64_t mapped(struct qcow2 *q, struct io *io)
{
	struct layer l = {
		.path = (char *)"memory", .format = IMAGE_QCOW2, .file = io, .data = io, .q = q, .size = q->size};
	struct chain c = {.layers = &l, .count = 1, .size = q->size};
	struct extent x;
	struct walk *w;

	MUST(walk_new(&w, &c, 1, 0, &e));
	MUST(walk_extent(w, 0, c.size, &x, &e));
	walk_free(w);
	return x.host;
}

START_TEST(snapshots)
{
	static uint8_t cluster[64 * K];
	struct image_builder b;
	struct qcow2 *q;
	uint64_t first, second;
	struct io *io;
	struct snapshot_query query = {.any = "two"};

	builder_init(&b, 1 << 20, 16, 0);
	first = builder_data(&b, 0, cluster);
	builder_snapshot(&b, "1", "two", 512 * K);
	second = builder_data(&b, 0, cluster);
	builder_snapshot(&b, "two", "1", 0);
	builder_snapshot(&b, "3", "1", 1 << 30); /* larger than its L1 */
	io = builder_finish(&b);
	MUST(qcow2_open(&q, io, 0, &e));
	ck_assert_uint_eq(q->snapshot_count, 3);
	ck_assert_int_eq(qcow2_snapshot_find(q, &query, &e), 0); /* name before id */
	query.refuse_ambiguous = true;
	ck_assert_int_eq(qcow2_snapshot_find(q, &query, &e), -1);
	ck_assert_msg(e.code == ERR_USAGE && strstr(e.msg, "id '1' name 'two', id 'two' name '1'"), "%s", e.msg);
	query = (struct snapshot_query){.id = "3", .name = "1", .refuse_ambiguous = true};
	ck_assert_int_eq(qcow2_snapshot_find(q, &query, &e), 2);
	query = (struct snapshot_query){.any = "3"};
	ck_assert_int_eq(qcow2_snapshot_find(q, &query, &e), 2);
	query = (struct snapshot_query){.name = "3"};
	ck_assert_int_eq(qcow2_snapshot_find(q, &query, &e), -1);
	ck_assert_int_eq(e.code, ERR_NOT_FOUND);

	ck_assert_uint_eq(q->size, 1 << 20);
	MUST(qcow2_snapshot_select(q, 0, &e));
	ck_assert_uint_eq(q->size, 512 * K);
	ck_assert_uint_eq(mapped(q, io), first);
	MUST(qcow2_snapshot_verify(q, &e));
	MUST(qcow2_snapshot_select(q, 1, &e));
	ck_assert_uint_eq(q->size, 1 << 20);
	ck_assert_uint_eq(mapped(q, io), second);
	MUST(qcow2_snapshot_verify(q, &e));
	ck_assert_int_eq(qcow2_snapshot_select(q, 2, &e), -1);
	ck_assert_msg(e.code == ERR_CORRUPT && strstr(e.msg, "snapshot '1': L1 table of 1 entries"), "%s", e.msg);
	qcow2_close(q);
	io_close(io);
	builder_free(&b);
}
END_TEST

/* What another process may do to a snapshot that is being read. */
START_TEST(a_snapshot_that_goes_is_noticed)
{
	static uint8_t cluster[64 * K];
	struct image_builder b;
	struct qcow2 *q;
	struct io *io;

	builder_init(&b, 1 << 20, 16, 0);
	builder_data(&b, 0, cluster);
	builder_snapshot(&b, "1", "one", 512 * K);
	builder_snapshot(&b, "2", "two", 512 * K);
	io = builder_finish(&b);
	MUST(qcow2_open(&q, io, 0, &e));
	MUST(qcow2_snapshot_select(q, 0, &e));
	builder_snapshot(&b, "3", "three", 512 * K); /* one more does no harm, nor does a new place of the table */
	builder_finish(&b);
	MUST(qcow2_snapshot_verify(q, &e));
	if (_i == 0) { /* deleted */
		b.h.snapshot_count = 1;
		memmove(b.snapshots, b.snapshots + b.snapshots_len / 3, b.snapshots_len / 3);
		builder_finish(&b);
	} else if (_i == 1) { /* its L1 was used for something else */
		builder_poke(&b, q->l1_offset, "x", 1);
	} else { /* the same name, taken again */
		b.snapshots[19] ^= 1;
		builder_finish(&b);
	}
	ck_assert_int_eq(qcow2_snapshot_verify(q, &e), -1);
	ck_assert_msg(e.code == ERR_CHANGED && strstr(e.msg, "one"), "%s", e.msg);
	qcow2_close(q);
	io_close(io);
	builder_free(&b);
}
END_TEST

static size_t put_bitmap(uint8_t *directory, size_t at, const char *name, uint32_t flags)
{
	struct bitmap_entry x = {.table_offset = 64 * K,
		.table_entries = 1,
		.flags = flags,
		.type = 1,
		.granularity_bits = 16,
		.name_len = (uint16_t)strlen(name),
		.name = name};

	return at + bitmap_entry_encode(&x, directory + at, 4096 - at);
}

static int open_with_bitmaps(const char *second, size_t extra_bytes, struct qcow2 **q, struct io **io)
{
	uint8_t directory[4096] = {0}, x[24];
	struct image_builder b;
	size_t len;
	uint64_t host;

	builder_init(&b, 1 << 20, 16, 0);
	len = put_bitmap(directory, 0, "one", 0);
	len = put_bitmap(directory, len, second, BITMAP_IN_USE);
	host = builder_alloc(&b, 1);
	builder_poke(&b, host, directory, len);
	bitmaps_extension_encode(&(struct bitmaps_extension){2, len + extra_bytes, host}, x);
	builder_extension(&b, EXT_BITMAPS, x, sizeof x);
	b.h.autoclear = AUTOCLEAR_BITMAPS;
	*io = builder_finish(&b);
	builder_free(&b);
	return qcow2_open(q, *io, 0, &e);
}

START_TEST(bitmaps)
{
	struct qcow2 *q = NULL;
	struct io *io;

	MUST(open_with_bitmaps("two", 0, &q, &io));
	ck_assert_uint_eq(q->bitmap_count, 2);
	ck_assert_str_eq(q->bitmaps[1].name, "two");
	ck_assert_uint_eq(q->bitmaps[1].entry.flags, BITMAP_IN_USE);
	qcow2_close(q);
	io_close(io);
	ck_assert_int_eq(open_with_bitmaps("one", 0, &q, &io), -1);
	ck_assert_ptr_nonnull(strstr(e.msg, "'one'"));
	io_close(io);
	ck_assert_int_eq(open_with_bitmaps("two", 8, &q, &io), -1);
	io_close(io);
}
END_TEST

Suite *suite_open(void);
Suite *suite_open(void)
{
	Suite *s = suite_create("open");
	TCase *t = tcase_create("open");

	tcase_add_loop_test(t, opens_or_says_why, 0, (int)(sizeof cases / sizeof cases[0]));
	tcase_add_test(t, long_extensions);
	tcase_add_test(t, no_image_at_all);
	tcase_add_test(t, snapshots);
	tcase_add_loop_test(t, a_snapshot_that_goes_is_noticed, 0, 3);
	tcase_add_test(t, bitmaps);
	suite_add_tcase(s, t);
	return s;
}
