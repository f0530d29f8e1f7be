/* SPDX-License-Identifier: Apache-2.0
 *
 * What codec.c and the two compression formats share, and nobody else includes. Each format's context begins with a
 * struct codec.
 */
#ifndef QSNAP_QCOW2_CODEC_BACKEND_H
#define QSNAP_QCOW2_CODEC_BACKEND_H

#include "qcow2/codec.h"

struct codec_backend {
	const char *name;
	int max_level;
	int (*decompress)(struct codec *c, const void *src, size_t src_len, void *dst, size_t dst_len,
		size_t *stream_len, struct error *e);
	int (*set_level)(struct codec *c, struct codec_level level, struct error *e);
	size_t (*compress)(struct codec *c, const void *src, size_t len, void *dst, size_t cap);
	void (*free)(struct codec *c);
};

struct codec {
	const struct codec_backend *backend;
	uint32_t max_cluster;
	bool has_level;
};

/* Bytes in short runs all over a cluster. */
struct codec_sample {
	uint64_t bytes;
	uint64_t high;    /* how many of them are above 127 */
	uint64_t squares; /* the sum over all values of the square of how often it occurs */
};

/* False, and all is 0, for less than 32 KiB. */
bool codec_sample(struct codec_sample *s, const uint8_t *p, size_t len);

/* The squares, compared with those of bytes that are all equally frequent: from 1 on, in percent. */
static inline uint64_t codec_sample_unevenness(const struct codec_sample *s)
{
	return s->bytes < 2 ? 0 : (s->squares - s->bytes) * 25600 / (s->bytes * (s->bytes - 1));
}

int codec_deflate_new(struct codec **out, struct error *e);
int codec_zstd_new(struct codec **out, struct error *e);

#endif
