/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether an image's clusters may lie over holes of its file (FORMAT.md §5.6). The question is cheap as QEMU asks
 * it: count clusters in use, by their refcounts, until there are more than the file's blocks could hold.
 */
#include "qcow2/internal.h"

enum { COUNT_WINDOW = 64 << 10 };

struct counter {
	const struct qcow2 *q;
	uint64_t clusters; /* of the file */
	uint64_t used, enough;
	uint8_t *buf;
};

/* Counts in the refcount block at `host`, which is for the clusters from `first` on. */
static int count_block(struct counter *c, uint64_t host, uint64_t first, struct error *e)
{
	const struct geometry *g = &c->q->g;
	uint64_t left = min_u64(1ull << g->refblock_bits, c->clusters - first);

	for (uint64_t at = 0; at < g->cluster_size && left && c->used < c->enough; at += COUNT_WINDOW) {
		size_t bytes = (size_t)min_u64(COUNT_WINDOW, g->cluster_size - at);
		uint64_t n = min_u64(left, ((uint64_t)bytes * 8) >> g->refcount_order);

		if (io_read_exact(c->q->file, c->buf, bytes, host + at, "refcount block", e))
			return -1;
		for (uint64_t i = 0; i < n && c->used < c->enough; i++)
			c->used += refcount_get(c->buf, g->refcount_order, i) != 0;
		left -= n;
	}
	return 0;
}

static int count_used(struct counter *c, struct error *e)
{
	const struct header *h = &c->q->h;
	const struct geometry *g = &c->q->g;
	uint64_t entries = min_u64(((uint64_t)h->reftable_clusters << g->cluster_bits) / 8,
		div_round_up(c->clusters, 1ull << g->refblock_bits));
	uint8_t table[4096];

	for (uint64_t i = 0; i < entries && c->used < c->enough; i++) {
		uint64_t host, in_table = i % (sizeof table / 8);

		if (in_table == 0 && io_read_exact(c->q->file, table, (size_t)min_u64(sizeof table, (entries - i) * 8),
					     h->reftable_offset + i * 8, "refcount table", e))
			return -1;
		host = get_be64(table + in_table * 8) & REFTABLE_OFFSET_MASK;
		if (host && count_block(c, host, i << g->refblock_bits, e))
			return -1;
	}
	return 0;
}

bool qcow2_looks_preallocated(const struct layer *l)
{
	struct counter c = {.q = l->q};
	uint64_t blocks;
	struct error ignored; /* who cannot count has nothing to hint at */
	bool enough;

	if (!l->q || io_file_fd(l->file) < 0 || (l->file->caps & IO_IS_DEVICE))
		return false;
	c.clusters = geometry_clusters(&l->q->g, l->file->size);
	blocks = io_file_allocated(l->file) >> l->q->g.cluster_bits;
	c.enough = max_u64(blocks * 10 / 9, blocks + 2);
	if (c.clusters < c.enough)
		return false;
	c.buf = mem_alloc_pages(COUNT_WINDOW, "refcounts", &ignored);
	enough = c.buf && !count_used(&c, &ignored) && c.used >= c.enough;
	free(c.buf);
	return enough;
}
