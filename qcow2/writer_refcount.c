/* SPDX-License-Identifier: Apache-2.0
 *
 * Refcounts of a new image (FORMAT.md §7). Host space only grows, so blocks become complete in ascending order: a window
 * of unfinished ones is in memory, finished ones are appended to the file in batches. At the end the blocks that count
 * each other and the table are laid out together.
 */
#include "qcow2/writer_internal.h"

#include <assert.h>

int writer_tables_grow(struct writer *w, struct writer_tables *t, size_t count, struct error *e)
{
	if (count > t->room) {
		size_t room = max_u64(count, t->room * 2);
		uint8_t *bytes = realloc(t->bytes, room << w->g.cluster_bits);
		if (!bytes)
			return err_set(e, ERR_NO_MEMORY, "no memory for %zu tables of the new image", room);
		t->bytes = bytes;
		t->room = room;
	}
	if (count > t->count) {
		memset(t->bytes + (t->count << w->g.cluster_bits), 0, (count - t->count) << w->g.cluster_bits);
		t->count = count;
	}
	return 0;
}

static uint8_t *block_of(const struct writer *w, uint64_t cluster)
{
	return w->refs.bytes + (((cluster >> w->g.refblock_bits) - w->ref_first) << w->g.cluster_bits);
}

uint64_t writer_refs_get(const struct writer *w, uint64_t cluster)
{
	return refcount_get(block_of(w, cluster), w->g.refcount_order, cluster & ((1ull << w->g.refblock_bits) - 1));
}

static void add_in_block(const struct writer *w, uint64_t cluster, uint64_t n)
{
	uint8_t *block = block_of(w, cluster);
	uint64_t first = cluster & ((1ull << w->g.refblock_bits) - 1);
	for (uint64_t i = first; i < first + n; i++) {
		uint64_t count = refcount_get(block, w->g.refcount_order, i);
		assert(count < refcount_max(w->g.refcount_order));
		refcount_put(block, w->g.refcount_order, i, count + 1);
	}
}

int writer_refs_add(struct writer *w, uint64_t cluster, uint64_t n, struct error *e)
{
	uint64_t last_block = (cluster + n - 1) >> w->g.refblock_bits;
	if (last_block >= QCOW2_MAX_REFTABLE_BYTES / 8)
		return err_set(e, ERR_LIMIT,
			"the new image's refcount table would exceed %d MiB (try a larger cluster size)",
			QCOW2_MAX_REFTABLE_BYTES >> 20);
	if (writer_tables_grow(w, &w->refs, last_block - w->ref_first + 1, e) < 0)
		return -1;
	while (n) {
		uint64_t in_block = (1ull << w->g.refblock_bits) - (cluster & ((1ull << w->g.refblock_bits) - 1));
		uint64_t now = min_u64(n, in_block);
		add_in_block(w, cluster, now);
		cluster += now;
		n -= now;
	}
	return 0;
}

/* Writes the first `n` blocks of the window to `host`, where there is room for them, and forgets them. */
static int write_blocks(struct writer *w, uint64_t n, uint64_t host, struct error *e)
{
	uint64_t end = w->ref_first + n;
	if (end > w->reftable_room) {
		size_t room = max_u64(end, w->reftable_room * 2);
		uint8_t *bytes = realloc(w->reftable, room * 8);
		if (!bytes)
			return err_set(e, ERR_NO_MEMORY, "no memory for a refcount table of %zu entries", room);
		w->reftable = bytes;
		w->reftable_room = room;
	}
	for (uint64_t i = 0; i < n; i++)
		put_be64(w->reftable + (w->ref_first + i) * 8, host + (i << w->g.cluster_bits));
	if (io_write(w->file, w->refs.bytes, n << w->g.cluster_bits, host, e) < 0)
		return -1;
	w->ref_first = end;
	w->refs.count -= n;
	memmove(w->refs.bytes, w->refs.bytes + (n << w->g.cluster_bits), w->refs.count << w->g.cluster_bits);
	return 0;
}

int writer_refs_flush_due(struct writer *w, struct error *e)
{
	uint64_t complete = geometry_reftable_index(&w->g, w->next) - w->ref_first;
	if (w->keep_refs || complete << w->g.cluster_bits < WRITER_BATCH_BYTES)
		return 0;
	/* Nothing may be counted in a block that is gone: a tail this far back is given up. */
	if (w->tail && geometry_reftable_index(&w->g, w->tail) < w->ref_first + complete)
		w->tail = 0;
	uint64_t host;
	if (writer_host_append(w, complete, &host, e) < 0)
		return -1;
	return write_blocks(w, complete, host, e);
}

/* Writes the refcount table to its place in the header; `clusters` is its room. */
static int write_table(struct writer *w, uint64_t clusters, uint64_t host, struct error *e)
{
	size_t bytes = clusters << w->g.cluster_bits;
	AUTO_FREE uint8_t *padded = mem_calloc(1, bytes, "the refcount table", e);
	if (!padded)
		return -1;
	memcpy(padded, w->reftable, w->ref_first * 8);
	w->h.reftable_offset = host;
	w->h.reftable_clusters = (uint32_t)clusters;
	return io_write(w->file, padded, bytes, host, e);
}

int writer_refs_finish(struct writer *w, uint64_t last_clusters, uint64_t *last_host, struct error *e)
{
	/* How many blocks and table clusters count everything and themselves too? More of them never need fewer. */
	uint64_t used = (w->next >> w->g.cluster_bits) + last_clusters, blocks = 0, table = 0;
	for (;;) {
		uint64_t entries = ((used + blocks + table - 1) >> w->g.refblock_bits) + 1;
		uint64_t table_needed = geometry_clusters(&w->g, entries * 8);
		if (entries - w->ref_first == blocks && table_needed == table)
			break;
		blocks = entries - w->ref_first;
		table = table_needed;
	}
	uint64_t host;
	if (writer_host_append(w, blocks + table + last_clusters, &host, e) < 0)
		return -1;
	assert(w->refs.count == blocks);
	uint64_t table_host = host + (blocks << w->g.cluster_bits);
	*last_host = table_host + (table << w->g.cluster_bits);
	if (write_blocks(w, blocks, host, e) < 0)
		return -1;
	return write_table(w, table, table_host, e);
}
