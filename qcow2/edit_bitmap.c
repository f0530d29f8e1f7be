/* SPDX-License-Identifier: Apache-2.0
 *
 * Persistent bitmaps that follow the writes of an editor (FORMAT.md §9): read before the first change, kept in memory, each
 * with its flag "in use" set in the file.
 */
#include "qcow2/edit_internal.h"

enum { FLAGS_AT = 12, MAX_BYTES = 1 << 30 };

uint64_t edit_bitmap_entry_host(const struct qcow2 *q, uint32_t index)
{
	uint64_t host = q->bitmap_directory.directory_offset;

	for (uint32_t i = 0; i < index; i++)
		host += q->bitmaps[i].entry.bytes;
	return host;
}

static void bitmap_free(struct edit_bitmap *b)
{
	free(b->table);
	free(b->bits);
	free(b->touched);
	*b = (struct edit_bitmap){0};
}

/* Bits behind the disk's end must be 0 (FORMAT.md §9.4). */
static void clear_tail(struct edit *ed, struct edit_bitmap *b, uint64_t size)
{
	uint64_t bits = div_round_up(size, 1ull << ed->q->bitmaps[b->index].entry.granularity_bits);
	uint64_t bytes = (uint64_t)b->entries << ed->g.cluster_bits;

	if (bits / 8 >= bytes)
		return;
	b->bits[bits / 8] &= (uint8_t)((1u << bits % 8) - 1);
	memset(b->bits + bits / 8 + 1, 0, (size_t)(bytes - bits / 8 - 1));
}

static int bitmap_read(struct edit *ed, struct edit_bitmap *b, struct error *e)
{
	const struct bitmap_entry *x = &ed->q->bitmaps[b->index].entry;

	b->entries = x->table_entries;
	if (x->table_entries != bitmap_table_entries(&ed->g, x->granularity_bits, ed->q->size))
		return err_set(e, ERR_CORRUPT, "its table has %u entries, the disk needs %llu", x->table_entries,
			(unsigned long long)bitmap_table_entries(&ed->g, x->granularity_bits, ed->q->size));
	ed->bitmaps->bytes += (uint64_t)b->entries << ed->g.cluster_bits;
	if (ed->bitmaps->bytes > MAX_BYTES)
		return err_set(e, ERR_LIMIT, "bitmaps of more than %d bytes", MAX_BYTES);
	b->table = mem_calloc(b->entries, sizeof *b->table, "bitmap table", e);
	b->touched = b->table ? mem_calloc(b->entries, 1, "bitmap", e) : NULL;
	b->bits = b->touched ? mem_calloc(b->entries, ed->g.cluster_size, "bitmap", e) : NULL;
	if (!b->bits || io_read_exact(ed->file, b->table, b->entries * (size_t)8, x->table_offset, "bitmap table", e))
		return -1;
	for (uint32_t i = 0; i < b->entries; i++)
		b->table[i] = get_be64(&b->table[i]);
	return qcow2_bitmap_read(ed->q, b->index, 0, b->bits, (size_t)qcow2_bitmap_bytes(ed->q, b->index), e);
}

static int load(struct edit *ed, uint32_t index, struct error *e)
{
	struct edit_bitmap *b = &ed->bitmaps->list[ed->bitmaps->count];

	b->index = index;
	b->entry_host = edit_bitmap_entry_host(ed->q, index);
	if (bitmap_read(ed, b, e)) {
		bitmap_free(b);
		return err_prefix(e, "%s: bitmap '%s'", ed->file->name, ed->q->bitmaps[index].name);
	}
	ed->bitmaps->count++;
	return 0;
}

struct edit_bitmap *edit_bitmaps_find(struct edit *ed, uint32_t index)
{
	for (uint32_t i = 0; ed->bitmaps && i < ed->bitmaps->count; i++)
		if (ed->bitmaps->list[i].index == index)
			return &ed->bitmaps->list[i];
	return NULL;
}

int edit_bitmap_flags(struct edit *ed, const struct edit_bitmap *b, uint32_t flags, struct error *e)
{
	uint8_t bytes[4];

	put_be32(bytes, flags);
	if (edit_write_table(ed, bytes, sizeof bytes, b->entry_host + FLAGS_AT, "bitmap directory", e))
		return -1;
	ed->q->bitmaps[b->index].entry.flags = flags;
	return 0;
}

static bool wanted(const struct edit *ed, uint32_t index, bool all)
{
	uint32_t flags = ed->q->bitmaps[index].entry.flags;

	return !(flags & BITMAP_IN_USE) && (all || (flags & BITMAP_AUTO));
}

static int list_room(struct edit *ed, struct error *e)
{
	struct edit_bitmap *longer;

	if (!ed->bitmaps)
		ed->bitmaps = mem_calloc(1, sizeof *ed->bitmaps, "bitmaps", e);
	if (!ed->bitmaps || ed->bitmaps->room >= ed->q->bitmap_count)
		return ed->bitmaps ? 0 : -1;
	longer = realloc(ed->bitmaps->list, ed->q->bitmap_count * sizeof *longer);
	if (!longer)
		return err_set(e, ERR_NO_MEMORY, "no memory for bitmaps");
	memset(longer + ed->bitmaps->room, 0, (ed->q->bitmap_count - ed->bitmaps->room) * sizeof *longer);
	ed->bitmaps->list = longer;
	ed->bitmaps->room = ed->q->bitmap_count;
	return 0;
}

