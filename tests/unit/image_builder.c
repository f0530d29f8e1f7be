/* SPDX-License-Identifier: Apache-2.0
 *
 * See image_builder.h.
 */
#include "tests/unit/image_builder.h"

#include <check.h>

static struct error e;

#define MUST(call) ck_assert_msg((call) == 0, "%s", e.msg)

void builder_poke(struct image_builder *b, uint64_t host, const void *bytes, size_t len)
{
	MUST(io_write(b->io, bytes, len, host, &e));
}

uint64_t builder_alloc(struct image_builder *b, unsigned clusters)
{
	uint64_t host = align_up(b->io->size, b->g.cluster_size);

	MUST(io_truncate(b->io, host + ((uint64_t)clusters << b->g.cluster_bits), &e));
	return host;
}

void builder_init(struct image_builder *b, uint64_t size, unsigned cluster_bits, unsigned flags)
{
	*b = (struct image_builder){0};
	b->h = (struct header){
		.version = flags & BUILD_V2 ? 2 : 3,
		.cluster_bits = cluster_bits,
		.size = size,
		.refcount_order = 4,
		.reftable_clusters = 1,
		.header_length = flags & BUILD_V2 ? QCOW2_HEADER_V2_BYTES : QCOW2_HEADER_V3_BYTES,
		.incompatible = (flags & BUILD_EXTENDED ? INCOMPAT_EXTENDED_L2 : 0) |
				(flags & BUILD_DATA_FILE ? INCOMPAT_DATA_FILE : 0) |
				(flags & BUILD_ZSTD ? INCOMPAT_COMPRESSION : 0),
		.compression_type = flags & BUILD_ZSTD ? CODEC_ZSTD : CODEC_DEFLATE,
	};
	header_geometry(&b->h, &b->g);
	b->h.l1_entries = (uint32_t)geometry_l1_entries(&b->g, size);
	MUST(io_memory_new(&b->io, NULL, 0, "memory", &e));
	builder_alloc(b, 1);
	b->h.reftable_offset = builder_alloc(b, 1);
	b->h.l1_offset = builder_alloc(b, (unsigned)geometry_clusters(&b->g, b->h.l1_entries * UINT64_C(8)));
	b->l1 = calloc(b->h.l1_entries + 1, sizeof *b->l1);
}

void builder_extension(struct image_builder *b, uint32_t type, const void *data, size_t len)
{
	b->extensions_len =
		extension_encode(b->extensions, sizeof b->extensions, b->extensions_len, type, data, (uint32_t)len);
	ck_assert(b->extensions_len != 0);
}

void builder_backing(struct image_builder *b, const char *name, const char *format)
{
	snprintf(b->backing, sizeof b->backing, "%s", name);
	if (format)
		builder_extension(b, EXT_BACKING_FORMAT, format, strlen(format));
}

void builder_entry(struct image_builder *b, uint64_t guest, uint64_t raw, uint64_t bitmap)
{
	uint64_t index = geometry_l1_index(&b->g, guest);
	uint8_t entry[16];

	ck_assert(index < b->h.l1_entries);
	if (!b->l1[index])
		b->l1[index] = builder_alloc(b, 1);
	put_be64(entry, raw);
	put_be64(entry + 8, bitmap);
	builder_poke(b, b->l1[index] + (uint64_t)geometry_l2_index(&b->g, guest) * b->g.l2_entry_bytes, entry,
		b->g.l2_entry_bytes);
}

uint64_t builder_data(struct image_builder *b, uint64_t guest, const void *cluster)
{
	uint64_t host = builder_alloc(b, 1);

	builder_poke(b, host, cluster, b->g.cluster_size);
	builder_entry(b, guest, host | ENTRY_COPIED, b->g.subclusters > 1 ? UINT32_MAX : 0);
	return host;
}

uint64_t builder_compressed(struct image_builder *b, uint64_t guest, const void *cluster, unsigned before)
{
	uint64_t host = builder_alloc(b, 3) + before;
	uint8_t *out = malloc(b->g.cluster_size);
	size_t len;

	if (!b->codec) {
		MUST(codec_new(&b->codec, (enum codec_id)b->h.compression_type, b->g.cluster_size, &e));
		MUST(codec_set_level(b->codec, (struct codec_level){.level = 1}, &e));
	}
	len = codec_compress(b->codec, cluster, b->g.cluster_size, out, b->g.cluster_size - 1);
	ck_assert(len > 0);
	builder_poke(b, host, out, len);
	memset(out, 0xa5, b->g.cluster_size);
	builder_poke(b, host + len, out, b->g.cluster_size);
	builder_entry(b, guest, l2_compressed_encode(&b->g, host, len), 0);
	free(out);
	return host;
}

