/* SPDX-License-Identifier: Apache-2.0
 *
 * Zeros, discards and ranges handed back to the backing file (FORMAT.md §5.3, §5.5, §5.6): what whole clusters and subclusters can
 * say in their entries, and plain zeros for the rest.
 */
#include "qcow2/edit_internal.h"

enum { ZERO_BLOCK = 1 << 16 };

enum wish { WISH_ZERO, WISH_ZERO_UNMAP, WISH_DISCARD, WISH_FORGET };

static bool shows_backing(const struct edit *ed, uint64_t guest)
{
	if (ed->say_zero)
		return true;
	return ed->backing ? guest < ed->backing->size : ed->q->backing_name != NULL;
}

static int write_zeros(struct edit *ed, uint64_t guest, uint64_t len, struct error *e)
{
	static const uint8_t zeros[ZERO_BLOCK];

	while (len) {
		size_t n = (size_t)min_u64(len, sizeof zeros);

		if (edit_write(ed, zeros, n, guest, e))
			return -1;
		guest += n;
		len -= n;
	}
	return 0;
}

/* Writes zeros where something else shows. */
static int zero_bytes(struct edit *ed, uint64_t guest, uint64_t len, struct error *e)
{
	while (len) {
		struct extent x;
		bool reads_zero;

		if (edit_extent(ed, guest, len, &x, e))
			return -1;
		reads_zero = x.kind == EXTENT_ZERO || (x.kind == EXTENT_ABSENT && !shows_backing(ed, guest));
		if (!reads_zero && write_zeros(ed, guest, x.len, e))
			return -1;
		guest += x.len;
		len -= x.len;
	}
	return 0;
}

/* The entry of a whole cluster that reads as zeros, with or without its host cluster. */
static int set_zero(struct edit *ed, struct table *t, uint64_t guest, const struct l2_entry *x, bool keep,
	struct error *e)
{
	uint64_t raw = keep ? x->host | ENTRY_COPIED : 0;
	uint64_t all = UINT64_MAX << 32;

	return ed->g.subclusters > 1 ? edit_replace(ed, t, guest, raw, all, e)
				     : edit_replace(ed, t, guest, raw | ENTRY_ZERO, 0, e);
}

static bool can_keep(const struct l2_entry *x)
{
	return x->copied && (x->type == CLUSTER_NORMAL || x->type == CLUSTER_ZERO_ALLOC);
}

static bool is_all_zero(const struct edit *ed, const struct l2_entry *x)
{
	if (ed->g.subclusters > 1)
		return x->zero == UINT32_MAX;
	return x->type == CLUSTER_ZERO_PLAIN || x->type == CLUSTER_ZERO_ALLOC;
}

/* A raw data file must read as the disk does without its image. */
static int zero_data_file(struct edit *ed, uint64_t guest, struct error *e)
{
	uint64_t len = min_u64(ed->g.cluster_size, ed->q->size - guest);

	if (!ed->has_data_file || !(ed->q->h.autoclear & AUTOCLEAR_DATA_FILE_RAW))
		return 0;
	ed->unflushed = true;
	return io_zero(ed->data, guest, len, IO_ZERO_UNMAP, e);
}

/* Version 2 cannot say "zero": unallocated where nothing shows through, else real zeros. 1: real ones are needed. */
static int zero_version_2(struct edit *ed, struct table *t, uint64_t guest, enum wish wish, struct error *e)
{
	if (shows_backing(ed, guest) || ed->q->backing_name)
		return wish == WISH_DISCARD ? 0 : 1;
	return edit_replace(ed, t, guest, 0, 0, e);
}

/* One whole cluster: 0 done, 1 its bytes have to be written. */
static int zero_cluster(struct edit *ed, struct table *t, uint64_t guest, enum wish wish, struct error *e)
{
	struct l2_entry x;

	if (map_entry(ed, t, guest, &x, e))
		return -1;
	if (wish == WISH_FORGET)
		return edit_replace(ed, t, guest, 0, 0, e);
	if (is_all_zero(ed, &x) && (wish == WISH_ZERO || !can_keep(&x)))
		return 0;
	if (x.type == CLUSTER_UNALLOCATED && !x.zero && !shows_backing(ed, guest) && !ed->q->backing_name)
		return 0;
	if (ed->q->h.version < 3)
		return zero_version_2(ed, t, guest, wish, e);
	if (zero_data_file(ed, guest, e))
		return -1;
	return set_zero(ed, t, guest, &x, can_keep(&x) && (wish == WISH_ZERO || ed->has_data_file), e);
}

/* Nothing of the range needs an entry. */
static int nothing_to_say(struct edit *ed, uint64_t guest, uint64_t len, enum wish wish, bool *nothing, struct error *e)
{
	struct extent x;

	*nothing = false;
	if (edit_extent(ed, guest, len, &x, e))
		return -1;
	*nothing = x.kind == EXTENT_ABSENT && !x.has_host && x.len >= len &&
		   (wish == WISH_FORGET || (!shows_backing(ed, guest) && !ed->q->backing_name));
	return 0;
}

/* Whole clusters within one L2 table. */
static int clusters_in_table(struct edit *ed, uint64_t guest, uint64_t end, enum wish wish, struct error *e)
{
	struct table *t;
	bool nothing;
	int r = 0;

	if (nothing_to_say(ed, guest, end - guest, wish, &nothing, e))
		return -1;
	if (nothing)
		return 0;
	if (map_table_for_write(ed, guest, &t, e))
		return -1;
	for (; r >= 0 && guest < end; guest += ed->g.cluster_size) {
		r = zero_cluster(ed, t, guest, wish, e);
		if (r > 0)
			r = zero_bytes(ed, guest, min_u64(ed->g.cluster_size, ed->q->size - guest), e);
	}
	table_put(t);
	return r < 0 ? -1 : 0;
}

