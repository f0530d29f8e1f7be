/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of persistent bitmaps (FORMAT.md §9.2). Only asked for when the autoclear bit vouches for it.
 */
#include "qcow2/internal.h"

static int keep_bitmap(struct qcow2 *q, const struct bitmap_entry *x, struct error *e)
{
	struct qcow2_bitmap *b = &q->bitmaps[q->bitmap_count];
	char *name = mem_printf(e, "%.*s", (int)x->name_len, x->name);

	if (!name)
		return -1;
	b->entry = *x;
	b->entry.name = NULL;
	b->name = name;
	q->bitmap_count++;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names are unique; sorted, since 65535 of them would take minutes to compare each with each. */
static int refuse_duplicates(const struct qcow2 *q, struct error *e)
{
	AUTO_FREE char **names = mem_calloc(q->bitmap_count, sizeof *names, "bitmap names", e);

	if (!names)
		return -1;
	for (uint32_t i = 0; i < q->bitmap_count; i++)
		names[i] = q->bitmaps[i].name;
	qsort(names, q->bitmap_count, sizeof *names, by_name);
	for (uint32_t i = 1; i < q->bitmap_count; i++)
		if (strcmp(names[i - 1], names[i]) == 0)
			return err_set(e, ERR_CORRUPT, "two bitmaps have the name '%s'", names[i]);
	return 0;
}

static int read_entries(struct qcow2 *q, const uint8_t *directory, size_t bytes, uint32_t count, struct error *e)
{
	size_t at = 0;

	while (q->bitmap_count < count) {
		struct bitmap_entry x;

		if (bitmap_entry_decode(&q->g, directory + at, bytes - at, &x, e) || keep_bitmap(q, &x, e))
			return -1;
		at += x.bytes;
	}
	if (at != bytes)
		return err_set(e, ERR_CORRUPT, "%u bitmaps take %zu of the directory's %zu bytes", count, at, bytes);
	return refuse_duplicates(q, e);
}

int bitmap_list_read(struct qcow2 *q, const struct bitmaps_extension *x, struct error *e)
{
	AUTO_FREE uint8_t *directory = NULL;

	if (x->directory_offset > q->file->size || x->directory_bytes > q->file->size - x->directory_offset)
		return err_set(e, ERR_CORRUPT, "bitmap directory of %llu bytes at 0x%llx lies past the end of the file",
			(unsigned long long)x->directory_bytes, (unsigned long long)x->directory_offset);
	q->bitmap_directory = *x;
	directory = mem_calloc(1, x->directory_bytes, "bitmap directory", e);
	q->bitmaps = directory ? mem_calloc(x->count, sizeof *q->bitmaps, "bitmap list", e) : NULL;
	if (!q->bitmaps)
		return -1;
	if (io_read_exact(q->file, directory, x->directory_bytes, x->directory_offset, "bitmap directory", e))
		return -1;
	return read_entries(q, directory, x->directory_bytes, x->count, e);
}

int qcow2_bitmap_find(const struct qcow2 *q, const char *name)
{
	for (uint32_t i = 0; i < q->bitmap_count; i++)
		if (strcmp(q->bitmaps[i].name, name) == 0)
			return (int)i;
	return -1;
}

void bitmap_list_free(struct qcow2 *q)
{
	for (uint32_t i = 0; i < q->bitmap_count; i++)
		free(q->bitmaps[i].name);
	free(q->bitmaps);
}
