/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target: decoding any bytes as a compressed cluster (FORMAT.md §6.1, §6.2), and compressing any bytes. The first three
 * bytes choose codec, cluster size, level and direction. A stream's own length, once told, must be enough to decode it again.
 */
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
	}
	codec_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct codec *codecs[CODECS];
	enum codec_id id;

	if (len < 4)
		return 0;
	id = data[0] & 1 ? CODEC_ZSTD : CODEC_DEFLATE;
	if (!codecs[id])
		codecs[id] = make_codec(id);
	if (data[0] & 2)
		check_encode(id, (data[1] % 4) - 1, data[1] & 128, data + 3, min_u64(len - 3, MAX_CLUSTER));
	else
		check_decode(codecs[id], data + 3, len - 3, (size_t)512 << data[2] % 8);
	return 0;
}
