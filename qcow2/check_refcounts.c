/* SPDX-License-Identifier: Apache-2.0
 *
 * The refcount table and its blocks as check sees them, FORMAT.md §7.1 and §7.2: clusters in use like others, and the place
 * where the stored refcounts are.
 */
#include "qcow2/check_internal.h"

/* A finding that a new refcount structure does away with. */
static void broken(struct check *c, uint32_t code, uint64_t host, uint64_t x, uint64_t y)
{
	check_found(c, code, (struct place){host, NOWHERE}, x, y, 0);
	if (!c->repair)
		return;
	c->repair->broken++;
	/* For leaks alone a block elsewhere does no harm as long as nothing needs it. */
	c->repair->rebuild |= code != FOUND_REFBLOCK_OUTSIDE || c->repair->mode == REPAIR_ALL;
}

/* Only a repair sees a table that cannot be used. */
static int reftable_unusable(struct check *c, struct error *e)
{
	const struct header *h = &c->q->h;
	c->reftable_entries = 0;
	c->reftable = mem_calloc(1, 8, "refcount table", e);
	c->repair->rebuild = true;
	if (h->reftable_clusters)
		broken(c, FOUND_REFTABLE_UNUSABLE, h->reftable_offset, h->reftable_offset, h->reftable_clusters);
	return c->reftable ? 0 : -1;
}

int check_reftable_load(struct check *c, struct error *e)
{
	if (c->repair && header_check_reftable(&c->q->h, e) < 0)
		return reftable_unusable(c, e);
	size_t bytes = (size_t)c->q->h.reftable_clusters << c->g->cluster_bits;
	c->reftable_entries = bytes / 8;
	c->reftable = mem_alloc_pages(max_u64(bytes, 8), "refcount table", e);
	if (!c->reftable)
		return -1;
	if (io_read(c->file, c->reftable, bytes, c->q->h.reftable_offset, e) < 0)
		return err_prefix(e, "refcount table");
	for (uint64_t i = 0; i < c->reftable_entries; i++)
		c->reftable[i] = get_be64(&c->reftable[i]);
	return 0;
}

int check_refblocks(struct check *c, struct error *e)
{
	for (uint64_t i = 0; i < c->reftable_entries; i++) {
		const uint64_t host = c->reftable[i] & REFTABLE_OFFSET_MASK;
		if (c->reftable[i] == 0)
			continue;
		if (c->reftable[i] & ~REFTABLE_OFFSET_MASK) {
			broken(c, FOUND_REFTABLE_RESERVED, host, i, 0);
			continue;
		}
		if (geometry_in_cluster(c->g, host)) {
			broken(c, FOUND_REFBLOCK_UNALIGNED, host, i, 0);
			continue;
		}
		if (host >> c->g->cluster_bits >= c->counts.clusters) {
			broken(c, FOUND_REFBLOCK_OUTSIDE, host, i, 0);
			continue;
		}
		if (check_refer(c, host, c->g->cluster_size, NOWHERE, e) < 0)
			return -1;
		uint64_t references = counts_get(&c->counts, host >> c->g->cluster_bits);
		if (references != 1)
			broken(c, FOUND_REFBLOCK_SHARED, host, i, references);
	}
	return 0;
}

uint64_t check_refblock_of(const struct check *c, uint64_t cluster)
{
	uint64_t i = cluster >> c->g->refblock_bits;
	return i < c->reftable_entries ? c->reftable[i] & REFTABLE_OFFSET_MASK : 0;
}

int check_stored(struct check *c, struct stored_cache *cache, uint64_t cluster, uint64_t *count)
{
	const unsigned order = c->g->refcount_order;
	const uint64_t host = check_refblock_of(c, cluster);
	*count = 0;
	if (host == 0)
		return 0;
	if (geometry_in_cluster(c->g, host))
		return -1;
	uint64_t bit = (cluster & ((1ull << c->g->refblock_bits) - 1)) << order;
	uint64_t piece = host + align_down(bit / 8, sizeof cache->bytes);
	struct error why;
	if (!cache->valid || cache->host != piece) {
		cache->valid = io_read(c->file, cache->bytes, sizeof cache->bytes, piece, &why) == 0;
		cache->host = piece;
	}
	if (!cache->valid)
		return -1;
	*count = refcount_get(cache->bytes, order, bit % (sizeof cache->bytes * 8) >> order);
	return 0;
}
