/* SPDX-License-Identifier: Apache-2.0
 *
 * What differs between two states of one image, from its tables alone (FORMAT.md §5, §8): a host cluster that both
 * states map at the same place holds the same bytes for both, and so does all that one L2 table maps. What neither
 * has is left to the backing file, which is the same one for both. No guest data is read.
 */
#include "qcow2/internal.h"

enum { L1_WINDOW = 4096, L2_WINDOW = 64 << 10, NO_TABLE_BYTES = 4096, BLOCK = 128 };

/* What an L1 entry of 0 leads to. */
static const uint8_t no_table[NO_TABLE_BYTES];

struct side {
	const struct qcow2_state *state;
	struct table_window l1, l2;
};

struct diff {
	const struct layer *l;
	struct side from, to;
	struct chain below; /* the backing chain; count 0: none */
	struct walk *backing;
	uint64_t common; /* both states reach as far as here */
	bool has_data_file;
	uint64_t same_start, same_end; /* found while looking for the end of a difference */
	uint64_t mask;                 /* of a standard entry as it is stored: what of it matters */
};

/* What both states have at `guest`, from the entries of one cluster, or of none, as far as memory holds them. */
struct place {
	uint64_t guest, span_end; /* span_end: where the next L2 tables begin */
	const uint8_t *from, *to; /* entries of the cluster that holds `guest` */
	size_t n;                 /* how many in both */
	uint64_t from_l2, to_l2;  /* 0: no table */
};

/* What one state says of a subcluster. */
struct unit {
	enum run_kind kind;
	uint64_t host;
	uint32_t csize;
};

/* ---- tables ---- */

static int l2_host(const struct diff *d, struct side *s, uint64_t guest, uint64_t *host, struct error *e)
{
	const struct qcow2 *q = d->l->q;
	uint64_t index = geometry_l1_index(&q->g, guest), l1 = s->state->l1_offset;
	const uint8_t *p;
	size_t bytes;

	*host = 0;
	if (index >= s->state->l1_entries)
		return 0;
	if (table_window_at(&s->l1, q->file, l1 + index * 8, l1 + s->state->l1_entries * UINT64_C(8), 8, "L1 table", &p,
		    &bytes, e))
		return -1;
	if (l1_entry_decode(&q->g, get_be64(p), host, e))
		return err_prefix(e, "L1 entry %llu (guest offset 0x%llx)", (unsigned long long)index,
			(unsigned long long)guest);
	return 0;
}

static int l2_entries(const struct diff *d, struct side *s, uint64_t table, uint64_t guest, const uint8_t **p,
	size_t *n, struct error *e)
{
	const struct geometry *g = &d->l->q->g;
	size_t bytes;

	if (!table) {
		*p = no_table;
		*n = NO_TABLE_BYTES / g->l2_entry_bytes;
		return 0;
	}
	if (table_window_at(&s->l2, d->l->file, table + (uint64_t)geometry_l2_index(g, guest) * g->l2_entry_bytes,
		    table + g->cluster_size, g->l2_entry_bytes, "L2 table", p, &bytes, e))
		return err_prefix(e, "guest offset 0x%llx", (unsigned long long)guest);
	*n = bytes / g->l2_entry_bytes;
	return 0;
}

static int find_place(struct diff *d, uint64_t guest, struct place *out, struct error *e)
{
	const struct geometry *g = &d->l->q->g;
	uint64_t span = geometry_l2_span(g);
	size_t n;

	out->guest = guest;
	out->span_end = (guest & ~(span - 1)) + span;
	if (l2_host(d, &d->from, guest, &out->from_l2, e) || l2_host(d, &d->to, guest, &out->to_l2, e))
		return -1;
	if (guest >= d->common) /* only `to` reaches here */
		out->from_l2 = 0;
	else if (out->from_l2 == out->to_l2)
		return 0;
	if (l2_entries(d, &d->from, out->from_l2, guest, &out->from, &out->n, e) ||
		l2_entries(d, &d->to, out->to_l2, guest, &out->to, &n, e))
		return -1;
	out->n = min_u64(out->n, n);
	return 0;
}

/* Two words of a table: as wide as every processor has it. */
typedef uint64_t pair __attribute__((vector_size(16)));

static pair pair_at(const uint8_t *p)
{
	pair v;

	memcpy(&v, p, sizeof v);
	return v;
}

