/* SPDX-License-Identifier: Apache-2.0
 *
 * One compressed cluster into an image (FORMAT.md §6.3): packed behind the one before; the descriptor's neighbours stay as they are.
 */
#include "qcow2/edit_internal.h"

static int codec_for(struct edit *ed, struct error *e)
{
	enum codec_id id = ed->q->h.compression_type == QCOW2_COMPRESSION_ZSTD ? CODEC_ZSTD : CODEC_DEFLATE;

	if (ed->codec)
		return 0;
	if (codec_new(&ed->codec, id, ed->g.cluster_size, e))
		return -1;
	return codec_set_level(ed->codec, (struct codec_level){.level = CODEC_DEFAULT}, e);
}

static int store(struct edit *ed, const uint8_t *stream, size_t n, uint64_t guest, struct error *e)
{
	struct table *t;
	uint64_t host;
	int failed;

	if (map_table_for_write(ed, guest, &t, e))
		return -1;
	failed = alloc_packed(ed, (uint32_t)n, &host, e) || edit_write_data(ed, stream, n, host, e) ||
		 edit_replace(ed, t, guest, l2_compressed_encode(&ed->g, host, n), 0, e);
	table_put(t);
	return failed ? -1 : 0;
}

int edit_write_compressed(struct edit *ed, const void *buf, size_t len, uint64_t guest, struct error *e)
{
	AUTO_FREE uint8_t *stream = NULL, *whole = NULL;
	size_t size = ed->g.cluster_size, n;

	if (edit_check_range(ed, guest, len, e))
		return -1;
	if (geometry_in_cluster(&ed->g, guest) || len > size || (len < size && guest + len < ed->q->size))
		return err_set(e, ERR_USAGE, "%s: only whole clusters can be compressed", ed->file->name);
	if (ed->has_data_file)
		return err_set(e, ERR_UNSUPPORTED, "%s: no compression with an external data file", ed->file->name);
	if (mem_is_zero(buf, len))
		return edit_zero(ed, guest, len, EDIT_MAY_UNMAP, e);
	whole = mem_calloc(1, size, "cluster", e);
	stream = whole ? mem_alloc_pages(size, "compressed cluster", e) : NULL;
	if (!stream || codec_for(ed, e))
		return -1;
	memcpy(whole, buf, len);
	n = codec_compress(ed->codec, whole, size, stream, size - 1);
	if (!n)
		return edit_write(ed, buf, len, guest, e);
	if (edit_begin_change(ed, e))
		return -1;
	edit_bitmaps_mark(ed, guest, len);
	return store(ed, stream, n, guest, e);
}
