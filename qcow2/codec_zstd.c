/* SPDX-License-Identifier: Apache-2.0
 *
 * zstd (FORMAT.md §6.2). A cluster is one frame or several. Each is decoded in one call straight into the cluster, so that no
 * window is ever allocated, however large the frame header says it is.
 */
#include "qcow2/codec_backend.h"

#include <zstd.h>

struct zstd_codec {
	struct codec base;
	ZSTD_DCtx *decompressor; /* made at its first use, like the other */
	ZSTD_CCtx *compressor;
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

/* Settings for clusters of 2^bits bytes that come out a little smaller than level 3, which is what qemu-img uses, in less
 * time: level 3's two hash tables hold more than such a cluster needs and push its bytes out of the first-level cache.
 * Measured with bench/codec.c: one core, 64 KiB clusters of a Debian /usr, relative to level 3 (273 MB/s, .305 of the input):
 *
 *   chain, hash, match   size   speed        level   size   speed
 *   11, 13, 4           1.003    1.23        1      1.039    1.50
 *   12, 13, 4            .998    1.17        2      1.016    1.38
 *   12, 14, 4            .996    1.14        3      1.000    1.00
 *   13, 14, 4            .993    1.09        4       .987     .96
 *   14, 15, 4            .991    1.04
 *
 * 12 and 14 leave room for data that is not like this. With 16 KiB and below level 3 has such tables itself. */
static void use_tuned_level(ZSTD_CCtx *c, unsigned bits)
{
	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, 3);
	if (bits <= 14)
		return;
	ZSTD_CCtx_setParameter(c, ZSTD_c_strategy, ZSTD_dfast);
	ZSTD_CCtx_setParameter(c, ZSTD_c_chainLog, (int)min_u64(bits - 4, 15));
	ZSTD_CCtx_setParameter(c, ZSTD_c_hashLog, (int)min_u64(bits - 2, 16));
	ZSTD_CCtx_setParameter(c, ZSTD_c_minMatch, 4);
}

static int zstd_set_level(struct codec *base, struct codec_level l, struct error *e)
{
	struct zstd_codec *c = (struct zstd_codec *)base;

	if (!c->compressor)
		c->compressor = ZSTD_createCCtx();
	if (!c->compressor)
		return err_set(e, ERR_NO_MEMORY, "no memory for zstd");
	ZSTD_CCtx_reset(c->compressor, ZSTD_reset_session_and_parameters);
	if (l.level == CODEC_DEFAULT)
		use_tuned_level(c->compressor, 31 - (unsigned)__builtin_clz(base->max_cluster | 1));
	else
		ZSTD_CCtx_setParameter(c->compressor, ZSTD_c_compressionLevel, l.level == CODEC_FASTEST ? 1 : l.level);
	return 0;
}

static size_t zstd_compress(struct codec *base, const void *src, size_t len, void *dst, size_t cap)
{
	struct zstd_codec *c = (struct zstd_codec *)base;
	size_t n = ZSTD_compress2(c->compressor, dst, cap, src, len);

	return ZSTD_isError(n) ? 0 : n;
}

static void zstd_free(struct codec *base)
{
	struct zstd_codec *c = (struct zstd_codec *)base;

	ZSTD_freeDCtx(c->decompressor);
	ZSTD_freeCCtx(c->compressor);
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
