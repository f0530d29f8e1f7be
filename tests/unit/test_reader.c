/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of single extents (FORMAT.md §5.6, §6): parts of compressed clusters of both codecs, the stream alone,
 * past the file's end.
 */
#include "tests/unit/image_builder.h"

#include <check.h>

enum { K = 1024, CLUSTER = 64 * K };

static struct error e;

#define MUST(call) ck_assert_msg((call) == 0, "%s", e.msg)

struct fixture {
	struct image_builder b;
	struct chain *c;
	struct walk *w;
	struct reader *r;
	uint8_t bytes[CLUSTER];
};

static void begin(struct fixture *f, unsigned flags)
{
	builder_init(&f->b, 3 * CLUSTER - 512, 16, flags);
	for (unsigned i = 0; i < CLUSTER; i++)
		f->bytes[i] = (uint8_t)(i / 300 * 7);
}

static void open_it(struct fixture *f)
{
	f->c = chain_of(&(struct io *){builder_finish(&f->b)}, NULL, 1);
	MUST(walk_new(&f->w, f->c, 1, 0, &e));
	MUST(reader_new(&f->r, &e));
}

static void end(struct fixture *f)
{
	reader_free(f->r);
	walk_free(f->w);
	chain_close(f->c);
	builder_free(&f->b);
}

START_TEST(compressed)
{
	static uint8_t got[CLUSTER], cluster[CLUSTER];
	static struct fixture f;
	const uint8_t *stream;
	struct codec *codec;
	struct extent x;
	size_t len;

	begin(&f, _i ? BUILD_ZSTD : 0);
	builder_compressed(&f.b, 0, f.bytes, 0);
	builder_compressed(&f.b, 2 * CLUSTER, f.bytes, 777); /* the disk ends in it */
	open_it(&f);
	MUST(walk_extent(f.w, 1000, f.c->size, &x, &e));
	ck_assert(x.kind == EXTENT_COMPRESSED && x.skip == 1000 && x.len == CLUSTER - 1000 && x.codec == _i);
	MUST(reader_read(f.r, &x, 5, got, 100, &e));
	ck_assert_mem_eq(got, f.bytes + 1005, 100);
	MUST(walk_extent(f.w, 0, f.c->size, &x, &e));
	MUST(reader_read(f.r, &x, 0, got, CLUSTER, &e));
	ck_assert_mem_eq(got, f.bytes, CLUSTER);
	ck_assert_int_eq(reader_read(f.r, &x, 1, got, CLUSTER, &e), -1);
	MUST(walk_extent(f.w, 2 * CLUSTER, f.c->size, &x, &e));
	ck_assert_uint_eq(x.len, CLUSTER - 512);
	memset(got, 1, sizeof got);
	MUST(reader_read(f.r, &x, 0, got, x.len, &e));
	ck_assert_mem_eq(got, f.bytes, x.len);

	MUST(reader_stream(f.r, &x, cluster, &stream, &len, &e));
	ck_assert_mem_eq(cluster, f.bytes, CLUSTER);
	ck_assert(len < x.csize);
	MUST(codec_new(&codec, (enum codec_id)x.codec, CLUSTER, &e));
	MUST(codec_decompress(codec, stream, len, got, CLUSTER, NULL, &e));
	ck_assert_mem_eq(got, f.bytes, CLUSTER);
	codec_free(codec);
	end(&f);
}
END_TEST

START_TEST(broken_stream)
{
	static struct fixture f;
	static uint8_t got[CLUSTER];
	struct extent x;
	uint64_t host;

	begin(&f, _i ? BUILD_ZSTD : 0);
	host = builder_compressed(&f.b, 0, f.bytes, 0);
	builder_poke(&f.b, host, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
	open_it(&f);
	MUST(walk_extent(f.w, 0, f.c->size, &x, &e));
	for (unsigned i = 0; i < 2; i++) { /* a failure is not kept as a result */
		ck_assert_int_eq(reader_read(f.r, &x, 10, got, 100, &e), -1);
		ck_assert_msg(e.code == ERR_CORRUPT && strstr(e.msg, "guest offset 0x0"), "%s", e.msg);
	}
	end(&f);
}
END_TEST

START_TEST(past_the_end_of_the_file)
{
	static struct fixture f;
	static uint8_t got[CLUSTER], zeros[CLUSTER];
	struct extent x;

	begin(&f, 0);
	builder_entry(&f.b, 0, 0x4000000, 0);
	open_it(&f);
	MUST(walk_extent(f.w, 0, f.c->size, &x, &e));
	ck_assert(x.kind == EXTENT_DATA && x.host == 0x4000000);
	memset(got, 1, sizeof got);
	MUST(reader_read(f.r, &x, 0, got, CLUSTER, &e));
	ck_assert_mem_eq(got, zeros, CLUSTER);
	end(&f);
}
END_TEST

Suite *suite_reader(void);
Suite *suite_reader(void)
{
	Suite *s = suite_create("reader");
	TCase *t = tcase_create("reader");

	tcase_add_loop_test(t, compressed, 0, 2);
	tcase_add_loop_test(t, broken_stream, 0, 2);
	tcase_add_test(t, past_the_end_of_the_file);
	suite_add_tcase(s, t);
	return s;
}
