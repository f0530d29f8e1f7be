/* SPDX-License-Identifier: Apache-2.0
 *
 * One compressed cluster to bytes and back (FORMAT.md §6). A codec is the working memory of one job or one thread: made
 * once, used for every cluster, never by two threads at a time. Nothing is allocated after codec_new and codec_set_level,
 * except in the slow path for streams that only zlib accepts.
 */
#ifndef QSNAP_QCOW2_CODEC_H
#define QSNAP_QCOW2_CODEC_H

#include "base/base.h"
#include "io/io.h"

struct codec;

/* `max_cluster`: the size of the clusters that will be compressed; they may be shorter. NULL is allowed for codec_free. */
int codec_new(struct codec **out, enum codec_id id, uint32_t max_cluster, struct error *e);
void codec_free(struct codec *c);

/* Fills dst with exactly dst_len bytes, one cluster. Behind the stream there may be bytes of others (FORMAT.md §5.4); a
 * stream that is broken or gives less is ERR_CORRUPT. *stream_len (may be NULL) is the stream's own length, 0..src_len:
 * these bytes alone give the same cluster again. Memory is bounded whatever the stream asks for. */
int codec_decompress(struct codec *c, const void *src, size_t src_len, void *dst, size_t dst_len, size_t *stream_len,
	struct error *e);

enum {
	CODEC_FASTEST = -1,
	CODEC_DEFAULT = 0, /* the fastest whose output is no larger than qemu-img's; depends on max_cluster */
	CODEC_DEFLATE_MAX_LEVEL = 12,
	CODEC_ZSTD_MAX_LEVEL = 19,
};

struct codec_level {
	int level;         /* CODEC_FASTEST, CODEC_DEFAULT, or 1..12 (deflate), 1..19 (zstd) */
	bool small_window; /* deflate: no distance over 4 KiB, which the strictest readers ask for; zstd: no meaning */
};

/* Must come before the first codec_compress. ERR_USAGE for a level that does not exist. */
int codec_set_level(struct codec *c, struct codec_level level, struct error *e);
/* The compressed size, at most `cap` (pass the cluster's size - 1); 0: it does not fit or hardly would, the cluster is to be
 * stored as it is. The result depends on the bytes, the level and max_cluster only, not on what the codec did before.
 * len <= max_cluster. */
size_t codec_compress(struct codec *c, const void *src, size_t len, void *dst, size_t cap);

#endif
