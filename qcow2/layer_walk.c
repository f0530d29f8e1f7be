/* SPDX-License-Identifier: Apache-2.0
 *
 * What one layer says of its guest ranges, as runs (FORMAT.md §5.6): one sweep over L1 and L2 when asked in
 * ascending order, through windows of the tables. Entries that continue a run are only compared, never decoded.
 */
#include "qcow2/internal.h"

struct layer_walk {
	const struct layer *l;
	struct table_window l1, l2;
	bool ask_holes; /* still to be found out whether it is worth it */
	bool holes;     /* it is */
	bool has_data_file;
	uint64_t copied_mask; /* what of an entry does not matter when it is compared */
	struct run mapped;    /* by the tables */
	struct run run;       /* the same, or a part of it between two holes of the file */
};

enum { L1_WINDOW = 4096 };

/* The L2 table for `guest`. 0 = there is none up to *span_end. */
static int l2_table(struct layer_walk *w, uint64_t guest, uint64_t limit, uint64_t *l2_host, uint64_t *span_end,
	struct error *e)
{
	const struct qcow2 *q = w->l->q;
	uint64_t span = geometry_l2_span(&q->g), index = geometry_l1_index(&q->g, guest);
	uint64_t stop = q->l1_offset + q->l1_entries * UINT64_C(8);
	const uint8_t *p;
	size_t bytes, i = 0;

	*l2_host = 0;
	*span_end = limit;
	if (index >= q->l1_entries)
		return 0;
	if (table_window_at(&w->l1, q->file, q->l1_offset + index * 8, stop, 8, "L1 table", &p, &bytes, e))
		return -1;
	*span_end = (guest & ~(span - 1)) + span;
	if (l1_entry_decode(&q->g, get_be64(p), l2_host, e))
		return err_prefix(e, "L1 entry %llu (guest offset 0x%llx)", (unsigned long long)index,
			(unsigned long long)guest);
	if (*l2_host)
		return 0;
	while (++i < bytes / 8 && *span_end < limit && (get_be64(p + 8 * i) & ENTRY_OFFSET_MASK) == 0)
		*span_end += span;
	return 0;
}

/* How many of the `n` entries at `p` continue what the first one began: each is the one before plus `step`. */
static size_t count_same(const uint8_t *p, size_t n, uint64_t mask, uint64_t step)
{
	uint64_t expected = (get_be64(p) & mask) + step;
	size_t i = 1;

	while (i < n && (get_be64(p + 8 * i) & mask) == expected) {
		expected += step;
		i++;
	}
	return i;
}

static size_t count_same_extended(const uint8_t *p, size_t n, uint64_t mask, uint64_t step)
{
	uint64_t expected = (get_be64(p) & mask) + step, bitmap = get_be64(p + 8);
	size_t i = 1;

	while (i < n && (get_be64(p + 16 * i) & mask) == expected && get_be64(p + 16 * i + 8) == bitmap) {
		expected += step;
		i++;
	}
	return i;
}

static int check_data_file_host(const struct layer_walk *w, const struct l2_entry *x, uint64_t cluster, struct error *e)
{
	bool has_host = x->type == CLUSTER_NORMAL || x->type == CLUSTER_ZERO_ALLOC;

	if (!w->has_data_file || !has_host || x->host == cluster)
		return 0;
	return err_set(e, ERR_CORRUPT, "external data file: host offset 0x%llx is not the guest offset 0x%llx",
		(unsigned long long)x->host, (unsigned long long)cluster);
}

static enum run_kind subcluster_kind(const struct l2_entry *x, unsigned i)
{
	if (x->zero >> i & 1)
		return RUN_ZERO;
	return x->alloc >> i & 1 ? RUN_DATA : RUN_UNALLOCATED;
}

/* The part of one extended entry that begins at `guest` and is of one kind. True when that is the whole cluster. */
static bool subcluster_run(const struct geometry *g, const struct l2_entry *x, uint64_t guest, struct run *out)
{
	uint64_t cluster = geometry_cluster_start(g, guest);
	unsigned first = (unsigned)((guest - cluster) >> g->subcluster_bits), end = first + 1;

	out->kind = subcluster_kind(x, first);
	while (end < g->subclusters && subcluster_kind(x, end) == out->kind)
		end++;
	out->end = cluster + ((uint64_t)end << g->subcluster_bits);
	out->has_host = x->type == CLUSTER_NORMAL;
	while (first > 0 && subcluster_kind(x, first - 1) == out->kind)
		first--;
	return first == 0 && end == g->subclusters;
}

