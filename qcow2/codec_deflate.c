/* SPDX-License-Identifier: Apache-2.0
 *
 * Raw deflate (FORMAT.md §6.1): which library or encoder does what. libdeflate decodes where it is built in; zlib gets the
 * streams that it refuses and is the judge of them, since the readers in the field use it.
 */
#include "qcow2/codec_backend.h"
#include "qcow2/deflate.h"

#include <zlib.h>
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif

enum { SMALL_WINDOW_BITS = 12, PROBE = 4096 };

struct deflate_codec {
	struct codec base;
	z_stream inflate_stream; /* set up at its first use */
	bool has_inflate;
	bool by_sample; /* the fastest level */
	bool small_window;
	/* One of these encodes: */
	struct deflate_encoder *own;
	z_stream deflate_stream;
	bool has_deflate;
#ifdef HAVE_LIBDEFLATE
	struct libdeflate_compressor *compressor;
#endif
#ifdef HAVE_ISAL
	struct deflate_isal *isal;
#endif
#ifdef HAVE_LIBDEFLATE
	struct libdeflate_decompressor *decompressor;
#endif
};

/* One call into a buffer of a full cluster, as QEMU does: a full buffer is success, whatever the stream still holds. */
static int zlib_decompress(struct deflate_codec *c, const void *src, size_t src_len, void *dst, size_t dst_len,
	size_t *stream_len, struct error *e)
{
	z_stream *z = &c->inflate_stream;
	int rc = c->has_inflate ? inflateReset(z) : inflateInit2(z, -SMALL_WINDOW_BITS);

	if (rc != Z_OK)
		return err_set(e, ERR_NO_MEMORY, "no memory for zlib");
	c->has_inflate = true;
	z->next_in = (Bytef *)src; /* zlib does not write there, its type is older than const */
	z->avail_in = (uInt)src_len;
	z->next_out = dst;
	z->avail_out = (uInt)dst_len;
	rc = inflate(z, Z_FINISH);
	if ((rc != Z_STREAM_END && rc != Z_BUF_ERROR) || z->avail_out != 0)
		return err_set(e, ERR_CORRUPT, "compressed cluster: deflate stream %s after %lu of %zu bytes",
			rc == Z_STREAM_END ? "ends" : "is broken", z->total_out, dst_len);
	*stream_len = src_len - z->avail_in;
	return 0;
}

static int deflate_decompress(struct codec *base, const void *src, size_t src_len, void *dst, size_t dst_len,
	size_t *stream_len, struct error *e)
{
	struct deflate_codec *c = (struct deflate_codec *)base;

#ifdef HAVE_LIBDEFLATE
	enum libdeflate_result rc =
		libdeflate_deflate_decompress_ex(c->decompressor, src, src_len, dst, dst_len, stream_len, NULL);
	if (rc == LIBDEFLATE_SUCCESS)
		return 0;
#endif
	return zlib_decompress(c, src, src_len, dst, dst_len, stream_len, e);
}

static void encoder_free(struct deflate_codec *c)
{
	deflate_encoder_free(c->own);
	c->own = NULL;
	if (c->has_deflate)
		deflateEnd(&c->deflate_stream);
	c->has_deflate = false;
#ifdef HAVE_LIBDEFLATE
	if (c->compressor)
		libdeflate_free_compressor(c->compressor);
	c->compressor = NULL;
#endif
#ifdef HAVE_ISAL
	deflate_isal_free(c->isal);
	c->isal = NULL;
#endif
}

static int use_zlib(struct deflate_codec *c, int level, int window_bits, struct error *e)
{
	memset(&c->deflate_stream, 0, sizeof c->deflate_stream);
	if (deflateInit2(&c->deflate_stream, level > 9 ? 9 : level, Z_DEFLATED, -window_bits, 9, Z_DEFAULT_STRATEGY) !=
		Z_OK)
		return err_set(e, ERR_NO_MEMORY, "no memory for zlib");
	c->has_deflate = true;
	return 0;
}

static int use_isal(struct deflate_codec *c, unsigned window_bits, struct error *e)
{
#ifdef HAVE_ISAL
	return deflate_isal_new(&c->isal, window_bits, e);
#else
	return deflate_encoder_new(&c->own, 1u << window_bits, e);
#endif
}

static int use_libdeflate(struct deflate_codec *c, int level, struct error *e)
{
#ifdef HAVE_LIBDEFLATE
	c->compressor = libdeflate_alloc_compressor(level);
	return c->compressor ? 0 : err_set(e, ERR_NO_MEMORY, "no memory for libdeflate");
#else
	return use_zlib(c, level, MAX_WBITS, e);
#endif
}

/* The fastest encoder whose output is no larger than qemu-img's, measured as below. Our own lives on repetitions that are far
 * away or long, which small clusters have few of:
 *
 *   cluster size     512    2k     4k     8k    16k    32k    64k    2M
 *   our own         1.030  1.029  1.037  1.031  1.026  1.004   .985   .973
 *   libdeflate 3    1.012  1.012  1.015  1.008   .999   .975   .956
 *   libdeflate 4    1.010  1.009  1.010  1.003   .994   .969   .949
 *   libdeflate 6    1.004   .999   .997   .988   .975   .949   .927
 *
 * zlib 6 with a small window is what qemu-img uses: 1 by definition. */
static int use_default(struct deflate_codec *c, bool small_window, struct error *e)
{
	const unsigned cluster_size = c->base.max_cluster;

	if (small_window || cluster_size < 2048)
		return use_zlib(c, 6, SMALL_WINDOW_BITS, e);
	if (cluster_size >= 65536)
		return deflate_encoder_new(&c->own, 1u << MAX_WBITS, e);
#ifdef HAVE_LIBDEFLATE
	return use_libdeflate(c, cluster_size < 16384 ? 6 : cluster_size < 32768 ? 4 : 3, e);
#else
	return use_zlib(c, 6, MAX_WBITS, e);
#endif
}

