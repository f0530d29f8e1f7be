/* SPDX-License-Identifier: Apache-2.0
 *
 * measure: how large a file an image would take, told beforehand. For qcow2 the metadata of a full disk is assumed (FORMAT.md
 * §2, §7.4), so the answer is an upper bound; which clusters hold data comes from one walk over the source.
 */
#include "convert/convert.h"

#include <inttypes.h>

/* Clusters of refcount table and blocks that count `clusters` clusters and themselves. */
static uint64_t refcount_clusters(const struct geometry *g, uint64_t clusters)
{
	uint64_t table_entries = g->cluster_size / 8, own = 0;
	for (;;) {
		uint64_t blocks = div_round_up(clusters + own, 1ull << g->refblock_bits);
		uint64_t needed = blocks + div_round_up(blocks, table_entries);
		if (needed == own)
			return own;
		own = needed;
	}
}

/* Metadata of a full disk of `size` bytes, a multiple of the cluster size, in bytes. */
static uint64_t metadata_bytes(const struct geometry *g, uint64_t size)
{
	uint64_t data = size >> g->cluster_bits;
	uint64_t l2_tables = div_round_up(data, 1ull << g->l2_bits);
	uint64_t l1 = div_round_up(l2_tables * 8, g->cluster_size);
	uint64_t clusters = 1 + l2_tables + l1;
	return (clusters + refcount_clusters(g, clusters + data)) << g->cluster_bits;
}

/* Bytes of target clusters that any data of the source falls into. */
static int data_bytes(struct chain *source, const struct geometry *g, uint64_t *bytes, struct error *e)
{
	struct walk *w;
	struct extent x;
	uint64_t counted_to = 0; /* guest offset; clusters before it are counted or hold no data */

	*bytes = 0;
	if (walk_new(&w, source, source->count, WALK_FILE_HOLES, e) < 0)
		return -1;
	int r = 0;
	for (uint64_t pos = 0; r == 0 && pos < source->size; pos = x.start + x.len) {
		r = walk_extent(w, pos, source->size, &x, e);
		if (r < 0)
			break;
		if (x.kind != EXTENT_DATA && x.kind != EXTENT_COMPRESSED)
			continue;
		uint64_t first = max_u64(counted_to, align_down(x.start, g->cluster_size));
		uint64_t last = align_up(x.start + x.len, g->cluster_size);
		if (last > first) {
			*bytes += last - first;
			counted_to = last;
		}
	}
	walk_free(w);
	return r;
}

/* What the source's usable bitmaps would take in the target (FORMAT.md §9). */
static uint64_t bitmap_bytes(const struct qcow2 *q, const struct geometry *g)
{
	uint64_t bytes = 0, directory = 0;
	for (uint32_t i = 0; i < q->bitmap_count; i++) {
		const struct qcow2_bitmap *b = &q->bitmaps[i];
		if (b->entry.flags & BITMAP_IN_USE)
			continue;
		uint64_t bits = div_round_up(q->size, 1ull << b->entry.granularity_bits);
		uint64_t clusters = div_round_up(div_round_up(bits, 8), g->cluster_size);
		bytes += (clusters + div_round_up(clusters * 8, g->cluster_size)) << g->cluster_bits;
		directory += align_up(QCOW2_BITMAP_ENTRY_BYTES + strlen(b->name), 8);
	}
	return bytes + align_up(directory, g->cluster_size);
}

static int measure_qcow2(struct chain *source, const struct image_create *c, struct measure_result *out,
	struct error *e)
{
	struct geometry g;
	uint64_t disk, size = source ? source->size : c->size, needed = 0;

	geometry_init(&g, (uint32_t)__builtin_ctz(c->cluster_size), (uint32_t)__builtin_ctz(c->refcount_bits),
		c->extended_l2);
	if (size > (uint64_t)INT64_MAX - g.cluster_size)
		return err_set(e, ERR_LIMIT, "The image size is too large");
	disk = align_up(size, g.cluster_size);
	if (geometry_l1_entries(&g, disk) * 8 > QCOW2_MAX_L1_BYTES)
		return err_set(e, ERR_LIMIT, "The image size is too large (try using a larger cluster size)");

	bool all = c->prealloc == PREALLOC_FALLOC || c->prealloc == PREALLOC_FULL;
	/* a new backing file may have nothing in common with the source */
	if (all || (source && c->backing_name))
		needed = disk;
	else if (source && data_bytes(source, &g, &needed, e) < 0)
		return -1;
	uint64_t metadata = metadata_bytes(&g, disk);
	*out = (struct measure_result){.required = metadata + needed, .fully_allocated = metadata + disk};
	const struct qcow2 *q = source ? source->layers[0].q : NULL;
	if (c->version >= 3 && q && q->h.version >= 3) {
		out->has_bitmaps = true;
		out->bitmaps = bitmap_bytes(q, &g);
	}
	return 0;
}

int convert_measure(struct chain *source, const struct image_create *create, struct measure_result *out,
	struct error *e)
{
	if (create->format == IMAGE_QCOW2)
		return measure_qcow2(source, create, out, e);
	/* holes count: not each place that a raw image goes to has them */
	uint64_t size = align_up(min_u64(source ? source->size : create->size, (uint64_t)INT64_MAX - 511), 512);
	*out = (struct measure_result){.required = size, .fully_allocated = size};
	return 0;
}