static uint64_t copy_cluster(struct image_builder *b, uint64_t host)
{
	uint64_t copy = builder_alloc(b, 1);
	uint8_t *bytes = malloc(b->g.cluster_size);

	MUST(io_read(b->io, bytes, b->g.cluster_size, host, &e));
	builder_poke(b, copy, bytes, b->g.cluster_size);
	free(bytes);
	return copy;
}

/* The snapshot keeps the tables, the active state goes on with copies. */
void builder_snapshot(struct image_builder *b, const char *id, const char *name, uint64_t disk_size)
{
	struct snapshot_entry s = {.l1_entries = b->h.l1_entries,
		.disk_size = disk_size,
		.id = id,
		.name = name,
		.id_len = (uint16_t)strlen(id),
		.name_len = (uint16_t)strlen(name),
		.date_sec = 1700000000};
	uint8_t raw[8];

	s.l1_offset = builder_alloc(b, (unsigned)geometry_clusters(&b->g, b->h.l1_entries * UINT64_C(8)));
	for (uint32_t i = 0; i < b->h.l1_entries; i++) {
		put_be64(raw, b->l1[i]);
		builder_poke(b, s.l1_offset + i * 8, raw, 8);
		if (b->l1[i])
			b->l1[i] = copy_cluster(b, b->l1[i]);
	}
	b->snapshots_len +=
		snapshot_entry_encode(&s, b->snapshots + b->snapshots_len, sizeof b->snapshots - b->snapshots_len);
	if (!disk_size) { /* without extra data, as version 2 images have it: the strings move up */
		size_t id_at = QCOW2_SNAPSHOT_ENTRY_BYTES, strings = s.id_len + (size_t)s.name_len, start;
		size_t with = align_up(id_at + 24 + strings, 8), without = align_up(id_at + strings, 8);

		start = b->snapshots_len - with;
		memmove(b->snapshots + start + id_at, b->snapshots + start + id_at + 24, strings);
		memset(b->snapshots + start + id_at + strings, 0, with - id_at - strings);
		put_be32(b->snapshots + start + 36, 0);
		b->snapshots_len = start + without;
	}
	b->h.snapshot_count++;
}

static void write_snapshots(struct image_builder *b)
{
	if (!b->h.snapshot_count)
		return;
	b->h.snapshots_offset = builder_alloc(b, (unsigned)geometry_clusters(&b->g, b->snapshots_len));
	builder_poke(b, b->h.snapshots_offset, b->snapshots, b->snapshots_len);
}

struct io *builder_finish(struct image_builder *b)
{
	uint8_t *first = calloc(1, b->g.cluster_size), raw[8];
	size_t at, end;

	for (uint32_t i = 0; i < b->h.l1_entries; i++) {
		put_be64(raw, b->l1[i] ? b->l1[i] | ENTRY_COPIED : 0);
		builder_poke(b, b->h.l1_offset + i * 8, raw, 8);
	}
	write_snapshots(b);
	at = b->h.header_length;
	end = at + b->extensions_len + 8;
	ck_assert(end + strlen(b->backing) <= b->g.cluster_size);
	b->h.backing_offset = b->backing[0] ? end : 0;
	b->h.backing_len = (uint32_t)strlen(b->backing);
	header_encode(&b->h, first);
	memcpy(first + at, b->extensions, b->extensions_len);
	memcpy(first + end, b->backing, strlen(b->backing));
	builder_poke(b, 0, first, b->g.cluster_size);
	free(first);
	return b->io;
}

void builder_free(struct image_builder *b)
{
	codec_free(b->codec);
	free(b->l1);
}

struct chain *chain_of(struct io **files, struct io **data, unsigned count)
{
	struct chain *c = calloc(1, sizeof *c);

	c->layers = calloc(count, sizeof *c->layers);
	c->count = count;
	for (unsigned i = 0; i < count; i++) {
		struct layer *l = &c->layers[i];
		uint8_t start[QCOW2_HEADER_V3_BYTES];

		l->file = files[i];
		l->data = data && data[i] ? data[i] : files[i];
		l->path = strdup("memory");
		l->format = IMAGE_RAW;
		l->size = files[i]->size;
		MUST(io_read(files[i], start, sizeof start, 0, &e));
		if (!qcow2_probe(start, (size_t)min_u64(files[i]->size, sizeof start)))
			continue;
		MUST(qcow2_open(&l->q, files[i], 0, &e));
		l->format = IMAGE_QCOW2;
		l->size = l->q->size;
	}
	c->size = c->layers[0].size;
	return c;
}
