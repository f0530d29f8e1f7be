/* SPDX-License-Identifier: Apache-2.0
 *
 * Bitmaps back into the file (FORMAT.md §9.3, §12.4). All bits get new clusters and a new table; while the old ones are read by
 * nobody, the bitmap being in use, the file stays one that every check accepts.
 * order: bits and table, refcounts, flush; where the table is, flush; how long it is, flush; the flag, flush; the old ones go.
 */
#include "qcow2/edit_internal.h"

enum { TABLE_OFFSET_AT = 0, TABLE_ENTRIES_AT = 8 };

static bool is_changed(const struct edit *ed, const struct edit_bitmap *b)
{
	return b->entries != ed->q->bitmaps[b->index].entry.table_entries || memchr(b->touched, 1, b->entries);
}

static bool all_ones(const uint8_t *p, size_t len)
{
	return p[0] == 0xff && memcmp(p, p + 1, len - 1) == 0;
}

/* One cluster of bits; unchanged ones stay where they are. */
static int store_cluster(struct edit *ed, struct edit_bitmap *b, uint32_t i, struct error *e)
{
	const uint8_t *bits = b->bits + ((size_t)i << ed->g.cluster_bits);
	uint64_t host;

	if (!b->touched[i])
		return 0;
	if (mem_is_zero(bits, ed->g.cluster_size)) {
		b->table[i] = 0;
		return 0;
	}
	if (all_ones(bits, ed->g.cluster_size)) {
		b->table[i] = 1;
		return 0;
	}
	if (alloc_clusters(ed, 1, &host, e) || edit_write_table(ed, bits, ed->g.cluster_size, host, "bitmap", e))
		return -1;
	b->table[i] = host;
	return 0;
}

static int store_table(struct edit *ed, const struct edit_bitmap *b, uint64_t *host, struct error *e)
{
	AUTO_FREE uint8_t *bytes = mem_calloc(b->entries, 8, "bitmap table", e);
	uint64_t len = b->entries * UINT64_C(8);

	if (!bytes)
		return -1;
	for (uint32_t i = 0; i < b->entries; i++)
		put_be64(bytes + (size_t)i * 8, b->table[i]);
	if (alloc_clusters(ed, geometry_clusters(&ed->g, len), host, e) || edit_add_metadata(ed, *host, len, e) ||
		edit_write_table(ed, bytes, (size_t)len, *host, "bitmap table", e))
		return -1;
	return 0;
}

static int put_number(struct edit *ed, uint64_t host, uint64_t value, unsigned bytes, struct error *e)
{
	uint8_t buf[8];

	if (bytes == 8)
		put_be64(buf, value);
	else
		put_be32(buf, (uint32_t)value);
	return edit_write_table(ed, buf, bytes, host, "bitmap directory", e) || edit_sync(ed, e) ? -1 : 0;
}

/* The two fields may lie in two sectors; in between the length never exceeds the table. */
static int switch_table(struct edit *ed, const struct edit_bitmap *b, uint64_t host, struct error *e)
{
	struct bitmap_entry *x = &ed->q->bitmaps[b->index].entry;
	bool longer = b->entries > x->table_entries;

	if (!longer && b->entries != x->table_entries &&
		put_number(ed, b->entry_host + TABLE_ENTRIES_AT, b->entries, 4, e))
		return -1;
	if (put_number(ed, b->entry_host + TABLE_OFFSET_AT, host, 8, e))
		return -1;
	if (longer && put_number(ed, b->entry_host + TABLE_ENTRIES_AT, b->entries, 4, e))
		return -1;
	x->table_offset = host;
	x->table_entries = b->entries;
	return 0;
}

/* What the old table referred to and the new one does not. */
static int drop_old(struct edit *ed, const struct edit_bitmap *b, const uint64_t *old, uint32_t old_entries,
	uint64_t old_host, struct error *e)
{
	for (uint32_t i = 0; i < old_entries; i++) {
		uint64_t host = old[i] & ENTRY_OFFSET_MASK;

		if (host && (i >= b->entries || (b->table[i] & ENTRY_OFFSET_MASK) != host) && edit_drop(ed, host, 1, e))
			return -1;
	}
	return edit_drop(ed, old_host, geometry_clusters(&ed->g, old_entries * UINT64_C(8)), e);
}

static int read_old_table(struct edit *ed, const struct bitmap_entry *x, uint64_t **out, struct error *e)
{
	uint64_t *old = mem_calloc(x->table_entries, sizeof *old, "bitmap table", e);

	*out = old;
	if (!old || io_read_exact(ed->file, old, x->table_entries * (size_t)8, x->table_offset, "bitmap table", e))
		return -1;
	for (uint32_t i = 0; i < x->table_entries; i++)
		old[i] = get_be64(&old[i]);
	return 0;
}

static int store(struct edit *ed, struct edit_bitmap *b, struct error *e)
{
	const struct bitmap_entry before = ed->q->bitmaps[b->index].entry;
	AUTO_FREE uint64_t *old = NULL;
	uint64_t host;

	if (!is_changed(ed, b))
		return 0;
	if (read_old_table(ed, &before, &old, e))
		return -1;
	for (uint32_t i = 0; i < b->entries; i++)
		if (store_cluster(ed, b, i, e))
			return -1;
	if (store_table(ed, b, &host, e) || edit_flush(ed, e) || switch_table(ed, b, host, e))
		return -1;
	memset(b->touched, 0, b->entries);
	return drop_old(ed, b, old, before.table_entries, before.table_offset, e);
}

int edit_bitmaps_store(struct edit *ed, struct error *e)
{
	for (uint32_t i = 0; ed->bitmaps && i < ed->bitmaps->count; i++) {
		struct edit_bitmap *b = &ed->bitmaps->list[i];

		if (store(ed, b, e))
			return err_prefix(e, "bitmap '%s'", ed->q->bitmaps[b->index].name);
	}
	/* All else is in the file and durable before one of them is vouched for. */
	if (!ed->bitmaps || !ed->bitmaps->count)
		return 0;
	if (edit_flush(ed, e))
		return -1;
	for (uint32_t i = 0; i < ed->bitmaps->count; i++) {
		const struct edit_bitmap *b = &ed->bitmaps->list[i];
		uint32_t flags = ed->q->bitmaps[b->index].entry.flags & ~(uint32_t)BITMAP_IN_USE;

		if (edit_bitmap_flags(ed, b, flags, e))
			return -1;
	}
	edit_bitmaps_free(ed);
	return edit_sync(ed, e);
}
