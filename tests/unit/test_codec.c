/* SPDX-License-Identifier: Apache-2.0
 *
 * Compressed clusters, FORMAT.md §6. The judges are zlib and zstd called the way QEMU calls them: what they read we must
 * read, and what we write they must read.
 */
#include <check.h>
#include <zlib.h>
#include <zstd.h>

#include "qcow2/codec.h"

enum { MAX = 2 << 20, GARBAGE = 511, CLUSTER = 65536 };

/* ---- data ---- */

static uint32_t random_state;

static uint32_t random32(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return random_state >> 8 ^ random_state << 24;
}

static void fill_zero(uint8_t *p, size_t n)
{
	memset(p, 0, n);
}

static void fill_random(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(random32() >> 5);
}

static void fill_text(uint8_t *p, size_t n)
{
	static const char *const word[] = {
		"cluster ", "entry ", "host ", "guest ", "of the ", "a ", "refcount\n", "12", ", "};

	for (size_t i = 0; i < n;) {
		const char *w = word[random32() % 9];
		size_t len = min_u64(strlen(w), n - i);
		memcpy(p + i, w, len);
		i += len;
	}
}

/* New bytes, runs, copies from near and far, short and long, also of exactly 64 KiB back. */
static void fill_copies(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n;) {
		uint32_t r = random32();
		size_t len = min_u64(1 + (random32() >> (16 + r % 16)) % 3000, n - i);
		size_t dist = r & 64 ? 1 + random32() % 5 : r & 128 ? 65536 : 1 + random32() % 40000;

		if (r % 3 == 0)
			fill_random(p + i, min_u64(len, 40));
		for (size_t k = 0; k < len && (r % 3 || k >= 40); k++)
			p[i + k] = i + k >= dist ? p[i + k - dist] : 7;
		i += r % 3 ? len : min_u64(len, 40);
	}
}

static void fill_period(uint8_t *p, size_t n)
{
	fill_random(p, min_u64(n, 65536));
	for (size_t i = 65536; i < n; i++)
		p[i] = p[i - 65536];
}

static void fill_few_symbols(uint8_t *p, size_t n) /* skewed, so that code lengths reach their limit */
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)__builtin_ctz(random32() | 1u << 24);
}

static void fill_half(uint8_t *p, size_t n)
{
	fill_random(p, n / 2);
	fill_text(p + n / 2, n - n / 2);
}

static void fill_sparse(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = random32() & 0x30000 ? 0 : (uint8_t)(random32() >> 5 | 128);
}

static const struct {
	const char *name;
	void (*fill)(uint8_t *p, size_t n);
} patterns[] = {
	{"zero", fill_zero},
	{"random", fill_random},
	{"text", fill_text},
	{"copies", fill_copies},
	{"period", fill_period},
	{"few symbols", fill_few_symbols},
	{"half random", fill_half},
	{"sparse", fill_sparse},
};
enum { PATTERNS = sizeof patterns / sizeof *patterns };

static uint8_t *plain, *packed, *back, *other;

static void make_buffers(void)
{
	plain = malloc(MAX);
	packed = malloc(2 * MAX + GARBAGE);
	back = malloc(MAX + 1);
	other = malloc(2 * MAX);
	random_state = 1;
}

static void free_buffers(void)
{
	free(plain);
	free(packed);
	free(back);
	free(other);
}

/* ---- the judges ---- */

static bool qemu_inflates(const uint8_t *src, size_t src_len, uint8_t *dst, size_t dst_len)
{
	z_stream z = {.next_in = (Bytef *)src, .avail_in = (uInt)src_len, .next_out = dst, .avail_out = (uInt)dst_len};

	ck_assert_int_eq(inflateInit2(&z, -12), Z_OK);
	int rc = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return (rc == Z_STREAM_END || rc == Z_BUF_ERROR) && z.avail_out == 0;
}

