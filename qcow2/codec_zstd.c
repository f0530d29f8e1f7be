/* SPDX-License-Identifier: Apache-2.0
 *
 * zstd (FORMAT.md §6.2). A cluster is one frame or several. Each is decoded in one call straight into the cluster, so that no
 * window is ever allocated, however large the frame header says it is.
 */
#include "qcow2/codec_backend.h"

#include <zstd.h>

/* What a repetition is searched with; which one is best depends on the data. */
enum search { SEARCH_TEXT, SEARCH_CODE, SEARCH_REST, SEARCHES };

static const struct search_tables {
	ZSTD_strategy strategy;
	int short_bits, long_bits; /* log2 of the entries, for clusters of 64 KiB; ZSTD_fast has the second only */
	int min_match;
} search_tables[SEARCHES] = {
	[SEARCH_TEXT] = {ZSTD_dfast, 11, 16, 4},
	[SEARCH_CODE] = {ZSTD_fast, 0, 16, 4},
	[SEARCH_REST] = {ZSTD_dfast, 11, 13, 4},
};
static const struct search_tables large_tables = {ZSTD_dfast, 14, 17, 4}; /* for clusters over 64 KiB */

struct zstd_codec {
	struct codec base;
	ZSTD_DCtx *decompressor; /* made at its first use */
	ZSTD_CCtx *compressor[SEARCHES];
	bool by_sample; /* each cluster tells which compressor; else there is the first only */
};

/* Frames that the cluster may be made of. The library would also take the formats of its years before version 0.8, which
 * no writer of qcow2 ever made. */