static enum run_kind cluster_kind(enum cluster_type type)
{
	switch (type) {
	case CLUSTER_ZERO_PLAIN:
	case CLUSTER_ZERO_ALLOC:
		return RUN_ZERO;
	case CLUSTER_NORMAL:
		return RUN_DATA;
	case CLUSTER_COMPRESSED:
		return RUN_COMPRESSED;
	default:
		return RUN_UNALLOCATED;
	}
}

/* The run at `guest` as far as the entries at `p` (in memory, `n` of them) tell. */
static int entries_run(struct layer_walk *w, const uint8_t *p, size_t n, uint64_t guest, struct run *out,
	struct error *e)
{
	const struct qcow2 *q = w->l->q;
	const struct geometry *g = &q->g;
	uint64_t cluster = geometry_cluster_start(g, guest), step;
	bool extended = g->subclusters > 1, uniform = true;
	struct l2_entry x;

	if (l2_entry_decode(g, q->h.version, w->has_data_file, get_be64(p), extended ? get_be64(p + 8) : 0, &x, e) ||
		check_data_file_host(w, &x, cluster, e))
		return -1;
	*out = (struct run){.start = guest,
		.end = cluster + g->cluster_size,
		.kind = cluster_kind(x.type),
		.host = x.host,
		.csize = x.csize};
	if (x.type == CLUSTER_COMPRESSED) {
		out->has_host = true;
		return 0;
	}
	out->has_host = x.type == CLUSTER_NORMAL || x.type == CLUSTER_ZERO_ALLOC;
	out->host += guest - cluster;
	if (extended)
		uniform = subcluster_run(g, &x, guest, out);
	if (!uniform)
		return 0;
	step = out->has_host ? g->cluster_size : 0;
	/* Beyond the highest offset an entry's reserved bits would pass for a continuation. */
	if (step)
		n = (size_t)min_u64(n, ((ENTRY_OFFSET_MASK - x.host) >> g->cluster_bits) + 1);
	n = extended ? count_same_extended(p, n, w->copied_mask, step) : count_same(p, n, w->copied_mask, step);
	out->end = cluster + ((uint64_t)n << g->cluster_bits);
	return 0;
}

/* The run at `guest` as far as one window of one table tells. */
static int window_run(struct layer_walk *w, uint64_t guest, uint64_t limit, struct run *out, struct error *e)
{
	const struct qcow2 *q = w->l->q;
	uint32_t entry = q->g.l2_entry_bytes, index = geometry_l2_index(&q->g, guest);
	uint64_t l2_host, span_end, at;
	const uint8_t *p;
	size_t bytes, wanted;

	if (l2_table(w, guest, limit, &l2_host, &span_end, e))
		return -1;
	if (!l2_host) {
		*out = (struct run){.start = guest, .end = span_end, .kind = RUN_UNALLOCATED};
		return 0;
	}
	at = l2_host + (uint64_t)index * entry;
	if (table_window_at(&w->l2, q->file, at, l2_host + q->g.cluster_size, entry, "L2 table", &p, &bytes, e))
		return err_prefix(e, "guest offset 0x%llx", (unsigned long long)guest);
	wanted = (size_t)(((limit - 1) >> q->g.cluster_bits) - (guest >> q->g.cluster_bits) + 1);
	if (entries_run(w, p, (size_t)min_u64(bytes / entry, wanted), guest, out, e))
		return err_prefix(e, "L2 table at 0x%llx, entry %u (guest offset 0x%llx)", (unsigned long long)l2_host,
			index, (unsigned long long)guest);
	return 0;
}

static bool follows(const struct run *a, const struct run *b)
{
	return a->kind == b->kind && a->kind != RUN_COMPRESSED && a->has_host == b->has_host &&
	       (!a->has_host || a->host + (b->start - a->start) == b->host);
}

