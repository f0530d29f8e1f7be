/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes of an extent (FORMAT.md §5.6, §6). A reader is one thread's: its codecs, its scratch memory, and the
 * cluster that it decoded last, since pieces of one cluster are often asked for one after the other.
 */
#include "qcow2/internal.h"

enum { CODECS = 2, MAX_CLUSTER = 1 << QCOW2_MAX_CLUSTER_BITS };

struct buffer {
	uint8_t *bytes;
	size_t cap;
};

struct reader {
	struct codec *codecs[CODECS];
	struct buffer stream, cluster;
	/* what `cluster` holds */
	struct io *kept_file;
	uint64_t kept_host;
	uint32_t kept_csize;
	uint8_t kept_bits, kept_codec;
};

static int buffer_want(struct buffer *b, size_t len, const char *what, struct error *e)
{
	if (len <= b->cap)
		return 0;
	free(b->bytes);
	b->cap = 0;
	b->bytes = mem_alloc_pages(align_up(len, 4096), what, e);
	if (!b->bytes)
		return -1;
	b->cap = align_up(len, 4096);
	return 0;
}

static struct codec *codec_for(struct reader *r, uint8_t id, struct error *e)
{
	if (id >= CODECS)
		err_set(e, ERR_UNSUPPORTED, "compression type %u", id);
	else if (r->codecs[id] || !codec_new(&r->codecs[id], (enum codec_id)id, MAX_CLUSTER, e))
		return r->codecs[id];
	return NULL;
}

/* The whole cluster of a COMPRESSED extent into dst. */
static int decode(struct reader *r, const struct extent *x, void *dst, size_t *stream_len, struct error *e)
{
	size_t cluster_size = (size_t)1 << x->cluster_bits;
	struct codec *codec = codec_for(r, x->codec, e);

	if (!codec)
		return -1;
	/* Twice the cluster is all that a descriptor can say. */
	if (x->cluster_bits > QCOW2_MAX_CLUSTER_BITS || x->csize > 2 * cluster_size)
		return err_set(e, ERR_CORRUPT, "compressed cluster of %u bytes", x->csize);
	if (buffer_want(&r->stream, x->csize, "compressed cluster", e) ||
		io_read(x->file, r->stream.bytes, x->csize, x->host, e))
		return -1;
	if (codec_decompress(codec, r->stream.bytes, x->csize, dst, cluster_size, stream_len, e))
		return err_prefix(e, "%s: compressed cluster at 0x%llx (guest offset 0x%llx)", x->file->name,
			(unsigned long long)x->host, (unsigned long long)(x->start - x->skip));
	return 0;
}

static bool is_kept(const struct reader *r, const struct extent *x)
{
	return r->kept_file == x->file && r->kept_host == x->host && r->kept_csize == x->csize &&
	       r->kept_bits == x->cluster_bits && r->kept_codec == x->codec;
}

static int keep(struct reader *r, const struct extent *x, struct error *e)
{
	if (is_kept(r, x))
		return 0;
	r->kept_file = NULL;
	if (buffer_want(&r->cluster, (size_t)1 << x->cluster_bits, "decoded cluster", e) ||
		decode(r, x, r->cluster.bytes, NULL, e))
		return -1;
	r->kept_file = x->file;
	r->kept_host = x->host;
	r->kept_csize = x->csize;
	r->kept_bits = x->cluster_bits;
	r->kept_codec = x->codec;
	return 0;
}

int reader_read(struct reader *r, const struct extent *x, uint64_t offset_in, void *buf, size_t len, struct error *e)
{
	uint64_t from = x->skip + offset_in;

	if (offset_in > x->len || len > x->len - offset_in)
		return err_set(e, ERR_USAGE, "reader: %zu bytes at %llu are not within the extent", len,
			(unsigned long long)offset_in);
	if (x->kind == EXTENT_DATA)
		return io_read(x->file, buf, len, x->host + offset_in, e);
	if (x->kind != EXTENT_COMPRESSED) {
		memset(buf, 0, len);
		return 0;
	}
	if (from == 0 && len == (size_t)1 << x->cluster_bits && !is_kept(r, x))
		return decode(r, x, buf, NULL, e);
	if (from > (size_t)1 << x->cluster_bits || len > ((size_t)1 << x->cluster_bits) - from)
		return err_set(e, ERR_USAGE, "reader: %zu bytes at %llu are not within the cluster", len,
			(unsigned long long)from);
	if (keep(r, x, e))
		return -1;
	memcpy(buf, r->cluster.bytes + from, len);
	return 0;
}

int reader_stream(struct reader *r, const struct extent *x, void *cluster, const uint8_t **stream, size_t *stream_len,
	struct error *e)
{
	if (x->kind != EXTENT_COMPRESSED)
		return err_set(e, ERR_USAGE, "reader: not a compressed extent");
	if (decode(r, x, cluster, stream_len, e))
		return -1;
	*stream = r->stream.bytes;
	return 0;
}

int reader_new(struct reader **out, struct error *e)
{
	*out = mem_calloc(1, sizeof **out, "reader", e);
	return *out ? 0 : -1;
}

void reader_free(struct reader *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < CODECS; i++)
		codec_free(r->codecs[i]);
	free(r->stream.bytes);
	free(r->cluster.bytes);
	free(r);
}