/* A reader that keeps 4 KiB and no more. */
static bool strict_inflates(const uint8_t *src, size_t src_len, uint8_t *dst, size_t dst_len)
{
	z_stream z = {.next_in = (Bytef *)src, .avail_in = (uInt)src_len, .next_out = dst};
	int rc = Z_OK;

	ck_assert_int_eq(inflateInit2(&z, -12), Z_OK);
	while (rc == Z_OK && z.total_out < dst_len) {
		z.avail_out = (uInt)min_u64(100, dst_len - z.total_out);
		rc = inflate(&z, Z_NO_FLUSH);
	}
	inflateEnd(&z);
	return (rc == Z_OK || rc == Z_STREAM_END) && z.total_out == dst_len;
}

static bool qemu_unzstds(const uint8_t *src, size_t src_len, uint8_t *dst, size_t dst_len)
{
	ZSTD_DCtx *d = ZSTD_createDCtx();
	ZSTD_inBuffer in = {src, src_len, 0};
	ZSTD_outBuffer out = {dst, dst_len, 0};
	size_t rc = 1, last_in = SIZE_MAX, last_out = SIZE_MAX;

	while (out.pos < out.size && !ZSTD_isError(rc) && (in.pos != last_in || out.pos != last_out)) {
		last_in = in.pos;
		last_out = out.pos;
		rc = ZSTD_decompressStream(d, &out, &in);
	}
	ZSTD_freeDCtx(d);
	return out.pos == out.size && rc == 0;
}

static bool qemu_reads(enum codec_id id, const uint8_t *src, size_t src_len, uint8_t *dst, size_t dst_len)
{
	return (id == CODEC_DEFLATE ? qemu_inflates : qemu_unzstds)(src, src_len, dst, dst_len);
}

/* ---- round trips ---- */

static struct codec *codec_make(enum codec_id id, uint32_t cluster, int level, bool small_window)
{
	struct codec *c;
	struct error e = {.msg = ""};

	ck_assert_msg(codec_new(&c, id, cluster, &e) == 0, "%s", e.msg);
	ck_assert_msg(codec_set_level(c, (struct codec_level){level, small_window}, &e) == 0, "%s", e.msg);
	return c;
}

static void check_round_trip(struct codec *c, enum codec_id id, bool small_window, size_t len)
{
	struct error e = {.msg = ""};
	size_t stream_len = 0;

	packed[len - 1] = 0xa5;
	size_t n = codec_compress(c, plain, len, packed, len - 1);
	ck_assert_uint_eq(packed[len - 1], 0xa5);
	if (n == 0)
		return;
	ck_assert_uint_lt(n, len);
	memset(packed + n, 0xee, GARBAGE);
	ck_assert_msg(codec_decompress(c, packed, n + GARBAGE, back, len, &stream_len, &e) == 0, "%s", e.msg);
	ck_assert_uint_eq(stream_len, n);
	ck_assert_int_eq(memcmp(plain, back, len), 0);
	ck_assert_msg(codec_decompress(c, packed, n, back, len, NULL, &e) == 0, "%s", e.msg);
	memset(back, 0x5a, len);
	ck_assert(qemu_reads(id, packed, n + GARBAGE, back, len));
	ck_assert_int_eq(memcmp(plain, back, len), 0);
	if (id == CODEC_DEFLATE && small_window)
		ck_assert(strict_inflates(packed, n, back, len));
}

static void check_level(enum codec_id id, int level, bool small_window)
{
	static const size_t sizes[] = {512, 4096, 65536, 131072, MAX};

	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		if (sizes[s] > CLUSTER && level > 2 && level % 5)
			continue;
		struct codec *c = codec_make(id, (uint32_t)sizes[s], level, small_window);
		for (size_t i = 0; i < PATTERNS; i++) {
			patterns[i].fill(plain, sizes[s]);
			check_round_trip(c, id, small_window, sizes[s]);
		}
		codec_free(c);
	}
}

START_TEST(deflate_comes_back)
{
	check_level(CODEC_DEFLATE, _i, false);
}
END_TEST

