/* SPDX-License-Identifier: Apache-2.0
 *
 * Persistent bitmaps made, removed, cleared, merged, switched on and off (FORMAT.md §9). All are in memory and marked as in use
 * meanwhile; the bits come back when the editor closes, a changed directory at once.
 * order: the new directory and what it leads to, flush, the header's extension, flush; the old one goes with the next commit.
 */
#include "qcow2/edit_internal.h"

enum { MIN_DEFAULT_GRANULARITY = 4096, MAX_ENTRY_BYTES = QCOW2_BITMAP_ENTRY_BYTES + QCOW2_MAX_BITMAP_NAME + 7 };

struct directory {
	uint8_t *bytes;
	size_t len;
};

/* The directory as it is in the file, its entries byte for byte. */
static int read_directory(struct edit *ed, struct directory *d, struct error *e)
{
	d->len = (size_t)ed->q->bitmap_directory.directory_bytes;
	d->bytes = mem_calloc(1, d->len + MAX_ENTRY_BYTES, "bitmap directory", e);
	if (!d->bytes || !d->len)
		return d->bytes ? 0 : -1;
	return io_read_exact(ed->file, d->bytes, d->len, ed->q->bitmap_directory.directory_offset, "bitmap directory",
		e);
}

/* The header leads to `d`, which has `count` entries; what it lead to before is given up. */
static int put_directory(struct edit *ed, const struct directory *d, uint32_t count, struct error *e)
{
	const struct bitmaps_extension old = ed->q->bitmap_directory;
	struct bitmaps_extension x = {.count = count, .directory_bytes = d->len};
	struct header_strings s = {ed->q->backing_name, ed->q->backing_format, ed->q->data_file_name};
	struct header h;

	if (d->len > QCOW2_MAX_BITMAP_DIRECTORY_BYTES)
		return err_set(e, ERR_LIMIT, "the bitmap directory would be larger than %d bytes",
			QCOW2_MAX_BITMAP_DIRECTORY_BYTES);
	if (count && (alloc_clusters(ed, geometry_clusters(&ed->g, d->len), &x.directory_offset, e) ||
			     edit_add_metadata(ed, x.directory_offset, d->len, e) ||
			     edit_write_table(ed, d->bytes, d->len, x.directory_offset, "bitmap directory", e)))
		return -1;
	if (edit_flush(ed, e))
		return -1;
	h = ed->q->h;
	h.autoclear = count ? h.autoclear | AUTOCLEAR_BITMAPS : h.autoclear & ~(uint64_t)AUTOCLEAR_BITMAPS;
	if (!count)
		x = (struct bitmaps_extension){0};
	if (edit_put_start(ed, &h, &s, &x, e))
		return -1;
	if (!old.count)
		return 0;
	return edit_drop(ed, old.directory_offset, geometry_clusters(&ed->g, old.directory_bytes), e);
}

/* After the list has changed: where the entries of the loaded ones are now. */
static void find_entries(struct edit *ed)
{
	for (uint32_t i = 0; ed->bitmaps && i < ed->bitmaps->count; i++) {
		struct edit_bitmap *b = &ed->bitmaps->list[i];

		b->entry_host = edit_bitmap_entry_host(ed->q, b->index);
	}
}

/* ---- add ---- */

static int check_new(struct edit *ed, const char *name, uint64_t granularity, struct error *e)
{
	size_t len = strlen(name);

	if (qcow2_bitmap_find(ed->q, name) >= 0)
		return err_set(e, ERR_USAGE, "Bitmap already exists: %s", name);
	if (granularity & (granularity - 1) || granularity < 1u << QCOW2_MIN_GRANULARITY_BITS ||
		granularity > 1ull << QCOW2_MAX_GRANULARITY_BITS)
		return err_set(e, ERR_USAGE, "Granularity must be power of 2 and at least 512");
	if (ed->q->h.version < 3)
		return err_set(e, ERR_UNSUPPORTED, "Cannot store dirty bitmaps in qcow2 v2 files");
	if (!len || len > QCOW2_MAX_BITMAP_NAME)
		return err_set(e, ERR_LIMIT, "Name length exceeds maximum (%d characters)", QCOW2_MAX_BITMAP_NAME);
	if (ed->q->bitmap_count >= QCOW2_MAX_BITMAPS)
		return err_set(e, ERR_LIMIT, "Maximum number of persistent bitmaps is already reached");
	return 0;
}

