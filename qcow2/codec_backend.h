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

int codec_deflate_new(struct codec **out, struct error *e);
int codec_zstd_new(struct codec **out, struct error *e);

#endif
