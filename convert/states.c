/* SPDX-License-Identifier: Apache-2.0
 *
 * Internal snapshots of an image whose backing is about to show something else (FORMAT.md §8.4, §10): a snapshot's holes show what
 * lies below, so it would change without a write to it. Each is looked at before the first write of commit and rebase. If that is
 * wanted, it gets what would change as clusters of its own.
 */
#include "convert/internal.h"

enum { SECTOR = 512 };

/* A snapshot of one layer with the layers below it, up to `below`, as a chain of its own. */
struct state_view {
	struct qcow2 *q;
	struct chain chain, whole; /* whole: with the layers that change, as they are now */
	struct walk *walk;
};

static void view_close(struct state_view *v)
{
	walk_free(v->walk);
	qcow2_close(v->q);
	free(v->chain.layers);
	*v = (struct state_view){0};
}

static int view_open(struct state_view *v, const struct chain *c, unsigned layer, uint32_t snapshot, unsigned below,
	struct error *e)
{
	unsigned count = c->count - layer;

	*v = (struct state_view){.chain.count = below - layer};
	v->chain.layers = mem_calloc(count, sizeof *v->chain.layers, "layers", e);
	if (!v->chain.layers)
		return -1;
	memcpy(v->chain.layers, c->layers + layer, count * sizeof *v->chain.layers);
	if (qcow2_open(&v->q, c->layers[layer].file, 0, e) || qcow2_snapshot_select(v->q, snapshot, e))
		return -1;
	v->chain.layers[0].q = v->q;
	v->chain.layers[0].size = v->chain.size = v->q->size;
	v->whole = (struct chain){.layers = v->chain.layers, .count = count, .size = v->chain.size};
	return walk_new(&v->walk, &v->chain, v->chain.count, 0, e);
}

struct looking {
	struct state_view view;
	struct walk *written; /* only what this one has is written; NULL: everything may change */
	struct chain *written_chain;
	unsigned written_below;
	uint64_t end;
	uint64_t differs_at; /* NOWHERE: nothing does */
	/* what would change is given to it */
	struct edit *ed; /* NULL: it is not */
	uint32_t index;
	struct io *image; /* what it shows */
	uint8_t *cluster;
	uint64_t filled_to;
};
#define NOWHERE UINT64_MAX

static bool is_hole(const struct extent *x, unsigned below)
{
	return x->kind == EXTENT_ABSENT && x->depth + 1u >= below;
}

/* The part of [*start, *end) that is written: 1; 0: none, *end is where to go on. */
static int clip_to_written(struct looking *l, const uint64_t *start, uint64_t *end, struct error *e)
{
	struct extent x;

	if (!l->written)
		return 1;
	if (*start >= l->written_chain->size)
		return 0;
	if (walk_extent(l->written, *start, l->written_chain->size, &x, e))
		return -1;
	*end = min_u64(*end, x.start + x.len);
	return !is_hole(&x, l->written_below);
}

/* What the snapshot leaves to the layers that are about to change. */
static int next_range(void *ctx, uint64_t pos, uint64_t *start, uint64_t *end, struct error *e)
{
	struct looking *l = ctx;

	while (pos < l->end) {
		struct extent x;
		int found;

		if (walk_extent(l->view.walk, pos, l->end, &x, e))
			return -1;
		*start = pos;
		*end = x.start + x.len;
		found = is_hole(&x, l->view.chain.count) ? clip_to_written(l, start, end, e) : 0;
		if (found)
			return found;
		pos = *end;
	}
	return 0;
}

static int note_difference(void *ctx, uint64_t guest, uint64_t len, const uint8_t *bytes, struct error *e)
{
	struct looking *l = ctx;

	(void)len;
	(void)bytes;
	(void)e;
	l->differs_at = guest;
	return 1;
}

/* Whole clusters, so what they show is read again. */
static int fill(void *ctx, uint64_t guest, uint64_t len, const uint8_t *bytes, struct error *e)
{
	struct looking *l = ctx;
	const struct geometry *g = &l->view.q->g;
	uint64_t at = max_u64(l->filled_to, geometry_cluster_start(g, guest));

	(void)bytes;
	for (; at < guest + len; at += g->cluster_size) {
		size_t n = (size_t)min_u64(g->cluster_size, l->end - at);

		memset(l->cluster + n, 0, g->cluster_size - n);
		if (io_read(l->image, l->cluster, n, at, e) || edit_snapshot_fill(l->ed, l->index, at, l->cluster, e))
			return -1;
	}
	l->filled_to = at;
	return 0;
}