static bool is_frame(const uint8_t *p, size_t len)
{
	if (len < 4)
		return false;
	uint32_t magic = __builtin_bswap32(get_be32(p));
	return magic == ZSTD_MAGICNUMBER || (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

static int zstd_decompress(struct codec *base, const void *src, size_t src_len, void *dst, size_t dst_len,
	size_t *stream_len, struct error *e)
{
	struct zstd_codec *c = (struct zstd_codec *)base;
	const uint8_t *in = src;
	size_t used = 0, filled = 0;

	if (!c->decompressor)
		c->decompressor = ZSTD_createDCtx();
	if (!c->decompressor)
		return err_set(e, ERR_NO_MEMORY, "no memory for zstd");
	while (filled < dst_len) {
		size_t frame = 0, got = 0;

		if (!is_frame(in + used, src_len - used))
			return err_set(e, ERR_CORRUPT,
				"compressed cluster: no zstd frame at byte %zu of %zu, %zu of %zu bytes decoded", used,
				src_len, filled, dst_len);
		frame = ZSTD_findFrameCompressedSize(in + used, src_len - used);
		if (!ZSTD_isError(frame))
			got = ZSTD_decompressDCtx(c->decompressor, (uint8_t *)dst + filled, dst_len - filled, in + used,
				frame);
		if (ZSTD_isError(frame) || ZSTD_isError(got))
			return err_set(e, ERR_CORRUPT, "compressed cluster: zstd frame at byte %zu of %zu: %s", used,
				src_len, ZSTD_getErrorName(ZSTD_isError(frame) ? frame : got));
		used += frame;
		filled += got;
	}
	*stream_len = used;
	return 0;
}

/* The default for clusters of 64 KiB comes out a little smaller than level 3, which is what qemu-img uses, in less time. One
 * search does not fit all data: in machine code a single large table finds as much as two, and packed files hold little to
 * find. Text wants a large table for its long repetitions. The rest, data with many zeros, has enough with small tables, which
 * leave the first-level cache to the cluster's bytes. Log2 of the tables' entries, shortest match, and what comes out of 64 KiB
 * clusters of a Debian disk with a seventh of packed files, relative to level 3 for each kind of data:
 *
 *   tables, bytes   packed          code            text            the rest
 *                   size   speed    size   speed    size   speed    size   speed
 *   16, 4          1.000   1.7      .998   1.26    1.040   1.14    1.017   1.21
 *   14 16, 5       1.000   1.0     1.003   1.02    1.001   1.00    1.001   1.00
 *   11 16, 4       1.000   1.1      .999   1.12     .999   1.03     .994   1.06
 *   11 13, 4       1.000   1.1     1.006   1.21    1.006   1.03     .999   1.09
 *   11 12, 4       1.001   1.2     1.012   1.31    1.016   1.07    1.005   1.16
 *   share of time   .05             .42             .31             .22
 *
 * Each kind gets what is not larger than level 3, so that other mixtures are not either. With 16 KiB and below level 3 is fast by
 * itself, and with 256 KiB it has its best tables; above 64 KiB a cluster is too mixed to be of one kind. */
static void use_tables(ZSTD_CCtx *c, const struct search_tables *t)
{
	ZSTD_CCtx_setParameter(c, ZSTD_c_strategy, (int)t->strategy);
	if (t->strategy == ZSTD_dfast)
		ZSTD_CCtx_setParameter(c, ZSTD_c_chainLog, t->short_bits);
	ZSTD_CCtx_setParameter(c, ZSTD_c_hashLog, t->long_bits);
	ZSTD_CCtx_setParameter(c, ZSTD_c_minMatch, t->min_match);
}

/* Packed files have all values about equally often; machine code has many above 127 and not too many zeros, text has few
 * above 127. The numbers are those that told them apart best. */
static enum search choose_search(const uint8_t *src, size_t len)
{
	struct codec_sample s;

	if (!codec_sample(&s, src, len))
		return SEARCH_TEXT;
	uint64_t uneven = codec_sample_unevenness(&s);
	if (uneven < 300 || (uneven < 2000 && s.high * 4 > s.bytes))
		return SEARCH_CODE;
	return s.high * 10 < s.bytes ? SEARCH_TEXT : SEARCH_REST;
}

static void free_compressors(struct zstd_codec *c)
{
	for (unsigned i = 0; i < SEARCHES; i++) {
		ZSTD_freeCCtx(c->compressor[i]);
		c->compressor[i] = NULL;
	}
}

static int zstd_set_level(struct codec *base, struct codec_level l, struct error *e)
{
	struct zstd_codec *c = (struct zstd_codec *)base;
	const uint32_t size = base->max_cluster;

	free_compressors(c);
	c->by_sample = l.level == CODEC_DEFAULT && (size == 32768 || size == 65536);
	for (unsigned i = 0; i < (c->by_sample ? SEARCHES : 1u); i++) {
		c->compressor[i] = ZSTD_createCCtx();
		if (!c->compressor[i])
			return err_set(e, ERR_NO_MEMORY, "no memory for zstd");
		ZSTD_CCtx_setParameter(c->compressor[i], ZSTD_c_compressionLevel,
			l.level == CODEC_DEFAULT   ? 3
			: l.level == CODEC_FASTEST ? 1
						   : l.level);
		if (c->by_sample)
			use_tables(c->compressor[i], &search_tables[i]);
		else if (l.level == CODEC_DEFAULT && size > 65536 && size != 262144)
			use_tables(c->compressor[i], &large_tables);
	}
	return 0;
}

static size_t zstd_compress(struct codec *base, const void *src, size_t len, void *dst, size_t cap)
{
	struct zstd_codec *c = (struct zstd_codec *)base;
	size_t n = ZSTD_compress2(c->compressor[c->by_sample ? choose_search(src, len) : 0], dst, cap, src, len);

	return ZSTD_isError(n) ? 0 : n;
}

static void zstd_free(struct codec *base)
{
	struct zstd_codec *c = (struct zstd_codec *)base;

	ZSTD_freeDCtx(c->decompressor);
	free_compressors(c);
	free(c);
}

static const struct codec_backend zstd_backend = {
	.name = "zstd",
	.max_level = CODEC_ZSTD_MAX_LEVEL,
	.decompress = zstd_decompress,
	.set_level = zstd_set_level,
	.compress = zstd_compress,
	.free = zstd_free,
};

int codec_zstd_new(struct codec **out, struct error *e)
{
	struct zstd_codec *c = mem_calloc(1, sizeof *c, "zstd context", e);

	if (!c)
		return -1;
	c->base.backend = &zstd_backend;
	*out = &c->base;
	return 0;
}