static uint64_t word_at(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

/* How many of the `n` pairs of entries are the same from the first on. Blocks first: nearly all are, in most images. */
static size_t count_equal(const struct diff *d, const uint8_t *a, const uint8_t *b, size_t n)
{
	size_t entry = d->l->q->g.l2_entry_bytes, bytes = n * entry, at = 0;
	const pair mask = {d->mask, entry == sizeof(pair) ? UINT64_MAX : d->mask};

	for (; at + BLOCK <= bytes; at += BLOCK) {
		pair differs = {0};

#pragma GCC unroll 8
		for (size_t i = 0; i < BLOCK; i += sizeof(pair))
			differs |= (pair_at(a + at + i) ^ pair_at(b + at + i)) & mask;
		if (differs[0] | differs[1])
			break;
	}
	for (; at < bytes; at += entry)
		if (((word_at(a + at) ^ word_at(b + at)) & mask[0]) ||
			(entry == sizeof(pair) && word_at(a + at + 8) != word_at(b + at + 8)))
			break;
	return at / entry;
}

/* ---- entries ---- */

static int decode(const struct diff *d, const uint8_t *p, struct l2_entry *out, struct error *e)
{
	const struct qcow2 *q = d->l->q;

	return l2_entry_decode(&q->g, q->h.version, d->has_data_file, get_be64(p),
		q->g.subclusters > 1 ? get_be64(p + 8) : 0, out, e);
}

static struct unit unit_of(const struct l2_entry *x, unsigned subcluster)
{
	if (x->type == CLUSTER_COMPRESSED)
		return (struct unit){RUN_COMPRESSED, x->host, x->csize};
	if (x->zero >> subcluster & 1)
		return (struct unit){.kind = RUN_ZERO};
	if (x->alloc >> subcluster & 1)
		return (struct unit){.kind = RUN_DATA, .host = x->host};
	return (struct unit){.kind = RUN_UNALLOCATED};
}

static bool same_unit(const struct unit *a, const struct unit *b)
{
	return a->kind == b->kind && a->host == b->host && a->csize == b->csize;
}

/* Whether the backing chain shows data at `guest`, and how far that is so, *end at most. */
static int backing_has_data(struct diff *d, uint64_t guest, uint64_t *end, bool *data, struct error *e)
{
	struct extent x;

	*data = false;
	if (guest >= d->below.size)
		return 0;
	*end = min_u64(*end, d->below.size);
	if (walk_extent(d->backing, guest, *end, &x, e))
		return -1;
	*end = x.start + x.len;
	*data = x.kind == EXTENT_DATA || x.kind == EXTENT_COMPRESSED;
	return 0;
}

/* What `to` shows in [out->start, out->end), which may become shorter. *same: and `from` shows the same there. */
static int judge(struct diff *d, const struct unit *from, const struct unit *to, struct diff_extent *out, bool *same,
	struct error *e)
{
	bool from_none = from->kind == RUN_UNALLOCATED || from->kind == RUN_ZERO;
	bool to_none = to->kind == RUN_UNALLOCATED || to->kind == RUN_ZERO;
	bool data = false;

	*same = !out->added && same_unit(from, to);
	out->kind = to_none ? DIFF_ZERO : DIFF_DATA;
	if (*same || !to_none)
		return 0;
	if (to->kind == RUN_UNALLOCATED || (from_none && !out->added)) {
		if (backing_has_data(d, out->start, &out->end, &data, e))
			return -1;
		if (to->kind == RUN_UNALLOCATED && data)
			out->kind = DIFF_BACKING;
	}
	*same = !out->added && from_none && !data;
	return 0;
}

/* The part of one cluster that begins at p->guest and is of one kind. */
static int judge_cluster(struct diff *d, const struct place *p, struct diff_extent *out, bool *same, struct error *e)
{
	const struct geometry *g = &d->l->q->g;
	uint64_t cluster = geometry_cluster_start(g, p->guest);
	unsigned i = (unsigned)((p->guest - cluster) >> g->subcluster_bits), end = i + 1;
	struct l2_entry from, to;
	struct unit a, b, next;

	if (decode(d, p->from, &from, e) || decode(d, p->to, &to, e))
		return err_prefix(e, "L2 entry of guest offset 0x%llx", (unsigned long long)p->guest);
	a = unit_of(&from, i);
	b = unit_of(&to, i);
	for (; end < g->subclusters; end++) {
		next = unit_of(&from, end);
		if (!same_unit(&a, &next))
			break;
		next = unit_of(&to, end);
		if (!same_unit(&b, &next))
			break;
	}
	out->end = min_u64(out->end, cluster + ((uint64_t)end << g->subcluster_bits));
	return judge(d, &a, &b, out, same, e);
}

/* ---- the cursor ---- */

/* What the tables say at out->start, out->end at most: where both have the same, as far as is known at once. */
static int look(struct diff *d, struct diff_extent *out, bool *same, struct error *e)
{
	const struct geometry *g = &d->l->q->g;
	static const struct unit none = {.kind = RUN_UNALLOCATED};
	uint64_t cluster = geometry_cluster_start(g, out->start);
	struct place p;
	size_t equal;

	*same = true;
	if (find_place(d, out->start, &p, e))
		return -1;
	if (p.from_l2 == p.to_l2) { /* one table, or none */
		out->end = min_u64(out->end, p.span_end);
		return out->added ? judge(d, &none, &none, out, same, e) : 0;
	}
	equal = out->added ? 0 : count_equal(d, p.from, p.to, p.n);
	if (!equal)
		return judge_cluster(d, &p, out, same, e);
	out->end = min_u64(out->end, min_u64(p.span_end, cluster + ((uint64_t)equal << g->cluster_bits)));
	return 0;
}

/* The piece at out->start, of one kind. */
static int piece(struct diff *d, uint64_t limit, struct diff_extent *out, bool *same, struct error *e)
{
	out->added = out->start >= d->common;
	out->end = out->added ? limit : min_u64(limit, d->common);
	if (out->start < d->to.state->size) {
		out->end = min_u64(out->end, d->to.state->size);
		return look(d, out, same, e);
	}
	out->kind = DIFF_GONE;
	out->added = *same = false;
	return 0;
}

int diff_next(struct diff *d, uint64_t start, uint64_t limit, struct diff_extent *out, struct error *e)
{
	struct diff_extent next = {.start = start};
	struct error later; /* what is good comes out, what follows fails when it is asked for */
	bool same = true;

	limit = min_u64(limit, max_u64(d->from.state->size, d->to.state->size));
	if (start >= d->same_start && start < d->same_end)
		next.start = d->same_end;
	for (; same && next.start < limit; next.start = next.end) {
		if (piece(d, limit, &next, &same, e))
			return err_prefix(e, "%s", d->l->path);
		*out = next;
	}
	if (same)
		return 0;
	while (next.start < limit && piece(d, limit, &next, &same, &later) == 0) {
		if (same) {
			d->same_start = next.start;
			d->same_end = next.end;
		}
		if (same || next.kind != out->kind || next.added != out->added)
			break;
		next.start = out->end = next.end;
	}
	return 1;
}

static int side_init(struct side *s, const struct qcow2_state *state, struct error *e)
{
	s->state = state;
	return table_window_init(&s->l1, L1_WINDOW, e) || table_window_init(&s->l2, L2_WINDOW, e) ? -1 : 0;
}

int diff_new(struct diff **out, const struct chain *c, const struct qcow2_state *from, const struct qcow2_state *to,
	struct error *e)
{
	const struct layer *l = &c->layers[0];
	struct diff *d;

	if (!l->q)
		return err_set(e, ERR_UNSUPPORTED, "%s: a raw image has one state only", l->path);
	d = mem_calloc(1, sizeof *d, "comparison of states", e);
	if (!d)
		return -1;
	d->l = l;
	d->common = min_u64(from->size, to->size);
	d->has_data_file = l->q->h.incompatible & INCOMPAT_DATA_FILE;
	put_be64(&d->mask, d->has_data_file ? UINT64_MAX : ~ENTRY_COPIED);
	d->below = (struct chain){.layers = c->layers + 1, .count = c->count - 1};
	if (d->below.count)
		d->below.size = d->below.layers[0].size;
	if (side_init(&d->from, from, e) || side_init(&d->to, to, e) ||
		(d->below.count && walk_new(&d->backing, &d->below, d->below.count, 0, e))) {
		diff_free(d);
		return -1;
	}
	*out = d;
	return 0;
}

void diff_free(struct diff *d)
{
	if (!d)
		return;
	walk_free(d->backing);
	free(d->from.l1.buf);
	free(d->from.l2.buf);
	free(d->to.l1.buf);
	free(d->to.l2.buf);
	free(d);
}
