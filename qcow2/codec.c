/* SPDX-License-Identifier: Apache-2.0
 *
 * Chooses the compression format (FORMAT.md §3.6, §6) and checks what callers pass, once for both formats.
 */
#include "qcow2/codec_backend.h"

#include <assert.h>

int codec_new(struct codec **out, enum codec_id id, uint32_t max_cluster, struct error *e)
{
	int rc;

	if (id == CODEC_DEFLATE)
		rc = codec_deflate_new(out, e);
	else if (id == CODEC_ZSTD)
		rc = codec_zstd_new(out, e);
	else
		return err_set(e, ERR_UNSUPPORTED, "compression type %u is unknown", (unsigned)id);
	if (rc == 0)
		(*out)->max_cluster = max_cluster;
	return rc;
}

void codec_free(struct codec *c)
{
	if (c)
		c->backend->free(c);
}

int codec_decompress(struct codec *c, const void *src, size_t src_len, void *dst, size_t dst_len, size_t *stream_len,
	struct error *e)
{
	size_t used = 0;

	if (c->backend->decompress(c, src, src_len, dst, dst_len, &used, e) < 0)
		return -1;
	if (stream_len)
		*stream_len = used;
	return 0;
}

int codec_set_level(struct codec *c, struct codec_level level, struct error *e)
{
	if (level.level < CODEC_FASTEST || level.level > c->backend->max_level)
		return err_set(e, ERR_USAGE, "%s has no compression level %d (fastest, 1..%d)", c->backend->name,
			level.level, c->backend->max_level);
	c->has_level = false;
	if (c->backend->set_level(c, level, e) < 0)
		return -1;
	c->has_level = true;
	return 0;
}

size_t codec_compress(struct codec *c, const void *src, size_t len, void *dst, size_t cap)
{
	assert(c->has_level && len <= c->max_cluster);
	return c->backend->compress(c, src, len, dst, cap);
}
