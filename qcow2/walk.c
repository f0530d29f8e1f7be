/* SPDX-License-Identifier: Apache-2.0
 *
 * The chain as one list of extents (FORMAT.md §5.6, §10.4). Each layer's cursor keeps its current run; a tree over
 * the layers tells in a few steps which is the topmost that says something at an offset, and how far that is so: a
 * boundary costs the logarithm of the depth, not the depth. A layer is only asked when all above it leave it the
 * word.
 */
#include "qcow2/internal.h"

enum {
	MAX_WINDOW = 128 << 10,
	MIN_WINDOW = 4 << 10,
	WINDOW_BUDGET = 4 << 20, /* for all layers together */
};

/* A leaf is a layer, an inner node the summary of two. */
struct node {
	uint64_t end; /* the earliest end of the runs below; what is before it holds */
	bool solid;   /* some run here is not unallocated */
};

struct walk {
	struct chain *chain;
	struct layer_walk **layers;
	struct run *runs;
	struct node *tree; /* [1] is the root, [leaves + i] layer i */
	unsigned count, leaves;
	struct extent current; /* the one given last, whole: runs are kept for going on from its end; len 0: none */
	struct extent ahead;   /* found while looking for the end of `current`; len 0: none */
};

static void set_leaf(struct walk *w, unsigned layer, uint64_t end, bool solid)
{
	unsigned i = w->leaves + layer;

	w->tree[i] = (struct node){end, solid};
	while (i /= 2) {
		const struct node *a = &w->tree[2 * i], *b = &w->tree[2 * i + 1];

		w->tree[i] = (struct node){min_u64(a->end, b->end), a->solid || b->solid};
	}
}

/* All runs are to be asked for again. */
static void forget(struct walk *w)
{
	for (unsigned i = 0; i < w->count; i++)
		set_leaf(w, i, 0, false);
	w->current.len = w->ahead.len = 0;
}

static bool speaks(const struct node *n, uint64_t guest)
{
	return n->solid || n->end <= guest;
}

/* The topmost layer that is not known to be unallocated at `guest`, or w->count. *until: the layers above it stay
 * so. */
static unsigned topmost(const struct walk *w, uint64_t guest, uint64_t *until)
{
	unsigned i = 1;

	*until = UINT64_MAX;
	if (!speaks(&w->tree[1], guest)) {
		*until = w->tree[1].end;
		return w->count;
	}
	while (i < w->leaves) {
		i *= 2;
		if (!speaks(&w->tree[i], guest)) {
			*until = min_u64(*until, w->tree[i].end);
			i++;
		}
	}
	return i - w->leaves;
}

/* A hole in all layers that has one at `depth` as its last; a part of an allocated cluster is told with its place
 * (FORMAT.md §5.5). */
static void absent(const struct walk *w, unsigned depth, uint64_t guest, struct extent *out)
{
	const struct run *r = &w->runs[depth];

	*out = (struct extent){.start = guest, .kind = EXTENT_ABSENT, .depth = (uint16_t)depth};
	if (r->kind == RUN_UNALLOCATED && r->has_host && guest >= r->start && guest < r->end) {
		out->has_host = true;
		out->host = r->host + (guest - r->start);
		out->file = w->chain->layers[depth].data;
	}
}

static void extent_of_run(const struct walk *w, unsigned depth, uint64_t guest, struct extent *out)
{
	const struct run *r = &w->runs[depth];
	const struct layer *l = &w->chain->layers[depth];

	*out = (struct extent){.start = guest, .depth = (uint16_t)depth};
	out->cluster_bits = l->q ? (uint8_t)l->q->g.cluster_bits : 0;
	if (r->kind == RUN_END) { /* zeros that the layer above shows where this one is too short */
		absent(w, depth ? depth - 1 : 0, guest, out);
		return;
	}
	out->has_host = r->has_host;
	out->host = r->has_host ? r->host + (guest - r->start) : 0;
	out->file = r->has_host ? l->data : NULL;
	out->hole = r->hole;
	if (r->kind == RUN_ZERO) {
		out->kind = EXTENT_ZERO;
	} else if (r->kind == RUN_DATA) {
		out->kind = EXTENT_DATA;
	} else {
		out->kind = EXTENT_COMPRESSED;
		out->file = l->file;
		out->host = r->host;
		out->csize = r->csize;
		out->codec = l->q->h.compression_type;
		out->skip = (uint32_t)geometry_in_cluster(&l->q->g, guest);
	}
}

