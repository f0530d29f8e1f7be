/* SPDX-License-Identifier: Apache-2.0
 *
 * What an edited image shows (FORMAT.md §5.6): by its tables in memory, and below them the backing.
 */
#include "qcow2/edit_internal.h"

static enum extent_kind subcluster_kind(const struct l2_entry *x, unsigned i)
{
	if (x->zero >> i & 1)
		return EXTENT_ZERO;
	return x->alloc >> i & 1 ? EXTENT_DATA : EXTENT_ABSENT;
}

/* The part of one extended entry that is of one kind from `guest` on. */
static void subcluster_piece(const struct edit *ed, const struct l2_entry *x, struct extent *out)
{
	uint64_t in = geometry_in_cluster(&ed->g, out->start);
	unsigned i = (unsigned)(in >> ed->g.subcluster_bits), first = i;

	out->kind = subcluster_kind(x, first);
	while (i < ed->g.subclusters && subcluster_kind(x, i) == out->kind)
		i++;
	out->len = ((uint64_t)i << ed->g.subcluster_bits) - in;
	out->has_host = x->type == CLUSTER_NORMAL;
}

static enum extent_kind cluster_kind(enum cluster_type type)
{
	switch (type) {
	case CLUSTER_NORMAL:
		return EXTENT_DATA;
	case CLUSTER_COMPRESSED:
		return EXTENT_COMPRESSED;
	case CLUSTER_ZERO_PLAIN:
	case CLUSTER_ZERO_ALLOC:
		return EXTENT_ZERO;
	default:
		return EXTENT_ABSENT;
	}
}

/* The rest of the cluster at `guest`, or what of it is of one kind. */
static int piece(struct edit *ed, const struct table *t, uint64_t guest, struct extent *out, struct error *e)
{
	uint64_t in = geometry_in_cluster(&ed->g, guest);
	struct l2_entry x;

	if (map_entry(ed, t, guest, &x, e))
		return -1;
	*out = (struct extent){.start = guest,
		.len = ed->g.cluster_size - in,
		.kind = cluster_kind(x.type),
		.has_host = x.type != CLUSTER_UNALLOCATED && x.type != CLUSTER_ZERO_PLAIN,
		.cluster_bits = (uint8_t)ed->g.cluster_bits,
		.codec = ed->q->h.compression_type,
		.csize = x.csize,
		.host = x.host + in,
		.file = ed->data};
	if (x.type == CLUSTER_COMPRESSED) {
		out->skip = (uint32_t)in;
		out->host = x.host;
	} else if (ed->g.subclusters > 1) {
		subcluster_piece(ed, &x, out);
	}
	return 0;
}

static bool follows(const struct extent *a, const struct extent *b)
{
	return a->kind == b->kind && a->kind != EXTENT_COMPRESSED && a->has_host == b->has_host &&
	       (!a->has_host || a->host + a->len == b->host);
}

int edit_extent(struct edit *ed, uint64_t guest, uint64_t len, struct extent *out, struct error *e)
{
	uint64_t span_end = align_down(guest, geometry_l2_span(&ed->g)) + geometry_l2_span(&ed->g);
	uint64_t end = guest + min_u64(len, span_end - guest);
	struct extent next;
	struct table *t;
	int failed;

	if (map_table(ed, guest, &t, e))
		return -1;
	if (!t) {
		*out = (struct extent){.start = guest, .len = end - guest, .kind = EXTENT_ABSENT};
		return 0;
	}
	failed = piece(ed, t, guest, out, e);
	while (!failed && guest + out->len < end) {
		failed = piece(ed, t, guest + out->len, &next, e);
		if (failed || !follows(out, &next))
			break;
		out->len += next.len;
	}
	table_put(t);
	if (failed)
		return -1;
	out->len = min_u64(out->len, end - guest);
	return 0;
}

int edit_check_range(const struct edit *ed, uint64_t guest, uint64_t len, struct error *e)
{
	if (guest > ed->q->size || len > ed->q->size - guest)
		return err_set(e, ERR_USAGE, "%s: %llu bytes at 0x%llx are not within the disk of %llu bytes",
			ed->file->name, (unsigned long long)len, (unsigned long long)guest,
			(unsigned long long)ed->q->size);
	return 0;
}

int edit_read(struct edit *ed, void *buf, size_t len, uint64_t guest, struct error *e)
{
	uint8_t *p = buf;

	if (edit_check_range(ed, guest, len, e))
		return -1;
	while (len) {
		struct extent x;
		size_t n;

		if (edit_extent(ed, guest, len, &x, e))
			return -1;
		n = (size_t)x.len;
		if (x.kind == EXTENT_ABSENT && ed->backing) {
			if (io_read(ed->backing, p, n, guest, e))
				return -1;
		} else if (reader_read(ed->reader, &x, 0, p, n, e)) {
			return -1;
		}
		p += n;
		guest += n;
		len -= n;
	}
	return 0;
}

int edit_read_padded(struct edit *ed, void *buf, size_t len, uint64_t guest, struct error *e)
{
	size_t there = guest < ed->q->size ? (size_t)min_u64(len, ed->q->size - guest) : 0;

	memset((uint8_t *)buf + there, 0, len - there);
	return there ? edit_read(ed, buf, there, guest, e) : 0;
}
