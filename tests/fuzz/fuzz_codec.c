/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: decoding any bytes as a compressed cluster (FORMAT.md §6.1, §6.2), and compressing any bytes. The first three
 * bytes choose codec, cluster size, level and direction. A stream's own length, once told, must be enough to decode it again.
 * Deflate has a judge: what zlib inflates in one call, as QEMU does, we must read as the same bytes.
 */
#include <zlib.h>

#include "qcow2/codec.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_CLUSTER = 64 << 10, CODECS = 2 };

static struct codec *make_codec(enum codec_id id)
{
	struct codec *c = NULL;
	struct error e;

	if (codec_new(&c, id, MAX_CLUSTER, &e))
		abort();
	return c;
}

static void check_against_zlib(struct codec *c, const uint8_t *src, size_t len, size_t cluster)
{
	static uint8_t theirs[MAX_CLUSTER], ours[MAX_CLUSTER];
	z_stream z = {.next_in = (Bytef *)src, .avail_in = (uInt)len, .next_out = theirs, .avail_out = (uInt)cluster};
	struct error e;
	int rc;

	FUZZ_CHECK(inflateInit2(&z, -12) == Z_OK);
	rc = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	if ((rc != Z_STREAM_END && rc != Z_BUF_ERROR) || z.avail_out != 0)
		return;
	FUZZ_CHECK(codec_decompress(c, src, len, ours, cluster, NULL, &e) == 0);
	FUZZ_CHECK(memcmp(theirs, ours, cluster) == 0);
}

static void check_decode(struct codec *c, const uint8_t *src, size_t len, size_t cluster)
{
	static uint8_t one[MAX_CLUSTER], again[MAX_CLUSTER];
	struct error e = {.msg = ""};
	size_t stream = SIZE_MAX;

	memset(one, 0xaa, sizeof one);
	memset(again, 0x55, sizeof again);
	if (codec_decompress(c, src, len, one, cluster, &stream, &e)) {
		fuzz_check_error(&e);
		return;
	}
	FUZZ_CHECK(stream <= len);
	FUZZ_CHECK(codec_decompress(c, src, stream, again, cluster, NULL, &e) == 0);
	FUZZ_CHECK(memcmp(one, again, cluster) == 0);
}

static void check_encode(enum codec_id id, int level, bool small_window, const uint8_t *src, size_t len)
{
	static uint8_t out[MAX_CLUSTER], back[MAX_CLUSTER];
	struct codec_level how = {.level = level, .small_window = small_window};
	struct codec *c = make_codec(id);
	struct error e;
	size_t size;

	FUZZ_CHECK(codec_set_level(c, how, &e) == 0);
	size = codec_compress(c, src, len, out, len - 1);
	FUZZ_CHECK(size < len);
	if (size) {
		size_t stream = 0;

		FUZZ_CHECK(codec_decompress(c, out, size, back, len, &stream, &e) == 0);
		FUZZ_CHECK(stream <= size && memcmp(back, src, len) == 0);
		if (id == CODEC_DEFLATE)
			check_against_zlib(c, out, size, len);
	}
	codec_free(c);
}

/* A whole cluster of what a fuzzer gives in small pieces: repeated, slightly changed now and then. */
static void check_encode_repeated(enum codec_id id, int level, bool small_window, const uint8_t *src, size_t len)
{
	static uint8_t cluster[MAX_CLUSTER];

	for (size_t i = 0; i < sizeof cluster; i++)
		cluster[i] = (uint8_t)(src[i % len] + (i / len % 7 == 6));
	check_encode(id, level, small_window, cluster, sizeof cluster);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct codec *codecs[CODECS];
	enum codec_id id;

	if (len < 4)
		return 0;
	unsigned how = data[0];
	int level = data[1] % 4 - 1;
	bool small_window = data[1] & 128;
	size_t cluster = (size_t)512 << data[2] % 8;
	id = how & 1 ? CODEC_ZSTD : CODEC_DEFLATE;
	if (!codecs[id])
		codecs[id] = make_codec(id);
	data += 3;
	len -= 3;
	if (how & 2) {
		check_encode(id, level, small_window, data, min_u64(len, MAX_CLUSTER));
		check_encode_repeated(id, level, small_window, data, len);
		return 0;
	}
	check_decode(codecs[id], data, len, cluster);
	if (id == CODEC_DEFLATE)
		check_against_zlib(codecs[id], data, len, cluster);
	return 0;
}