START_TEST(deflate_in_4k_comes_back)
{
	check_level(CODEC_DEFLATE, _i, true);
}
END_TEST

START_TEST(zstd_comes_back)
{
	check_level(CODEC_ZSTD, _i, false);
}
END_TEST

/* Odd lengths, many shapes: our own encoder is the one that needs it. */
START_TEST(random_shapes_come_back)
{
	struct codec *c = codec_make(CODEC_DEFLATE, MAX, CODEC_DEFAULT, false);
	struct codec *narrow = codec_make(CODEC_DEFLATE, MAX, 2, true);

	for (int i = 0; i < 300; i++) {
		size_t len = 2 + random32() % (i % 10 ? 5000 : 300000), cut = random32() % len;
		patterns[random32() % PATTERNS].fill(plain, cut);
		patterns[random32() % PATTERNS].fill(plain + cut, len - cut);
		check_round_trip(c, CODEC_DEFLATE, false, len);
		check_round_trip(narrow, CODEC_DEFLATE, true, len);
	}
	codec_free(c);
	codec_free(narrow);
}
END_TEST

START_TEST(sizes_are_as_expected)
{
	for (enum codec_id id = CODEC_DEFLATE; id <= CODEC_ZSTD; id++) {
		struct codec *c = codec_make(id, CLUSTER, CODEC_DEFAULT, false);
		fill_random(plain, CLUSTER);
		ck_assert_uint_eq(codec_compress(c, plain, CLUSTER, packed, CLUSTER - 1), 0);
		fill_zero(plain, CLUSTER);
		size_t n = codec_compress(c, plain, CLUSTER, packed, CLUSTER - 1);
		ck_assert(n > 0 && n < 128);
		fill_text(plain, CLUSTER);
		n = codec_compress(c, plain, CLUSTER, packed, CLUSTER - 1);
		ck_assert(n > 0 && n < CLUSTER / 3);
		for (size_t cap = 1; cap < n; cap += cap / 4 + 1) {
			packed[cap] = 0xa5;
			ck_assert_uint_eq(codec_compress(c, plain, CLUSTER, packed, cap), 0);
			ck_assert_uint_eq(packed[cap], 0xa5);
		}
		codec_free(c);
	}
}
END_TEST

/* The fastest deflate passes over what looks random in a sample, and only over that. */
START_TEST(fastest_takes_no_time_for_what_looks_random)
{
	for (size_t len = 16384; len <= MAX; len *= 2) {
		struct codec *c = codec_make(CODEC_DEFLATE, (uint32_t)len, CODEC_FASTEST, false);
		fill_random(plain, len);
		ck_assert_uint_eq(codec_compress(c, plain, len, packed, len - 1), 0);
		memset(plain + len / 2, 0, len / 16);
		size_t n = codec_compress(c, plain, len, packed, len - 1);
		ck_assert(n > 0 && n < len - len / 20);
		for (size_t i = 0; i < len; i++) /* as even as random bytes are */
			plain[i] = (uint8_t)i;
		n = codec_compress(c, plain, len, packed, len - 1);
		ck_assert(n > 0 && n < len / 20);
		codec_free(c);
	}
}
END_TEST

/* The same bytes, whatever went through the codec before, and from another codec. */
static void check_determinism(enum codec_id id, int level, bool small_window)
{
	struct codec *c = codec_make(id, CLUSTER, level, small_window), *fresh;
	static uint8_t first[CLUSTER], again[CLUSTER];

	for (size_t i = 0; i < PATTERNS; i++) {
		patterns[i].fill(plain, CLUSTER);
		fresh = codec_make(id, CLUSTER, level, small_window);
		size_t n = codec_compress(fresh, plain, CLUSTER, first, CLUSTER - 1);
		codec_free(fresh);
		for (size_t k = 0; k < PATTERNS; k++) {
			patterns[k].fill(other, CLUSTER);
			codec_compress(c, other, CLUSTER, again, k % 2 ? CLUSTER - 1 : 100);
			ck_assert_uint_eq(codec_compress(c, plain, CLUSTER, again, CLUSTER - 1), n);
			ck_assert_int_eq(memcmp(first, again, n), 0);
		}
	}
	codec_free(c);
}