/* The extent at `guest` up to where any layer has something else to say, or `end`. */
static int find_extent(struct walk *w, uint64_t guest, uint64_t end, struct extent *out, struct error *e)
{
	for (;;) {
		uint64_t until;
		unsigned layer = topmost(w, guest, &until);

		absent(w, w->count - 1, guest, out);
		if (layer < w->count && w->runs[layer].end > guest && w->tree[w->leaves + layer].end > guest) {
			extent_of_run(w, layer, guest, out);
			until = min_u64(until, w->runs[layer].end);
		} else if (layer < w->count) {
			struct run *r = &w->runs[layer];

			if (layer_walk_run(w->layers[layer], guest, end, r, e))
				return -1;
			set_leaf(w, layer, r->end, r->kind != RUN_UNALLOCATED);
			continue;
		}
		out->len = min_u64(until, end) - guest;
		return 0;
	}
}

static bool continues(const struct extent *a, const struct extent *b)
{
	return a->kind == b->kind && a->kind != EXTENT_COMPRESSED && a->depth == b->depth &&
	       a->has_host == b->has_host && a->hole == b->hole && a->file == b->file &&
	       a->cluster_bits == b->cluster_bits && (!a->has_host || a->host + a->len == b->host);
}

/* The part of the extent from `guest` on. */
static struct extent tail_of(struct extent x, uint64_t guest)
{
	uint64_t cut = guest - x.start;

	if (x.kind == EXTENT_COMPRESSED)
		x.skip += (uint32_t)cut;
	else if (x.has_host || x.kind == EXTENT_DATA)
		x.host += cut;
	x.start += cut;
	x.len -= cut;
	return x;
}

/* What is known of `start` without asking a layer; else 0 and the runs fit for being asked there. */
static bool find_known(struct walk *w, uint64_t start, struct extent *out)
{
	const struct extent *c = &w->current;

	if (c->len && start >= c->start && start < c->start + c->len) {
		*out = tail_of(*c, start);
		return true;
	}
	if (w->ahead.len && start == w->ahead.start) {
		*out = w->ahead;
		w->ahead.len = 0;
		return true;
	}
	if (c->len && start < c->start + c->len + w->ahead.len)
		forget(w); /* runs may have gone beyond */
	w->ahead.len = 0;
	return false;
}

int walk_extent(struct walk *w, uint64_t start, uint64_t end, struct extent *out, struct error *e)
{
	if (start >= end || end > w->chain->size)
		return err_set(e, ERR_USAGE, "walk: the range 0x%llx..0x%llx is not within the disk",
			(unsigned long long)start, (unsigned long long)end);
	if (!find_known(w, start, out) && find_extent(w, start, end, out, e))
		return -1;
	while (out->kind != EXTENT_COMPRESSED && out->start + out->len < end && !w->ahead.len) {
		struct extent next;
		struct error later; /* whoever asks for what follows is told */

		if (find_extent(w, out->start + out->len, end, &next, &later))
			break;
		if (continues(out, &next))
			out->len += next.len;
		else
			w->ahead = next;
	}
	w->current = *out;
	out->len = min_u64(out->len, end - start);
	return 0;
}

static int walk_init(struct walk *w, unsigned flags, struct error *e)
{
	size_t window = (size_t)max_u64(MIN_WINDOW, min_u64(MAX_WINDOW, WINDOW_BUDGET / w->count));

	for (w->leaves = 1; w->leaves < w->count; w->leaves *= 2) {
	}
	w->layers = mem_calloc(w->count, sizeof *w->layers, "layer cursors", e);
	w->runs = w->layers ? mem_calloc(w->count, sizeof *w->runs, "layer cursors", e) : NULL;
	w->tree = w->runs ? mem_calloc(2 * w->leaves, sizeof *w->tree, "layer cursors", e) : NULL;
	if (!w->tree)
		return -1;
	for (unsigned i = 1; i < 2 * w->leaves; i++)
		w->tree[i] = (struct node){UINT64_MAX, false};
	for (unsigned i = 0; i < w->count; i++)
		if (layer_walk_new(&w->layers[i], &w->chain->layers[i], align_down(window, 16), flags & WALK_FILE_HOLES,
			    e))
			return -1;
	forget(w);
	return 0;
}

int walk_new(struct walk **out, struct chain *c, unsigned below, unsigned flags, struct error *e)
{
	struct walk *w = mem_calloc(1, sizeof *w, "walk", e);

	if (!w)
		return -1;
	w->chain = c;
	w->count = below < c->count ? below : c->count;
	if (!w->count || walk_init(w, flags, e)) {
		if (!w->count)
			err_set(e, ERR_USAGE, "walk: no layer to walk");
		walk_free(w);
		return -1;
	}
	*out = w;
	return 0;
}

void walk_free(struct walk *w)
{
	if (!w)
		return;
	for (unsigned i = 0; w->layers && i < w->count; i++)
		layer_walk_free(w->layers[i]);
	free(w->layers);
	free(w->runs);
	free(w->tree);
	free(w);
}