/* A table of zeros for the new bitmap. */
static int make_table(struct edit *ed, struct bitmap_entry *x, struct error *e)
{
	uint64_t entries = max_u64(bitmap_table_entries(&ed->g, x->granularity_bits, ed->q->size), 1),
		 len = entries * 8;
	AUTO_FREE uint8_t *zeros = NULL;

	if (entries << ed->g.cluster_bits > QCOW2_MAX_BITMAP_BYTES)
		return err_set(e, ERR_LIMIT, "Too much space will be occupied by the bitmap. Use larger granularity");
	zeros = mem_calloc(1, (size_t)len, "bitmap table", e);
	if (!zeros || alloc_clusters(ed, geometry_clusters(&ed->g, len), &x->table_offset, e) ||
		edit_add_metadata(ed, x->table_offset, len, e))
		return -1;
	x->table_entries = (uint32_t)entries;
	return edit_write_table(ed, zeros, (size_t)len, x->table_offset, "bitmap table", e);
}

static int list_append(struct qcow2 *q, const struct bitmap_entry *x, struct error *e)
{
	struct qcow2_bitmap *longer = realloc(q->bitmaps, (q->bitmap_count + (size_t)1) * sizeof *longer);

	if (!longer)
		return err_set(e, ERR_NO_MEMORY, "no memory for the list of bitmaps");
	q->bitmaps = longer;
	longer[q->bitmap_count] = (struct qcow2_bitmap){.entry = *x, .name = mem_strdup(x->name, e)};
	longer[q->bitmap_count].entry.name = NULL;
	if (!longer[q->bitmap_count].name)
		return -1;
	q->bitmap_count++;
	return 0;
}

int edit_bitmap_add(struct edit *ed, const char *name, uint64_t granularity, struct error *e)
{
	struct bitmap_entry x = {.flags = BITMAP_AUTO, .type = 1, .name = name, .name_len = (uint16_t)strlen(name)};
	struct directory d = {0};
	int failed;

	if (!granularity)
		granularity = max_u64(ed->g.cluster_size, MIN_DEFAULT_GRANULARITY);
	if (check_new(ed, name, granularity, e) || edit_begin_change(ed, e))
		return -1;
	x.granularity_bits = (uint8_t)__builtin_ctzll(granularity);
	failed = make_table(ed, &x, e) || read_directory(ed, &d, e);
	if (!failed) {
		x.bytes = bitmap_entry_encode(&x, d.bytes + d.len, MAX_ENTRY_BYTES);
		d.len += x.bytes;
		failed = put_directory(ed, &d, ed->q->bitmap_count + 1, e) || list_append(ed->q, &x, e);
	}
	free(d.bytes);
	find_entries(ed);
	/* It follows what is written from now on. */
	return failed || edit_bitmaps_load(ed, false, e) ? -1 : 0;
}

/* ---- remove ---- */

/* All that only this bitmap refers to. A table of one that is inconsistent may hold anything: what is no cluster of the file stays. */
static int drop_bitmap(struct edit *ed, const struct bitmap_entry *x, struct error *e)
{
	for (uint32_t i = 0; i < x->table_entries; i++) {
		uint8_t raw[8];
		uint64_t host, count = 0;
		struct error bad;
		bool ones;

		if (io_read_exact(ed->file, raw, sizeof raw, x->table_offset + 8ull * i, "bitmap table", e))
			return -1;
		if (bitmap_table_entry_decode(&ed->g, get_be64(raw), &host, &ones, &bad) || !host)
			continue;
		if (refs_get(ed, host, &count, e) || (count && edit_drop(ed, host, 1, e)))
			return -1;
	}
	return edit_drop(ed, x->table_offset, geometry_clusters(&ed->g, x->table_entries * UINT64_C(8)), e);
}

static void list_remove(struct edit *ed, uint32_t index)
{
	struct qcow2 *q = ed->q;

	edit_bitmaps_unload(ed, index);
	free(q->bitmaps[index].name);
	q->bitmap_count--;
	memmove(q->bitmaps + index, q->bitmaps + index + 1, (q->bitmap_count - index) * sizeof *q->bitmaps);
}

