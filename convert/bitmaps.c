/* SPDX-License-Identifier: Apache-2.0
 *
 * --bitmaps: the persistent bitmaps of the top image arrive in the target (FORMAT.md §9). The bits are the same; only the
 * clusters that hold them may be of another size.
 */
#include "convert/internal.h"

/* Bits as bytes of one source bitmap, read by offset. */
struct bits {
	const struct qcow2 *q;
	const struct qcow2_bitmap *bitmap;
	uint64_t bytes;     /* that hold bits */
	unsigned tail_bits; /* of the last byte; 0: all */
};

static void set_size(struct bits *b)
{
	uint64_t size = b->q->h.size, bits;
	unsigned shift = b->bitmap->entry.granularity_bits;
	bits = (size >> shift) + ((size & ((1ull << shift) - 1)) != 0);
	b->bytes = div_round_up(bits, 8);
	b->tail_bits = bits % 8;
}

/* Reads within one cluster of the source's bitmap. */
static int read_part(const struct bits *b, uint64_t at, uint8_t *to, size_t len, struct error *e)
{
	const struct geometry *g = &b->q->g;
	const struct bitmap_entry *x = &b->bitmap->entry;
	uint64_t index = at >> g->cluster_bits, host;
	uint8_t raw[8];
	bool ones;
	if (index >= x->table_entries)
		return err_set(e, ERR_CORRUPT, "its table has %u entries, too few for the disk", x->table_entries);
	if (io_read_exact(b->q->file, raw, sizeof raw, x->table_offset + 8 * index, "bitmap table", e) < 0 ||
		bitmap_table_entry_decode(g, get_be64(raw), &host, &ones, e) < 0)
		return -1;
	if (host)
		return io_read_exact(b->q->file, to, len, host + geometry_in_cluster(g, at), "bitmap data", e);
	memset(to, ones ? 0xff : 0, len);
	return 0;
}

static int read_bits(const struct bits *b, uint64_t at, uint8_t *to, size_t len, struct error *e)
{
	for (size_t done = 0, n; done < len; done += n) {
		n = min_u64(len - done, b->q->g.cluster_size - geometry_in_cluster(&b->q->g, at + done));
		if (read_part(b, at + done, to + done, n, e) < 0)
			return -1;
	}
	if (b->tail_bits && at + len == b->bytes)
		to[len - 1] &= (uint8_t)((1u << b->tail_bits) - 1);
	return 0;
}

static int copy_bitmap(const struct bits *b, struct writer *writer, uint32_t cluster_size, struct error *e)
{
	AUTO_FREE uint8_t *buf = mem_alloc_pages(cluster_size, "bitmap", e);
	struct bitmap_entry entry = b->bitmap->entry;
	if (!buf)
		return -1;
	entry.name = b->bitmap->name;
	entry.name_len = (uint16_t)strlen(entry.name);
	entry.extra_bytes = 0;
	if (writer_bitmap_begin(writer, &entry, e) < 0)
		return -1;
	for (uint64_t at = 0; at < b->bytes; at += cluster_size) {
		size_t len = min_u64(cluster_size, b->bytes - at);
		memset(buf + len, 0, cluster_size - len);
		if (read_bits(b, at, buf, len, e) < 0)
			return -1;
		if (!mem_is_zero(buf, len) && writer_bitmap_cluster(writer, (uint32_t)(at / cluster_size), buf, e) < 0)
			return -1;
	}
	return writer_bitmap_end(writer, e);
}

/* 1: it may be copied; 0: left out with a warning; -1: the user has to say what to do. */
static int is_sound(const struct conversion *c, const struct qcow2_bitmap *bitmap, struct error *e)
{
	const struct convert_opts *o = c->opts;
	char text[1200];
	if (!(bitmap->entry.flags & BITMAP_IN_USE))
		return 1;
	if (!o->skip_broken_bitmaps && !o->keep_snapshots)
		return err_set(e, ERR_CORRUPT,
			"Cannot copy inconsistent bitmap '%s' (--skip-broken-bitmaps leaves it out)", bitmap->name);
	snprintf(text, sizeof text, "Skipping inconsistent bitmap '%s'", bitmap->name);
	if (o->warn)
		o->warn(o->warn_ctx, text);
	return 0;
}

int bitmaps_write(struct conversion *c, struct writer *writer, struct error *e)
{
	const struct layer *top = &c->plan.sources[0].chain->layers[0];
	if (c->opts->bitmaps && (c->opts->source_count > 1 || !top->q || top->q->snapshot >= 0))
		return err_set(e, ERR_USAGE, "--bitmaps takes one qcow2 source in its active state");
	for (uint32_t i = 0; i < top->q->bitmap_count; i++) {
		struct bits b = {.q = top->q, .bitmap = &top->q->bitmaps[i]};
		int sound = is_sound(c, b.bitmap, e);
		if (sound < 0)
			return -1;
		set_size(&b);
		if (sound && copy_bitmap(&b, writer, c->create.cluster_size, e) < 0)
			return err_prefix(e, "%s: bitmap '%s'", top->path, b.bitmap->name);
	}
	return 0;
}