static int look(struct looking *l, const struct state_change *s, struct error *e)
{
	struct transfer t = {.compare = true,
		.exact = true,
		.unit = SECTOR,
		.total = max_u64(l->end, SECTOR),
		.range = next_range,
		.take = l->ed ? fill : note_difference,
		.ctx = l,
		.threads = s->threads,
		.progress = s->cancel};
	int failed = side_open(&t.from, s->now, s->now ? s->now->count : 0, 0, e) ||
		     side_open(&t.onto, s->to, s->to ? s->to->count : 0, 0, e) || transfer_run(&t, e);

	side_close(&t.from);
	side_close(&t.onto);
	return failed ? -1 : 0;
}

static int prepare_fill(struct looking *l, struct error *e)
{
	l->cluster = mem_alloc_pages(l->view.q->g.cluster_size, "cluster", e);
	return l->cluster ? chain_io(&l->image, &l->view.whole, e) : -1;
}

/* Whether snapshot `index` of the layer would change: *at, or NOWHERE. `ed`: what would is given to it. */
static int look_at_snapshot(const struct state_change *s, unsigned layer, uint32_t index, struct edit *ed, uint64_t *at,
	struct error *e)
{
	struct looking l = {.written_chain = s->written,
		.written_below = s->below,
		.differs_at = NOWHERE,
		.ed = ed,
		.index = index};
	int failed = view_open(&l.view, s->chain, layer, index, s->below, e) ||
		     (s->written && walk_new(&l.written, s->written, s->below, 0, e));

	if (!failed && ed)
		failed = prepare_fill(&l, e);
	if (!failed) {
		l.end = l.view.chain.size;
		failed = l.end ? look(&l, s, e) : 0;
	}
	io_close(l.image);
	free(l.cluster);
	walk_free(l.written);
	view_close(&l.view);
	*at = l.differs_at;
	return failed;
}

static int append(char **list, const struct qcow2_snapshot *n, const char *path, struct error *e)
{
	char *longer =
		mem_printf(e, "%s%s'%s' (id %s) of %s", *list ? *list : "", *list ? ", " : "", n->name, n->id, path);

	if (!longer)
		return -1;
	free(*list);
	*list = longer;
	return 0;
}

int states_refuse_change(const struct state_change *s, struct error *e)
{
	AUTO_FREE char *list = NULL;

	for (unsigned i = s->first; i < s->below; i++) {
		const struct layer *layer = &s->chain->layers[i];

		for (uint32_t k = 0; layer->q && k < layer->q->snapshot_count; k++) {
			uint64_t at;

			if (look_at_snapshot(s, i, k, NULL, &at, e))
				return -1;
			if (at != NOWHERE && append(&list, &layer->q->snapshots[k], layer->path, e))
				return -1;
		}
	}
	if (!list)
		return 0;
	return err_set(e, ERR_UNSUPPORTED,
		"it would change what these internal snapshots show: %s; nothing was changed", list);
}

static int flatten(const struct state_change *s, struct edit *ed, struct error *e)
{
	uint64_t at;

	/* What one got, those that share its tables have. */
	for (uint32_t k = 0; k < s->chain->layers[0].q->snapshot_count; k++)
		if (look_at_snapshot(s, 0, k, ed, &at, e) || edit_flush(ed, e))
			return -1;
	return 0;
}

int states_flatten(const struct state_change *s, struct error *e)
{
	struct state_change others = *s;
	struct edited top;
	struct error unsaid;
	int failed;

	others.first = 1;
	if (states_refuse_change(&others, e))
		return -1;
	if (!s->chain->layers[0].q || !s->chain->layers[0].q->snapshot_count)
		return 0;
	if (edited_open(&top, s->chain, 0, NULL, e))
		return -1;
	failed = flatten(s, top.ed, e);
	return edited_close(&top, failed ? &unsaid : e) || failed ? -1 : 0;
}
