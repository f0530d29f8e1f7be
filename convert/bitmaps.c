/* SPDX-License-Identifier: Apache-2.0
 *
 * --bitmaps: the persistent bitmaps of the top image arrive in the target (FORMAT.md §9). The bits are the same; only the
 * clusters that hold them may be of another size.
 */
#include "convert/internal.h"

static int copy_bitmap(const struct qcow2 *q, uint32_t index, struct writer *writer, uint32_t cluster_size,
	struct error *e)
{
	AUTO_FREE uint8_t *buf = mem_alloc_pages(cluster_size, "bitmap", e);
	struct bitmap_entry entry = q->bitmaps[index].entry;
	uint64_t bytes = qcow2_bitmap_bytes(q, index);
	if (!buf)
		return -1;
	entry.name = q->bitmaps[index].name;
	entry.name_len = (uint16_t)strlen(entry.name);
	entry.extra_bytes = 0;
	if (writer_bitmap_begin(writer, &entry, e) < 0)
		return -1;
	for (uint64_t at = 0; at < bytes; at += cluster_size) {
		size_t len = min_u64(cluster_size, bytes - at);
		memset(buf + len, 0, cluster_size - len);
		if (qcow2_bitmap_read(q, index, at, buf, len, e) < 0)
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
		int sound = is_sound(c, &top->q->bitmaps[i], e);
		if (sound < 0)
			return -1;
		if (sound && copy_bitmap(top->q, i, writer, c->create.cluster_size, e) < 0)
			return err_prefix(e, "%s: bitmap '%s'", top->path, top->q->bitmaps[i].name);
	}
	return 0;
}