/* Which encoder a level is. Measured with bench/codec.c: one core, 64 KiB clusters of a Debian /usr, sizes and speeds
 * relative to qemu-img's zlib 6 with a window of 4 KiB (43 MB/s):
 *
 *   level            encoder                     size   speed
 *   fastest, 1       ISA-L 0 and 1              1.055    13.1
 *   default, 2       our own                     .985     6.6
 *   3                libdeflate 3                .956     3.5
 *   6                libdeflate 6                .927     2.2
 *   fastest, 1, 4k   ISA-L 1                    1.090    12.8
 *   2, 4k            our own                    1.039     5.9
 *   default, 6, 4k   zlib 6                     1.000     1.0
 *
 * The default keeps a distance from 1 on purpose: machine code alone gives .996, documentation .966. Passed over: ISA-L 0 (1.18,
 * 15), 2 (1.035, 12.3) and 3 (1.019, 6.7); libdeflate 1 (1.005, 5.6; machine code 1.023) and 2 (.966, 3.9). */
static int deflate_set_level(struct codec *base, struct codec_level l, struct error *e)
{
	struct deflate_codec *c = (struct deflate_codec *)base;
	const int window_bits = l.small_window ? SMALL_WINDOW_BITS : MAX_WBITS;

	encoder_free(c);
	c->by_sample = l.level == CODEC_FASTEST || l.level == 1;
	c->small_window = l.small_window;
	if (c->by_sample)
		return use_isal(c, (unsigned)window_bits, e);
	if (l.level == CODEC_DEFAULT)
		return use_default(c, l.small_window, e);
	if (l.level == 2)
		return deflate_encoder_new(&c->own, 1u << window_bits, e);
	if (l.small_window)
		return use_zlib(c, l.level, window_bits, e);
	return use_libdeflate(c, l.level, e);
}

static size_t zlib_compress(z_stream *z, const void *src, size_t len, void *dst, size_t cap)
{
	deflateReset(z);
	z->next_in = (Bytef *)src;
	z->avail_in = (uInt)len;
	z->next_out = dst;
	z->avail_out = (uInt)cap;
	return deflate(z, Z_FINISH) == Z_STREAM_END ? cap - z->avail_out : 0;
}

static size_t encode(struct deflate_codec *c, bool simple, const void *src, size_t len, void *dst, size_t cap)
{
	if (c->own)
		return deflate_encode(c->own, src, len, dst, cap);
	(void)simple;
#ifdef HAVE_ISAL
	if (c->isal)
		return deflate_isal_encode(c->isal, simple ? 0 : 1, src, len, dst, cap);
#endif
#ifdef HAVE_LIBDEFLATE
	if (c->compressor)
		return libdeflate_deflate_compress(c->compressor, src, len, dst, cap);
#endif
	return zlib_compress(&c->deflate_stream, src, len, dst, cap);
}

/* The fastest level looks at a sample first. Packed and encrypted files: it is even, with less than a tenth over what chance
 * does (one run of zeros adds an eighth), and the cluster's beginning does not shrink by an eighth. On a disk of which a sixth is
 * such clusters, storing them as they are takes a tenth of the encoding time away and adds .4 percent to the size.
 *
 * Text, which has few bytes above 127, and not mostly zeros: ISA-L 0 takes .86 of the time of ISA-L 1 and adds 9 percent; to
 * machine code it would add 15. */
static size_t encode_by_sample(struct deflate_codec *c, const void *src, size_t len, void *dst, size_t cap)
{
	struct codec_sample s;

	if (!codec_sample(&s, src, len))
		return encode(c, false, src, len, dst, cap);
	uint64_t uneven = codec_sample_unevenness(&s);
	if (uneven < 110 && encode(c, false, src, PROBE, dst, (size_t)min_u64(PROBE - PROBE / 8, cap)) == 0)
		return 0;
	return encode(c, !c->small_window && s.high * 4 < s.bytes && uneven < 8000, src, len, dst, cap);
}

static size_t deflate_compress(struct codec *base, const void *src, size_t len, void *dst, size_t cap)
{
	struct deflate_codec *c = (struct deflate_codec *)base;

	return c->by_sample ? encode_by_sample(c, src, len, dst, cap) : encode(c, false, src, len, dst, cap);
}

static void deflate_free(struct codec *base)
{
	struct deflate_codec *c = (struct deflate_codec *)base;

	encoder_free(c);
	if (c->has_inflate)
		inflateEnd(&c->inflate_stream);
#ifdef HAVE_LIBDEFLATE
	if (c->decompressor)
		libdeflate_free_decompressor(c->decompressor);
#endif
	free(c);
}

static const struct codec_backend deflate_backend = {
	.name = "deflate",
	.max_level = CODEC_DEFLATE_MAX_LEVEL,
	.decompress = deflate_decompress,
	.set_level = deflate_set_level,
	.compress = deflate_compress,
	.free = deflate_free,
};

int codec_deflate_new(struct codec **out, struct error *e)
{
	struct deflate_codec *c = mem_calloc(1, sizeof *c, "deflate context", e);

	if (!c)
		return -1;
	c->base.backend = &deflate_backend;
#ifdef HAVE_LIBDEFLATE
	c->decompressor = libdeflate_alloc_decompressor();
	if (!c->decompressor) {
		deflate_free(&c->base);
		return err_set(e, ERR_NO_MEMORY, "no memory for libdeflate");
	}
#endif
	*out = &c->base;
	return 0;
}