/* Bytes that were written cannot be past the data file's end: it was cut, and zeros would hide that (FORMAT.md §11). */
static int check_data_file_end(const struct layer_walk *w, const struct run *r, struct error *e)
{
	if (!w->has_data_file || r->kind != RUN_DATA ||
		geometry_cluster_start(&w->l->q->g, r->end - 1) < w->l->data->size)
		return 0;
	return err_set(e, ERR_CORRUPT, "%s: external data file '%s' has %llu bytes, but there is data up to 0x%llx",
		w->l->path, w->l->data->name, (unsigned long long)w->l->data->size, (unsigned long long)r->end);
}

static int qcow2_run(struct layer_walk *w, uint64_t guest, uint64_t limit, struct run *out, struct error *e)
{
	struct run next;
	struct error later; /* what is good comes out, what follows fails when it is asked for */

	if (window_run(w, guest, limit, out, e))
		return err_prefix(e, "%s", w->l->path);
	while (out->end < limit && window_run(w, out->end, limit, &next, &later) == 0 && follows(out, &next))
		out->end = next.end;
	out->end = min_u64(out->end, limit);
	return check_data_file_end(w, out, e);
}

/* Holes of a file; past its end (a size that is no whole sector) there is nothing but zeros. */
static int file_run(struct io *file, uint64_t host, uint64_t guest, uint64_t limit, struct run *out, struct error *e)
{
	struct extent x;

	if (io_extent(file, host, limit - guest, &x, e))
		return -1;
	*out = (struct run){.start = guest,
		.end = guest + x.len,
		.kind = x.kind == EXTENT_DATA ? RUN_DATA : RUN_ZERO,
		.has_host = true,
		.host = host};
	return 0;
}

/* Asks once whether the image's clusters may lie over holes of its file. */
static bool has_holes(struct layer_walk *w)
{
	if (w->ask_holes) {
		w->ask_holes = false;
		w->holes = qcow2_looks_preallocated(w->l);
	}
	return w->holes;
}

static int next_run(struct layer_walk *w, uint64_t guest, uint64_t limit, struct error *e)
{
	struct run *m = &w->mapped;

	if (!w->l->q)
		return file_run(w->l->file, guest, guest, limit, &w->run, e);
	if ((guest < m->start || guest >= m->end) && qcow2_run(w, guest, limit, m, e)) {
		m->end = m->start; /* nothing is known */
		return -1;
	}
	w->run = *m;
	if (m->kind == RUN_DATA && has_holes(w)) {
		if (file_run(w->l->data, m->host + (guest - m->start), guest, m->end, &w->run, e))
			return -1;
		w->run.hole = w->run.kind == RUN_ZERO;
	}
	return 0;
}

int layer_walk_run(struct layer_walk *w, uint64_t guest, uint64_t limit, struct run *out, struct error *e)
{
	uint64_t size = w->l->size;

	if (guest >= size) {
		*out = (struct run){.start = size, .end = UINT64_MAX, .kind = RUN_END};
		return 0;
	}
	if (guest < w->run.start || guest >= w->run.end) {
		if (next_run(w, guest, min_u64(limit, size), e)) {
			w->run = (struct run){0};
			return -1;
		}
	}
	*out = w->run;
	return 0;
}

int layer_walk_new(struct layer_walk **out, const struct layer *l, size_t window, bool ask_holes, struct error *e)
{
	struct layer_walk *w;

	if (l->q && (l->q->h.incompatible & INCOMPAT_DATA_FILE) && l->data == l->file)
		return err_set(e, ERR_USAGE, "%s: its external data file was not opened", l->path);
	w = mem_calloc(1, sizeof *w, "layer cursor", e);
	if (!w)
		return -1;
	w->l = l;
	w->ask_holes = ask_holes;
	if (l->q) {
		w->has_data_file = l->q->h.incompatible & INCOMPAT_DATA_FILE;
		w->copied_mask = w->has_data_file ? UINT64_MAX : ~ENTRY_COPIED;
		if (table_window_init(&w->l1, L1_WINDOW, e) || table_window_init(&w->l2, window, e)) {
			layer_walk_free(w);
			return -1;
		}
	}
	*out = w;
	return 0;
}

void layer_walk_free(struct layer_walk *w)
{
	if (!w)
		return;
	free(w->l1.buf);
	free(w->l2.buf);
	free(w);
}