/* All are read before the first is marked: what cannot be read leaves the file as it is. */
int edit_bitmaps_load(struct edit *ed, bool all, struct error *e)
{
	uint32_t from;

	if (!ed->q->bitmap_count)
		return 0;
	if (list_room(ed, e))
		return -1;
	from = ed->bitmaps->count;
	for (uint32_t i = 0; i < ed->q->bitmap_count; i++)
		if (!edit_bitmaps_find(ed, i) && wanted(ed, i, all) && load(ed, i, e))
			return -1;
	for (uint32_t i = from; i < ed->bitmaps->count; i++) {
		const struct edit_bitmap *b = &ed->bitmaps->list[i];
		uint32_t flags = ed->q->bitmaps[b->index].entry.flags;

		if (edit_bitmap_flags(ed, b, flags | BITMAP_IN_USE, e))
			return -1;
	}
	/* The mark must be there before what it warns of. */
	return from < ed->bitmaps->count ? edit_sync(ed, e) : 0;
}

void edit_bitmaps_unload(struct edit *ed, uint32_t index)
{
	struct edit_bitmaps *m = ed->bitmaps;
	uint32_t n = 0;

	for (uint32_t i = 0; m && i < m->count; i++) {
		if (m->list[i].index == index) {
			bitmap_free(&m->list[i]);
			continue;
		}
		m->list[n] = m->list[i];
		m->list[n++].index -= m->list[i].index > index;
	}
	if (m)
		m->count = n;
}

int edit_bitmaps_begin(struct edit *ed, struct error *e)
{
	return edit_bitmaps_load(ed, false, e);
}

int edit_bitmaps_load_all(struct edit *ed, struct error *e)
{
	return edit_begin_change(ed, e) || edit_bitmaps_load(ed, true, e) ? -1 : 0;
}

void edit_bitmap_set(struct edit *ed, struct edit_bitmap *b, uint64_t guest, uint64_t len)
{
	unsigned shift = ed->q->bitmaps[b->index].entry.granularity_bits;
	uint64_t first, last;

	if (!len)
		return;
	first = guest >> shift;
	last = (guest + len - 1) >> shift;
	for (uint64_t i = first; i <= last;) {
		b->touched[i / 8 >> ed->g.cluster_bits] = 1;
		if (i % 8 == 0 && last - i >= 7) {
			b->bits[i / 8] = 0xff;
			i += 8;
		} else {
			b->bits[i / 8] |= (uint8_t)(1u << i % 8);
			i++;
		}
	}
}

void edit_bitmaps_mark(struct edit *ed, uint64_t guest, uint64_t len)
{
	for (uint32_t i = 0; ed->bitmaps && i < ed->bitmaps->count; i++) {
		struct edit_bitmap *b = &ed->bitmaps->list[i];

		if (ed->q->bitmaps[b->index].entry.flags & BITMAP_AUTO)
			edit_bitmap_set(ed, b, guest, len);
	}
}

static int resize(struct edit *ed, struct edit_bitmap *b, uint64_t size, struct error *e)
{
	unsigned shift = ed->q->bitmaps[b->index].entry.granularity_bits;
	uint64_t entries = bitmap_table_entries(&ed->g, shift, size);
	struct edit_bitmap n = {.index = b->index, .entry_host = b->entry_host, .entries = (uint32_t)entries};
	uint64_t both = min_u64(entries, b->entries);

	if (entries << ed->g.cluster_bits > QCOW2_MAX_BITMAP_BYTES)
		return err_set(e, ERR_LIMIT, "%s: bitmap '%s' would be larger than %d bytes", ed->file->name,
			ed->q->bitmaps[b->index].name, QCOW2_MAX_BITMAP_BYTES);
	n.table = mem_calloc(max_u64(entries, 1), sizeof *n.table, "bitmap table", e);
	n.touched = n.table ? mem_calloc(max_u64(entries, 1), 1, "bitmap", e) : NULL;
	n.bits = n.touched ? mem_calloc(max_u64(entries, 1), ed->g.cluster_size, "bitmap", e) : NULL;
	if (!n.bits) {
		bitmap_free(&n);
		return -1;
	}
	n.entries = (uint32_t)max_u64(entries, 1);
	memcpy(n.table, b->table, (size_t)both * sizeof *n.table);
	memcpy(n.bits, b->bits, (size_t)both << ed->g.cluster_bits);
	memset(n.touched, 1, n.entries);
	clear_tail(ed, &n, size);
	/* Clusters of bits that are no longer needed go when the table that leads to them has gone: see the store. */
	bitmap_free(b);
	*b = n;
	return 0;
}

int edit_bitmaps_resize(struct edit *ed, uint64_t size, struct error *e)
{
	if (edit_bitmaps_load_all(ed, e))
		return -1;
	for (uint32_t i = 0; ed->bitmaps && i < ed->bitmaps->count; i++)
		if (resize(ed, &ed->bitmaps->list[i], size, e))
			return -1;
	return 0;
}

void edit_bitmaps_free(struct edit *ed)
{
	if (!ed->bitmaps)
		return;
	for (uint32_t i = 0; ed->bitmaps->list && i < ed->bitmaps->count; i++)
		bitmap_free(&ed->bitmaps->list[i]);
	free(ed->bitmaps->list);
	free(ed->bitmaps);
	ed->bitmaps = NULL;
}
