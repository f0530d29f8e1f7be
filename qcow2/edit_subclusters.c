/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing with extended L2 entries (FORMAT.md §5.5): only the subclusters at both ends of a write have to be filled up. A cluster
 * that is copied takes along the subclusters that it holds, and no others.
 */
#include "qcow2/edit_internal.h"

/* The part of a write that lies in one cluster; offsets are within it. */
struct part {
	struct l2_entry old;
	const uint8_t *buf;
	uint64_t cluster;  /* guest */
	uint32_t from, to; /* bytes to be written */
	uint32_t mask;     /* subclusters that they touch */
};

static uint32_t sub_size(const struct edit *ed)
{
	return 1u << ed->g.subcluster_bits;
}

static uint32_t bits_between(uint32_t first, uint32_t end)
{
	return (uint32_t)(((1ull << (end - first)) - 1) << first);
}

static uint64_t bitmap_of(uint32_t alloc, uint32_t zero)
{
	return (uint64_t)zero << 32 | alloc;
}

static int write_own(struct edit *ed, struct table *t, const struct part *p, struct error *e)
{
	uint32_t from = p->from, to = p->to, size = sub_size(ed);
	uint32_t first = from / size, last = (to - 1) / size;

	if (!(p->old.alloc >> first & 1))
		from = first * size;
	if (!(p->old.alloc >> last & 1))
		to = (last + 1) * size;
	if (from == p->from && to == p->to) {
		if (edit_write_data(ed, p->buf, to - from, p->old.host + from, e))
			return -1;
	} else {
		if (edit_read_padded(ed, ed->bounce + from, p->from - from, p->cluster + from, e) ||
			edit_read_padded(ed, ed->bounce + p->to, to - p->to, p->cluster + p->to, e))
			return -1;
		memcpy(ed->bounce + p->from, p->buf, p->to - p->from);
		if (edit_write_data(ed, ed->bounce + from, to - from, p->old.host + from, e))
			return -1;
	}
	if ((p->old.alloc & p->mask) != p->mask)
		map_set(ed, t, p->cluster, p->old.host | ENTRY_COPIED,
			bitmap_of(p->old.alloc | p->mask, p->old.zero & ~p->mask));
	return 0;
}

/* All that the new cluster holds, in `bounce`. */
static int gather(struct edit *ed, const struct part *p, uint32_t keep, struct error *e)
{
	uint32_t size = sub_size(ed), start = p->from - p->from % size, end = (uint32_t)align_up(p->to, size);

	memset(ed->bounce, 0, ed->g.cluster_size);
	for (uint32_t i = 0; i < ed->g.subclusters; i++)
		if ((keep & ~p->mask) >> i & 1 &&
			edit_read_padded(ed, ed->bounce + i * size, size, p->cluster + i * size, e))
			return -1;
	if (edit_read_padded(ed, ed->bounce + start, p->from - start, p->cluster + start, e) ||
		edit_read_padded(ed, ed->bounce + p->to, end - p->to, p->cluster + p->to, e))
		return -1;
	memcpy(ed->bounce + p->from, p->buf, p->to - p->from);
	return 0;
}

static int write_new(struct edit *ed, struct table *t, const struct part *p, struct error *e)
{
	uint32_t keep = p->old.type == CLUSTER_COMPRESSED ? UINT32_MAX : p->old.alloc, all = keep | p->mask;
	uint32_t from = (uint32_t)__builtin_ctz(all) * sub_size(ed);
	uint32_t to = (32 - (uint32_t)__builtin_clz(all)) * sub_size(ed);
	uint64_t host = p->cluster;
	struct error first;

	if (gather(ed, p, keep, e) || (!ed->has_data_file && alloc_clusters(ed, 1, &host, e)))
		return -1;
	if (edit_write_data(ed, ed->bounce + from, to - from, host + from, &first)) {
		if (!ed->has_data_file)
			(void)edit_drop(ed, host, 1, e); /* a leak at worst */
		*e = first;
		return -1;
	}
	return edit_replace(ed, t, p->cluster, host | ENTRY_COPIED, bitmap_of(all, p->old.zero & ~p->mask), e);
}

int edit_write_subclusters(struct edit *ed, struct table *t, const uint8_t *buf, uint64_t guest, uint64_t len,
	uint64_t *done, struct error *e)
{
	struct part p = {.buf = buf, .from = (uint32_t)geometry_in_cluster(&ed->g, guest)};

	*done = min_u64(len, ed->g.cluster_size - p.from);
	p.cluster = guest - p.from;
	p.to = p.from + (uint32_t)*done;
	p.mask = bits_between(p.from / sub_size(ed), (p.to - 1) / sub_size(ed) + 1);
	if (map_entry(ed, t, guest, &p.old, e))
		return -1;
	if (p.old.type == CLUSTER_NORMAL && p.old.copied)
		return write_own(ed, t, &p, e);
	return write_new(ed, t, &p, e);
}