int edit_bitmap_remove(struct edit *ed, const char *name, struct error *e)
{
	int index = qcow2_bitmap_find(ed->q, name);
	struct bitmap_entry x;
	struct directory d;
	uint64_t at;
	int failed;

	if (index < 0)
		return err_set(e, ERR_NOT_FOUND, "Dirty bitmap '%s' not found", name);
	if (edit_begin_change(ed, e) || read_directory(ed, &d, e))
		return -1;
	x = ed->q->bitmaps[index].entry;
	at = edit_bitmap_entry_host(ed->q, (uint32_t)index) - ed->q->bitmap_directory.directory_offset;
	d.len -= x.bytes;
	memmove(d.bytes + at, d.bytes + at + x.bytes, d.len - at);
	failed = put_directory(ed, &d, ed->q->bitmap_count - 1, e);
	free(d.bytes);
	if (failed)
		return -1;
	list_remove(ed, (uint32_t)index);
	find_entries(ed);
	return drop_bitmap(ed, &x, e);
}

/* ---- bits and flags ---- */

/* The bitmap in memory; ERR_CORRUPT when it is inconsistent. */
static int usable(struct edit *ed, const char *name, struct edit_bitmap **out, struct error *e)
{
	int index = qcow2_bitmap_find(ed->q, name);

	if (index < 0)
		return err_set(e, ERR_NOT_FOUND, "Dirty bitmap '%s' not found", name);
	if (edit_bitmaps_load_all(ed, e))
		return -1;
	*out = edit_bitmaps_find(ed, (uint32_t)index);
	if (!*out)
		return err_set(e, ERR_CORRUPT,
			"Bitmap '%s' is inconsistent and cannot be used\n"
			"Try block-dirty-bitmap-remove to delete this bitmap from disk",
			name);
	return 0;
}

int edit_bitmap_clear(struct edit *ed, const char *name, struct error *e)
{
	struct edit_bitmap *b;

	if (usable(ed, name, &b, e))
		return -1;
	memset(b->bits, 0, (size_t)b->entries << ed->g.cluster_bits);
	memset(b->touched, 1, b->entries);
	return 0;
}

int edit_bitmap_enable(struct edit *ed, const char *name, bool on, struct error *e)
{
	struct edit_bitmap *b;
	uint32_t flags;

	if (usable(ed, name, &b, e))
		return -1;
	flags = ed->q->bitmaps[b->index].entry.flags & ~(uint32_t)BITMAP_AUTO;
	return edit_bitmap_flags(ed, b, flags | (on ? BITMAP_AUTO : 0), e);
}

static void merge_bits(struct edit *ed, struct edit_bitmap *b, const uint8_t *bits, uint64_t count, unsigned shift)
{
	for (uint64_t i = 0; i < count; i++)
		if (bits[i / 8] >> i % 8 & 1)
			edit_bitmap_set(ed, b, i << shift, min_u64(1ull << shift, ed->q->size - (i << shift)));
}

int edit_bitmap_merge(struct edit *ed, const char *name, const struct qcow2 *from, const char *source, struct error *e)
{
	int index = qcow2_bitmap_find(from, source);
	AUTO_FREE uint8_t *bits = NULL;
	struct edit_bitmap *b;
	const struct edit_bitmap *loaded;
	uint64_t bytes;
	unsigned shift;

	if (index < 0)
		return err_set(e, ERR_NOT_FOUND, "Dirty bitmap '%s' not found", source);
	if (usable(ed, name, &b, e))
		return -1;
	loaded = from == ed->q ? edit_bitmaps_find(ed, (uint32_t)index) : NULL;
	if (!loaded && (from->bitmaps[index].entry.flags & BITMAP_IN_USE))
		return err_set(e, ERR_CORRUPT,
			"Bitmap '%s' is inconsistent and cannot be used\n"
			"Try block-dirty-bitmap-remove to delete this bitmap from disk",
			source);
	if (from->h.size != ed->q->h.size)
		return err_set(e, ERR_USAGE,
			"Bitmaps are of different sizes (destination size is %llu, source size is %llu) and can't be "
			"merged",
			(unsigned long long)ed->q->h.size, (unsigned long long)from->h.size);
	shift = from->bitmaps[index].entry.granularity_bits;
	bytes = qcow2_bitmap_bytes(from, (uint32_t)index);
	bits = mem_calloc(1, (size_t)bytes + 1, "bitmap", e);
	if (!bits)
		return -1;
	if (loaded)
		memcpy(bits, loaded->bits, (size_t)bytes);
	else if (qcow2_bitmap_read(from, (uint32_t)index, 0, bits, (size_t)bytes, e))
		return -1;
	merge_bits(ed, b, bits, div_round_up(ed->q->h.size, 1ull << shift), shift);
	return 0;
}