static int whole_clusters(struct edit *ed, uint64_t guest, uint64_t end, enum wish wish, struct error *e)
{
	uint64_t span = geometry_l2_span(&ed->g);

	while (guest < end) {
		uint64_t stop = min_u64(end, align_down(guest, span) + span);

		if (clusters_in_table(ed, guest, stop, wish, e))
			return -1;
		guest = stop;
	}
	return 0;
}

/* Whole subclusters within one cluster. */
static int subclusters(struct edit *ed, uint64_t guest, uint64_t end, struct error *e)
{
	uint32_t first = (uint32_t)(geometry_in_cluster(&ed->g, guest) >> ed->g.subcluster_bits);
	uint32_t n = (uint32_t)((end - guest) >> ed->g.subcluster_bits);
	uint32_t mask = (uint32_t)(((1ull << n) - 1) << first);
	struct l2_entry x;
	struct table *t;
	uint64_t bitmap;
	int failed;

	if (map_table_for_write(ed, guest, &t, e))
		return -1;
	failed = map_entry(ed, t, guest, &x, e);
	if (!failed && x.type == CLUSTER_COMPRESSED) {
		table_put(t);
		/* the last subcluster may reach beyond the disk */
		return zero_bytes(ed, guest, min_u64(end, ed->q->size) - guest, e);
	}
	bitmap = (uint64_t)(x.zero | mask) << 32 | (x.alloc & ~mask);
	if (!failed)
		map_set(ed, t, guest, x.type == CLUSTER_NORMAL ? x.host | (x.copied ? ENTRY_COPIED : 0) : 0, bitmap);
	table_put(t);
	return failed;
}

/* Less than a cluster, within one. */
static int zero_part(struct edit *ed, uint64_t guest, uint64_t end, struct error *e)
{
	uint64_t size = 1ull << ed->g.subcluster_bits, first = align_up(guest, size), last = align_down(end, size);

	if (end == ed->q->size)
		last = align_up(end, size);
	if (ed->g.subclusters == 1 || first >= last || ed->has_data_file)
		return zero_bytes(ed, guest, end - guest, e);
	return zero_bytes(ed, guest, first - guest, e) || subclusters(ed, first, last, e) ||
			       (end > last && zero_bytes(ed, last, end - last, e))
		       ? -1
		       : 0;
}

/* The clusters wholly in the range; the last one of the disk is whole when the range reaches the disk's end. */
static void whole(const struct edit *ed, uint64_t guest, uint64_t end, uint64_t *first, uint64_t *last)
{
	*first = align_up(guest, ed->g.cluster_size);
	*last = end == ed->q->size ? align_up(end, ed->g.cluster_size) : geometry_cluster_start(&ed->g, end);
}

static int zero(struct edit *ed, uint64_t guest, uint64_t len, enum wish wish, struct error *e)
{
	uint64_t end = guest + len, first, last;

	whole(ed, guest, end, &first, &last);
	if (guest < first && zero_part(ed, guest, min_u64(first, end), e))
		return -1;
	if (first < last && whole_clusters(ed, first, last, wish, e))
		return -1;
	last = max_u64(first, last);
	return last < end ? zero_part(ed, last, end, e) : 0;
}

int edit_zero(struct edit *ed, uint64_t guest, uint64_t len, unsigned flags, struct error *e)
{
	int failed;

	if (edit_check_range(ed, guest, len, e) || !len || edit_begin_change(ed, e))
		return len ? -1 : 0;
	edit_bitmaps_mark(ed, guest, len);
	ed->say_zero = flags & EDIT_SAY_ZERO;
	failed = zero(ed, guest, len, flags & EDIT_MAY_UNMAP ? WISH_ZERO_UNMAP : WISH_ZERO, e);
	ed->say_zero = false;
	return failed;
}

int edit_discard(struct edit *ed, uint64_t guest, uint64_t len, struct error *e)
{
	uint64_t first, last;

	if (edit_check_range(ed, guest, len, e))
		return -1;
	whole(ed, guest, guest + len, &first, &last);
	if (first >= last)
		return 0;
	if (edit_begin_change(ed, e))
		return -1;
	edit_bitmaps_mark(ed, first, min_u64(last, ed->q->size) - first);
	return whole_clusters(ed, first, last, WISH_DISCARD, e);
}

int edit_forget_clusters(struct edit *ed, uint64_t guest, uint64_t end, struct error *e)
{
	return whole_clusters(ed, guest, end, WISH_FORGET, e);
}

int edit_forget(struct edit *ed, uint64_t guest, uint64_t len, struct error *e)
{
	uint64_t first, last;

	if (edit_check_range(ed, guest, len, e))
		return -1;
	whole(ed, guest, guest + len, &first, &last);
	if (first != guest || (last < guest + len))
		return err_set(e, ERR_USAGE, "%s: only whole clusters can be handed back to the backing file",
			ed->file->name);
	if (edit_begin_change(ed, e))
		return -1;
	edit_bitmaps_mark(ed, guest, len);
	return whole_clusters(ed, first, last, WISH_FORGET, e);
}
