/* SPDX-License-Identifier: Apache-2.0
 *
 * The mapping of a new image (FORMAT.md §5): L2 tables are made in guest order, only where there is an entry, and appended
 * in batches; L1 stays in memory to the end.
 */
#include "qcow2/writer_internal.h"

/* The table that maps `guest`, which is the last one made or comes after it. */
static uint8_t *table_for(struct writer *w, uint64_t guest, struct error *e)
{
	uint64_t index = geometry_l1_index(&w->g, guest);
	size_t count = w->l2.count;
	if (!count || w->l2_index[count - 1] != index) {
		size_t room = w->l2.room;
		if (writer_tables_grow(w, &w->l2, count + 1, e) < 0)
			return NULL;
		if (!w->l2_index || w->l2.room > room) {
			uint64_t *grown = realloc(w->l2_index, w->l2.room * sizeof *grown);
			if (!grown)
				return err_set(e, ERR_NO_MEMORY, "no memory for an L2 index"), NULL;
			w->l2_index = grown;
		}
		w->l2_index[count] = index;
	}
	return w->l2.bytes + ((w->l2.count - 1) << w->g.cluster_bits);
}

int writer_map_run(struct writer *w, uint64_t guest, uint64_t n, uint64_t raw, uint64_t step, uint64_t bitmap,
	struct error *e)
{
	while (n) {
		uint8_t *table = table_for(w, guest, e);
		if (!table)
			return -1;
		uint64_t first = geometry_l2_index(&w->g, guest);
		uint64_t now = min_u64(n, (1ull << w->g.l2_bits) - first);
		uint8_t *entry = table + first * w->g.l2_entry_bytes;
		for (uint64_t i = 0; i < now; i++, entry += w->g.l2_entry_bytes, raw += step) {
			put_be64(entry, raw);
			if (w->g.subclusters > 1)
				put_be64(entry + 8, bitmap);
		}
		guest += now << w->g.cluster_bits;
		n -= now;
	}
	return 0;
}

int writer_map_flush(struct writer *w, bool all, struct error *e)
{
	size_t n = all ? w->l2.count : w->l2.count ? w->l2.count - 1 : 0;
	if (!n || (!all && n << w->g.cluster_bits < WRITER_BATCH_BYTES))
		return 0;
	uint64_t host;
	if (writer_host_append(w, n, &host, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		put_be64(w->l1.bytes + w->l2_index[i] * 8, (host + (i << w->g.cluster_bits)) | writer_copied(w));
	if (io_write(w->file, w->l2.bytes, n << w->g.cluster_bits, host, e) < 0)
		return -1;
	w->l2.count -= n;
	memmove(w->l2.bytes, w->l2.bytes + (n << w->g.cluster_bits), w->l2.count << w->g.cluster_bits);
	memmove(w->l2_index, w->l2_index + n, w->l2.count * sizeof *w->l2_index);
	return 0;
}
