/* SPDX-License-Identifier: Apache-2.0
 *
 * Free clusters of an edited image, found by their refcounts from a cursor upwards (FORMAT.md §7.4). A cluster that was given
 * up is found again only after the commit that let it go (§12.4).
 */
#include "qcow2/edit_internal.h"

/* Clusters in a row, as they are looked for. */
struct search {
	uint64_t at, want;
	bool all;          /* fewer than `want` are of no use */
	uint64_t first, n; /* the run so far */
	uint64_t lowest;   /* the first free cluster that was met; UINT64_MAX: none */
};

/* True when the search is over. */
static bool see(struct search *s, bool free, uint64_t clusters)
{
	if (!free) {
		if (s->n && !s->all)
			return true;
		s->n = 0;
		s->at += clusters;
		return false;
	}
	s->lowest = min_u64(s->lowest, s->at);
	if (!s->n)
		s->first = s->at;
	clusters = min_u64(clusters, s->want - s->n);
	s->n += clusters;
	s->at += clusters;
	return s->n == s->want;
}

static bool search_block(struct edit *ed, const struct table *t, struct search *s, uint64_t end)
{
	uint64_t mask = (1ull << ed->g.refblock_bits) - 1;

	while (s->at < end)
		if (see(s, refcount_get(t->bytes, ed->g.refcount_order, s->at & mask) == 0, 1))
			return true;
	return false;
}

static int find_free(struct edit *ed, struct search *s, struct error *e)
{
	bool over = false;

	while (!over) {
		uint64_t block = s->at >> ed->g.refblock_bits, end = (block + 1) << ed->g.refblock_bits;
		struct table *t;

		/* Behind the table nothing is counted yet. */
		if (block >= ed->reftable_entries || !ed->reftable[block]) {
			over = see(s, true, end - s->at);
			continue;
		}
		if (table_get(ed, TABLE_REFBLOCK, ed->reftable[block], &t, e))
			return -1;
		over = search_block(ed, t, s, end);
		table_put(t);
	}
	return 0;
}

/* A run may be longer than what one block counts. The blocks that it needs must not cut it in pieces for ever, so
 * they go to the lowest free cluster: 1 = it was made, 0 = there was one. */
static int make_block_apart(struct edit *ed, uint64_t host, struct error *e)
{
	struct search s = {.at = ed->free_cursor >> ed->g.cluster_bits, .want = 1, .lowest = UINT64_MAX};
	uint64_t block = geometry_reftable_index(&ed->g, host);
	struct table *t;

	if (block >= ed->reftable_entries)
		return alloc_grow_table(ed, host, e) ? -1 : 1;
	if (ed->reftable[block])
		return 0;
	if (find_free(ed, &s, e) || refblock_make(ed, host, s.first << ed->g.cluster_bits, &t, e))
		return -1;
	table_put(t);
	return 1;
}

static int make_block(struct edit *ed, uint64_t host, struct error *e)
{
	struct table *t;
	bool made;

	if (refblock_for_write(ed, host, &t, &made, e))
		return -1;
	table_put(t);
	return made;
}

/* Counts the run: 0 done, 1 a refcount block had to be made first and may lie in it. */
static int take(struct edit *ed, const struct search *s, struct error *e)
{
	uint64_t bits = ed->g.cluster_bits, mask = (1ull << ed->g.refblock_bits) - 1;

	if ((s->first + s->n) << bits > ENTRY_OFFSET_MASK)
		return err_set(e, ERR_LIMIT, "%s: the file would be longer than its tables can tell", ed->file->name);
	if (bits_any(&ed->metadata, s->first, s->n))
		return edit_mark_corrupt(ed, s->first << bits, "metadata with a refcount of 0", e);
	for (uint64_t c = s->first; c < s->first + s->n; c = (c | mask) + 1) {
		bool apart = s->all && s->n > 1;
		int made = apart ? make_block_apart(ed, c << bits, e) : make_block(ed, c << bits, e);

		if (made)
			return made;
	}
	for (uint64_t c = s->first; c < s->first + s->n; c++) {
		int full = refs_add(ed, c << bits, e);

		if (full)
			return full < 0 ? -1 : err_set(e, ERR_CORRUPT, "refcount of a free cluster is full");
	}
	return 0;
}

static int alloc(struct edit *ed, uint64_t want, bool all, uint64_t *host, uint64_t *got, struct error *e)
{
	struct search s;
	int again;

	do {
		s = (struct search){.at = ed->free_cursor >> ed->g.cluster_bits, .want = want, .all = all};
		s.lowest = UINT64_MAX;
		if (find_free(ed, &s, e))
			return -1;
		again = take(ed, &s, e);
		if (again < 0)
			return -1;
	} while (again);
	ed->free_cursor = (s.lowest == s.first ? s.first + s.n : s.lowest) << ed->g.cluster_bits;
	*host = s.first << ed->g.cluster_bits;
	*got = s.n;
	return 0;
}

int alloc_clusters(struct edit *ed, uint64_t clusters, uint64_t *host, struct error *e)
{
	uint64_t got;

	return alloc(ed, clusters, true, host, &got, e);
}

int alloc_some(struct edit *ed, uint64_t want, uint64_t *host, uint64_t *got, struct error *e)
{
	return alloc(ed, want, false, host, got, e);
}

/* Room for `len` bytes behind the compressed cluster before, which is counted once more: 0 done, 1 there is none. */
static int pack_behind(struct edit *ed, uint32_t len, uint64_t *host, struct error *e)
{
	uint64_t at = ed->packed_at, cluster, end;
	bool more;
	int full;

	if (!at || geometry_in_cluster(&ed->g, at) == 0)
		return 1;
	cluster = geometry_cluster_start(&ed->g, at);
	end = cluster + ed->g.cluster_size;
	more = at + len > end;
	if (more) {
		struct search s = {.at = end >> ed->g.cluster_bits, .want = 1, .lowest = UINT64_MAX};

		if (find_free(ed, &s, e))
			return -1;
		if (s.first << ed->g.cluster_bits != end)
			return 1;
		full = take(ed, &s, e);
		if (full)
			return full;
		if (ed->free_cursor == end)
			ed->free_cursor = end + ed->g.cluster_size;
	}
	full = refs_add(ed, cluster, e);
	if (full > 0 && more && edit_drop(ed, end, 1, e))
		return -1;
	if (full)
		return full;
	*host = at;
	ed->packed_at = at + len;
	return 0;
}

int alloc_packed(struct edit *ed, uint32_t len, uint64_t *host, struct error *e)
{
	uint64_t limit = min_u64(1ull << ed->g.csize_shift, ENTRY_OFFSET_MASK);
	int full = pack_behind(ed, len, host, e);

	if (full > 0) {
		if (alloc_clusters(ed, 1, host, e))
			return -1;
		ed->packed_at = *host + len;
		full = 0;
	}
	if (!full && *host > limit - len)
		return err_set(e, ERR_LIMIT, "%s: compressed clusters cannot lie beyond 0x%llx", ed->file->name,
			(unsigned long long)limit);
	return full;
}
