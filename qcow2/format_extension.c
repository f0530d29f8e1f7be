/* SPDX-License-Identifier: Apache-2.0
 *
 * Header extensions, FORMAT.md §4: their framing, the feature name table and the bitmaps extension. Extensions of
 * types not known here come out of the iterator like the others; whoever rewrites a header keeps them (§4.7).
 */
#include "qcow2/format.h"

enum { FRAME_BYTES = 8, FEATURE_BYTES = 48, FEATURE_NAME_BYTES = 46 };

int extension_next(const uint8_t *buf, size_t end, size_t *pos, struct extension *out, struct error *e)
{
	size_t at = *pos;
	size_t left;

	/* The padding of the last extension may lie behind `end`; so may a header longer than a backing name's offset. */
	if (at >= end)
		return 0;
	left = end - at;
	if (left < FRAME_BYTES)
		return err_set(e, ERR_CORRUPT, "header extension at 0x%zx: only %zu bytes left for it", at, left);
	out->type = get_be32(buf + at);
	out->len = get_be32(buf + at + 4);
	out->data = buf + at + FRAME_BYTES;
	if (out->len > left - FRAME_BYTES)
		return err_set(e, ERR_CORRUPT, "header extension 0x%08x at 0x%zx: length %u, only %zu bytes left",
			out->type, at, out->len, left - FRAME_BYTES);
	if (out->type == EXT_END)
		return 0;
	*pos = at + FRAME_BYTES + align_up(out->len, 8);
	return 1;
}

size_t extension_encode(uint8_t *buf, size_t cap, size_t pos, uint32_t type, const void *data, uint32_t len)
{
	size_t padded = align_up(len, 8);

	if (pos > cap || cap - pos < FRAME_BYTES || cap - pos - FRAME_BYTES < padded)
		return 0;
	put_be32(buf + pos, type);
	put_be32(buf + pos + 4, len);
	pos += FRAME_BYTES;
	if (len)
		memcpy(buf + pos, data, len);
	memset(buf + pos + len, 0, padded - len);
	return pos + padded;
}

bool feature_name(const struct extension *table, unsigned kind, unsigned bit, char name[47])
{
	for (uint32_t at = 0; table->len - at >= FEATURE_BYTES; at += FEATURE_BYTES) {
		const uint8_t *row = table->data + at;

		if (row[0] != kind || row[1] != bit)
			continue;
		memcpy(name, row + 2, FEATURE_NAME_BYTES);
		name[FEATURE_NAME_BYTES] = 0;
		for (char *c = name; *c; c++)
			if (*c < 0x20 || *c > 0x7e)
				*c = '?';
		return true;
	}
	return false;
}

size_t feature_table_encode(uint8_t *buf, size_t cap)
{
	static const struct {
		uint8_t kind, bit;
		const char *name;
	} rows[] = {
		{0, 0, "dirty bit"},
		{0, 1, "corrupt bit"},
		{0, 2, "external data file"},
		{0, 3, "compression type"},
		{0, 4, "extended L2 entries"},
		{1, 0, "lazy refcounts"},
		{2, 0, "bitmaps"},
		{2, 1, "raw external data"},
	};
	size_t count = sizeof rows / sizeof rows[0];

	if (cap < count * FEATURE_BYTES)
		return 0;
	memset(buf, 0, count * FEATURE_BYTES);
	for (size_t i = 0; i < count; i++) {
		uint8_t *row = buf + i * FEATURE_BYTES;

		row[0] = rows[i].kind;
		row[1] = rows[i].bit;
		memcpy(row + 2, rows[i].name, strlen(rows[i].name));
	}
	return count * FEATURE_BYTES;
}

int bitmaps_extension_decode(const struct extension *x, uint32_t cluster_size, struct bitmaps_extension *out,
	struct error *e)
{
	if (x->len != QCOW2_BITMAPS_EXTENSION_BYTES)
		return err_set(e, ERR_CORRUPT, "bitmaps extension: length %u is not %d", x->len,
			QCOW2_BITMAPS_EXTENSION_BYTES);
	out->count = get_be32(x->data);
	out->directory_bytes = get_be64(x->data + 8);
	out->directory_offset = get_be64(x->data + 16);
	if (get_be32(x->data + 4) != 0)
		return err_set(e, ERR_CORRUPT, "bitmaps extension: reserved field is 0x%x", get_be32(x->data + 4));
	if (out->count == 0)
		return err_set(e, ERR_CORRUPT, "bitmaps extension: it says that there are no bitmaps");
	if (out->count > QCOW2_MAX_BITMAPS)
		return err_set(e, ERR_LIMIT, "bitmaps extension: %u bitmaps are more than %d", out->count,
			QCOW2_MAX_BITMAPS);
	if (out->directory_bytes > QCOW2_MAX_BITMAP_DIRECTORY_BYTES)
		return err_set(e, ERR_LIMIT, "bitmaps extension: directory of %llu bytes is larger than %d",
			(unsigned long long)out->directory_bytes, QCOW2_MAX_BITMAP_DIRECTORY_BYTES);
	if (out->directory_bytes < (uint64_t)out->count * QCOW2_BITMAP_ENTRY_BYTES)
		return err_set(e, ERR_CORRUPT, "bitmaps extension: directory of %llu bytes cannot hold %u bitmaps",
			(unsigned long long)out->directory_bytes, out->count);
	if (out->directory_offset == 0 || out->directory_offset % cluster_size != 0 ||
		out->directory_offset > INT64_MAX - out->directory_bytes)
		return err_set(e, ERR_CORRUPT, "bitmaps extension: bad directory offset 0x%llx",
			(unsigned long long)out->directory_offset);
	return 0;
}

size_t bitmaps_extension_encode(const struct bitmaps_extension *b, uint8_t buf[24])
{
	put_be32(buf, b->count);
	put_be32(buf + 4, 0);
	put_be64(buf + 8, b->directory_bytes);
	put_be64(buf + 16, b->directory_offset);
	return QCOW2_BITMAPS_EXTENSION_BYTES;
}
