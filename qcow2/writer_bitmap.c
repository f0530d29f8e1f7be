/* SPDX-License-Identifier: Apache-2.0
 *
 * Persistent bitmaps of a new image (FORMAT.md §9): the data clusters that are neither all zeros nor all ones, the table
 * behind them, and at the end one directory.
 */
#include "qcow2/writer_internal.h"

#include <assert.h>

enum {
	MIN_GRANULARITY_BITS = 9,
	MAX_GRANULARITY_BITS = 31,
	MAX_BITMAP_BYTES = 512 << 20,
	MAX_ENTRY_BYTES = 24 + QCOW2_MAX_BITMAP_NAME + 7,
	TABLE_ALL_ONES = 1,
};

int writer_bitmap_begin(struct writer *w, const struct bitmap_entry *b, struct error *e)
{
	assert(!w->in_snapshot && !w->bitmap_table);
	if (w->c.version == 2)
		return err_set(e, ERR_UNSUPPORTED, "bitmaps are only supported with compatibility level 1.1 and above");
	if (b->granularity_bits < MIN_GRANULARITY_BITS || b->granularity_bits > MAX_GRANULARITY_BITS)
		return err_set(e, ERR_USAGE, "bitmap granularity 2^%u is not in 2^%d..2^%d", b->granularity_bits,
			MIN_GRANULARITY_BITS, MAX_GRANULARITY_BITS);
	if (!b->name_len || b->name_len > QCOW2_MAX_BITMAP_NAME)
		return err_set(e, ERR_USAGE, "a bitmap's name has 1 to %d bytes", QCOW2_MAX_BITMAP_NAME);
	if (w->bitmaps_ext.count == QCOW2_MAX_BITMAPS)
		return err_set(e, ERR_LIMIT, "more than %d bitmaps", QCOW2_MAX_BITMAPS);
	uint64_t entries = bitmap_table_entries(&w->g, b->granularity_bits, w->c.size);
	if (entries << w->g.cluster_bits > (uint64_t)MAX_BITMAP_BYTES)
		return err_set(e, ERR_LIMIT, "bitmap %.*s would exceed %d MiB (try a larger granularity)", b->name_len,
			b->name, MAX_BITMAP_BYTES >> 20);
	w->bitmap_table = mem_calloc(entries + 1, 8, "a bitmap table", e);
	if (!w->bitmap_table)
		return -1;
	w->bitmap = *b;
	w->bitmap.type = 1;
	w->bitmap.table_entries = (uint32_t)entries;
	return 0;
}

static bool all_ones(const uint8_t *bytes, size_t len)
{
	return bytes[0] == 0xff && memcmp(bytes, bytes + 1, len - 1) == 0;
}

int writer_bitmap_cluster(struct writer *w, uint32_t index, const void *bits, struct error *e)
{
	assert(w->bitmap_table && index < w->bitmap.table_entries);
	uint64_t raw = 0;
	if (all_ones(bits, w->g.cluster_size))
		raw = TABLE_ALL_ONES;
	else if (!mem_is_zero(bits, w->g.cluster_size) &&
		 (writer_flush_due(w, e) < 0 || writer_host_write(w, bits, w->g.cluster_size, &raw, e) < 0))
		return -1;
	put_be64(w->bitmap_table + (size_t)index * 8, raw);
	return 0;
}

int writer_bitmap_end(struct writer *w, struct error *e)
{
	struct bitmap_entry *b = &w->bitmap;
	assert(w->bitmap_table);
	AUTO_FREE uint8_t *table = STEAL(w->bitmap_table);
	b->table_offset = 0;
	if (b->table_entries && (writer_flush_due(w, e) < 0 || writer_host_write(w, table, (size_t)b->table_entries * 8,
								       &b->table_offset, e) < 0))
		return -1;
	uint8_t *at = writer_buffer_extend(&w->bitmaps, MAX_ENTRY_BYTES, QCOW2_MAX_BITMAP_DIRECTORY_BYTES,
		"the bitmap directory", e);
	if (!at)
		return -1;
	w->bitmaps.len -= MAX_ENTRY_BYTES - bitmap_entry_encode(b, at, MAX_ENTRY_BYTES);
	w->bitmaps_ext.count++;
	return 0;
}

int writer_bitmaps_finish(struct writer *w, struct error *e)
{
	struct bitmaps_extension *x = &w->bitmaps_ext;
	if (!x->count)
		return 0;
	x->directory_bytes = w->bitmaps.len;
	w->h.autoclear |= AUTOCLEAR_BITMAPS;
	return writer_host_write(w, w->bitmaps.bytes, w->bitmaps.len, &x->directory_offset, e);
}