START_TEST(output_depends_on_input_only)
{
	for (int level = CODEC_FASTEST; level <= 6; level++) {
		check_determinism(CODEC_DEFLATE, level, false);
		check_determinism(CODEC_DEFLATE, level, true);
		check_determinism(CODEC_ZSTD, level, false);
	}
}
END_TEST

/* Nor of where in memory the codec lies: clusters whose first bytes come again, as many as an encoder that hashes its own
 * address needs to show it. */
START_TEST(output_does_not_depend_on_the_codecs_address)
{
	enum { CODECS = 3, BYTES = 400, AGAIN = 100, CLUSTERS = 32768 };
	struct codec *c[CODECS];
	static uint8_t first[BYTES], more[BYTES];

	for (int i = 0; i < CODECS; i++)
		c[i] = codec_make(CODEC_DEFLATE, CLUSTER, CODEC_FASTEST, false);
	for (int n = 0; n < CLUSTERS; n++) {
		fill_random(plain, BYTES);
		memset(plain + AGAIN + 4, 0, BYTES - AGAIN - 4);
		memcpy(plain + AGAIN, plain, 4);
		size_t len = codec_compress(c[0], plain, BYTES, first, BYTES - 1);
		ck_assert_uint_gt(len, 0);
		for (int i = 1; i < CODECS; i++) {
			ck_assert_uint_eq(codec_compress(c[i], plain, BYTES, more, BYTES - 1), len);
			ck_assert_int_eq(memcmp(first, more, len), 0);
		}
	}
	for (int i = 0; i < CODECS; i++)
		codec_free(c[i]);
}
END_TEST

START_TEST(levels_have_limits)
{
	struct error e;
	struct codec *c;

	for (enum codec_id id = CODEC_DEFLATE; id <= CODEC_ZSTD; id++) {
		int max = id == CODEC_DEFLATE ? 12 : 19;
		ck_assert_int_eq(codec_new(&c, id, CLUSTER, &e), 0);
		ck_assert_int_eq(codec_set_level(c, (struct codec_level){-2, false}, &e), -1);
		ck_assert_int_eq(e.code, ERR_USAGE);
		ck_assert_int_eq(codec_set_level(c, (struct codec_level){max + 1, false}, &e), -1);
		ck_assert_int_eq(e.code, ERR_USAGE);
		for (int level = -1; level <= max; level++)
			ck_assert_int_eq(codec_set_level(c, (struct codec_level){level, level & 1}, &e), 0);
		codec_free(c);
	}
	ck_assert_int_eq(codec_new(&c, (enum codec_id)2, CLUSTER, &e), -1);
	ck_assert_int_eq(e.code, ERR_UNSUPPORTED);
}
END_TEST

/* ---- reading what others wrote ---- */

/* We read what QEMU reads, as the same bytes. Where it fails we may succeed only if `lenient`. Returns our verdict. */
static bool same_verdict(struct codec *c, enum codec_id id, size_t src_len, size_t len, bool lenient)
{
	struct error e = {.code = ERR_OK, .msg = ""};
	size_t stream_len = 0;
	/* a copy of its own size, so that a sanitizer sees every byte too far */
	uint8_t *src = malloc(src_len + 1);

	memcpy(src, packed, src_len);
	bool qemu = qemu_reads(id, src, src_len, back, len);
	bool ours = codec_decompress(c, src, src_len, other, len, &stream_len, &e) == 0;
	ck_assert_msg(ours == qemu || (lenient && ours), "%s: %zu bytes for %zu: %s",
		qemu ? "QEMU reads it" : "we read it", src_len, len, e.msg);
	if (ours && qemu)
		ck_assert_int_eq(memcmp(back, other, len), 0);
	if (ours) {
		ck_assert_uint_le(stream_len, src_len);
		memset(back, 0, len);
		ck_assert_int_eq(codec_decompress(c, src, stream_len, back, len, NULL, &e), 0);
		ck_assert_int_eq(memcmp(back, other, len), 0);
	} else {
		ck_assert_int_eq(e.code, ERR_CORRUPT);
	}
	free(src);
	return ours;
}

START_TEST(truncated_and_broken_streams)
{
	for (enum codec_id id = CODEC_DEFLATE; id <= CODEC_ZSTD; id++) {
		struct codec *c = codec_make(id, 4096, CODEC_DEFAULT, false);
		fill_half(plain, 4096);
		size_t n = codec_compress(c, plain, 4096, packed, 4095);
		ck_assert_uint_gt(n, 0);
		for (size_t cut = 0; cut <= n; cut++)
			ck_assert(same_verdict(c, id, cut, 4096, false) || cut < n);
		ck_assert(!same_verdict(c, id, n, 4097, false));
		for (int i = 0; i < 2000; i++) {
			size_t at = random32() % n;
			uint8_t was = packed[at];
			packed[at] ^= (uint8_t)(1 << random32() % 8);
			same_verdict(c, id, n, 4096, true);
			packed[at] = was;
		}
		for (int i = 0; i < 500; i++) {
			fill_random(packed, 600);
			same_verdict(c, id, 600, 4096, true);
		}
		codec_free(c);
	}
}
END_TEST

/* A deflate stream that goes on behind the cluster's end is read by QEMU; a zstd frame that does so is not. */
START_TEST(streams_longer_than_the_cluster)
{
	for (enum codec_id id = CODEC_DEFLATE; id <= CODEC_ZSTD; id++)
		for (size_t more = 1; more <= 20000; more *= 3) {
			struct codec *c = codec_make(id, CLUSTER, 3, false);
			fill_text(plain, 8192 + more);
			size_t n = codec_compress(c, plain, 8192 + more, packed, CLUSTER - 1);
			ck_assert_uint_gt(n, 0);
			ck_assert(same_verdict(c, id, n, 8192, false) == (id == CODEC_DEFLATE));
			codec_free(c);
		}
}
END_TEST

/* One after another and also in one stream: stored, fixed and dynamic blocks, empty ones with them. */
START_TEST(deflate_of_many_blocks)
{
	struct codec *c = codec_make(CODEC_DEFLATE, CLUSTER, CODEC_DEFAULT, false);
	z_stream z = {0};

	fill_half(plain, CLUSTER);
	ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = plain;
	z.next_out = packed;
	z.avail_out = MAX;
	for (int i = 0; i < 64; i++) {
		z.avail_in = CLUSTER / 64;
		ck_assert_int_eq(deflateParams(&z, i % 7 ? 6 : 0, i % 3 ? Z_DEFAULT_STRATEGY : Z_FIXED), Z_OK);
		ck_assert_int_eq(deflate(&z, i == 63 ? Z_FINISH
					     : i % 2 ? Z_FULL_FLUSH
						     : Z_SYNC_FLUSH),
			i == 63 ? Z_STREAM_END : Z_OK);
	}
	ck_assert(same_verdict(c, CODEC_DEFLATE, z.total_out + GARBAGE, CLUSTER, false));
	ck_assert_int_eq(memcmp(other, plain, CLUSTER), 0);
	deflateEnd(&z);
	codec_free(c);
}
END_TEST

static size_t add_frame(size_t at, size_t from, size_t len, int checksum, int content_size)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();

	ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, checksum);
	ZSTD_CCtx_setParameter(z, ZSTD_c_contentSizeFlag, content_size);
	size_t n = ZSTD_compress2(z, packed + at, MAX, plain + from, len);
	ck_assert(!ZSTD_isError(n));
	ZSTD_freeCCtx(z);
	return at + n;
}

static size_t add_skippable(size_t at, uint32_t len)
{
	static const uint8_t magic[] = {0x53, 0x2a, 0x4d, 0x18};

	memcpy(packed + at, magic, 4);
	put_be32(packed + at + 4, __builtin_bswap32(len));
	memset(packed + at + 8, 0x77, len);
	return at + 8 + len;
}

START_TEST(zstd_of_many_frames)
{
	struct codec *c = codec_make(CODEC_ZSTD, CLUSTER, CODEC_DEFAULT, false);
	size_t at = 0;

	fill_half(plain, CLUSTER);
	at = add_skippable(at, 5);
	at = add_frame(at, 0, 10000, 1, 1);
	at = add_frame(at, 10000, 0, 0, 1);
	at = add_frame(at, 10000, 30000, 0, 0);
	at = add_skippable(at, 0);
	at = add_frame(at, 40000, CLUSTER - 40000, 1, 0);
	memset(packed + at, 0xee, GARBAGE);
	ck_assert(same_verdict(c, CODEC_ZSTD, at + GARBAGE, CLUSTER, false));
	ck_assert_int_eq(memcmp(other, plain, CLUSTER), 0);
	ck_assert(!same_verdict(c, CODEC_ZSTD, at - 1, CLUSTER, false)); /* half a checksum */
	packed[at - 1] ^= 1;
	ck_assert(!same_verdict(c, CODEC_ZSTD, at, CLUSTER, false)); /* a wrong one */
	codec_free(c);
}
END_TEST

/* A frame whose header asks for a window of 2 GiB holds one block of 512 equal bytes. */
START_TEST(zstd_windows_cost_nothing)
{
	static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x03, 0x10, 0x00, 'q'};
	struct codec *c = codec_make(CODEC_ZSTD, 512, CODEC_DEFAULT, false);
	struct error e = {.msg = ""};
	size_t stream_len;

	ck_assert_msg(codec_decompress(c, frame, sizeof frame, back, 512, &stream_len, &e) == 0, "%s", e.msg);
	ck_assert(stream_len == sizeof frame && back[0] == 'q' && back[511] == 'q');
	codec_free(c);
}
END_TEST

START_TEST(zstd_of_the_years_before_is_refused)
{
	static const uint8_t v07[] = {0x27, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x03, 0x10, 0x00, 'q', 0, 0, 0, 0};
	struct codec *c = codec_make(CODEC_ZSTD, 512, CODEC_DEFAULT, false);
	struct error e = {.msg = ""};

	ck_assert_int_eq(codec_decompress(c, v07, sizeof v07, back, 512, NULL, &e), -1);
	ck_assert_int_eq(e.code, ERR_CORRUPT);
	codec_free(c);
}
END_TEST

Suite *suite_codec(void);
Suite *suite_codec(void)
{
	Suite *s = suite_create("codec");
	TCase *t = tcase_create("codec");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, make_buffers, free_buffers);
	tcase_add_loop_test(t, deflate_comes_back, CODEC_FASTEST, CODEC_DEFLATE_MAX_LEVEL + 1);
	tcase_add_loop_test(t, deflate_in_4k_comes_back, CODEC_FASTEST, CODEC_DEFLATE_MAX_LEVEL + 1);
	tcase_add_loop_test(t, zstd_comes_back, CODEC_FASTEST, CODEC_ZSTD_MAX_LEVEL + 1);
	tcase_add_test(t, random_shapes_come_back);
	tcase_add_test(t, sizes_are_as_expected);
	tcase_add_test(t, fastest_takes_no_time_for_what_looks_random);
	tcase_add_test(t, output_depends_on_input_only);
	tcase_add_test(t, output_does_not_depend_on_the_codecs_address);
	tcase_add_test(t, levels_have_limits);
	tcase_add_test(t, truncated_and_broken_streams);
	tcase_add_test(t, streams_longer_than_the_cluster);
	tcase_add_test(t, deflate_of_many_blocks);
	tcase_add_test(t, zstd_of_many_frames);
	tcase_add_test(t, zstd_windows_cost_nothing);
	tcase_add_test(t, zstd_of_the_years_before_is_refused);
	suite_add_tcase(s, t);
	return s;
}
