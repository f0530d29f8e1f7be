/* SPDX-License-Identifier: Apache-2.0
 *
 * Clusters that say they are zero (FORMAT.md §5.3), made into what version 2 has words for: unallocated ones, or real zeros over a
 * backing file; in the disk and in all snapshots. A table is changed where it is, for all states that have it: each reads the same
 * before and after every write. Its references are counted once for each of its own (FORMAT.md §7.4), and so are those of a
 * new cluster in it.
 */
#include "qcow2/edit_internal.h"

struct expansion {
	struct edit *ed;
	bool active;  /* the disk's tables, else a snapshot's */
	bool dropped; /* a snapshot gave up clusters, which others may have for themselves now */
};

/* A cluster of zeros for an entry in a table that `owners` refer to: the entry's own where no other table has it. */
static int cluster_of_zeros(struct edit *ed, const struct l2_entry *x, uint64_t owners, uint64_t *host, struct error *e)
{
	uint64_t count = 0;

	*host = x->host;
	if (x->host && refs_get(ed, x->host, &count, e))
		return -1;
	if (count != owners && alloc_clusters(ed, 1, host, e))
		return -1;
	for (uint64_t i = 1; count != owners && i < owners; i++)
		if (refs_add(ed, *host, e))
			return err_set(e, ERR_LIMIT, "%s: a refcount would be too high", ed->file->name);
	memset(ed->bounce, 0, ed->g.cluster_size);
	return edit_write_data(ed, ed->bounce, ed->g.cluster_size, *host, e);
}

static int expand_entry(struct expansion *p, struct table *t, uint64_t guest, uint64_t owners, struct error *e)
{
	struct edit *ed = p->ed;
	bool real = ed->q->backing_name && guest < ed->q->size;
	uint64_t host = 0;
	struct l2_entry x;

	if (map_entry(ed, t, guest, &x, e))
		return -1;
	if (x.type != CLUSTER_ZERO_PLAIN && x.type != CLUSTER_ZERO_ALLOC)
		return 0;
	if (real && cluster_of_zeros(ed, &x, owners, &host, e))
		return -1;
	map_set(ed, t, guest, host | (real && p->active && owners == 1 ? ENTRY_COPIED : 0), 0);
	for (uint64_t i = 0; x.host && x.host != host && i < owners; i++)
		if (edit_drop(ed, x.host, 1, e))
			return -1;
	p->dropped |= x.host && x.host != host;
	return 0;
}

static int expand_table(struct expansion *p, uint64_t host, uint64_t guest, struct error *e)
{
	struct edit *ed = p->ed;
	uint64_t owners;
	struct table *t;
	int failed = 0;

	if (refs_get(ed, host, &owners, e))
		return -1;
	if (!owners)
		return err_set(e, ERR_CORRUPT, "%s: L2 table at 0x%llx has a refcount of 0", ed->file->name,
			(unsigned long long)host);
	if (table_get(ed, TABLE_L2, host, &t, e))
		return -1;
	for (uint64_t i = 0; !failed && i < 1ull << ed->g.l2_bits; i++)
		failed = expand_entry(p, t, guest + (i << ed->g.cluster_bits), owners, e);
	table_put(t);
	return failed;
}

static int expand_tree(struct expansion *p, const uint64_t *l1, uint32_t entries, struct error *e)
{
	struct edit *ed = p->ed;

	for (uint32_t i = 0; i < entries; i++) {
		uint64_t host;

		if (l1_entry_decode(&ed->g, l1[i], &host, e))
			return -1;
		if (!host)
			continue;
		if (!p->active && map_check_snapshots_table(ed, i, host, e))
			return -1;
		if (expand_table(p, host, i * geometry_l2_span(&ed->g), e))
			return -1;
		if (progress_cancelled(ed->progress))
			return err_set(e, ERR_CANCELLED, "cancelled");
		progress_report(ed->progress, i + 1, entries);
	}
	return 0;
}

static int expand_snapshot(struct expansion *p, const struct snapshot_entry *s, struct error *e)
{
	AUTO_FREE uint64_t *l1 = mem_calloc(s->l1_entries + (size_t)1, sizeof *l1, "L1 table", e);

	if (!l1 || (s->l1_entries &&
			   io_read_exact(p->ed->file, l1, s->l1_entries * (size_t)8, s->l1_offset, "L1 table", e)))
		return -1;
	for (uint32_t i = 0; i < s->l1_entries; i++)
		l1[i] = get_be64(&l1[i]);
	return expand_tree(p, l1, s->l1_entries, e);
}

/* COPIED where the disk is the only one left (FORMAT.md §7.5). */
static int own_table(struct edit *ed, struct table *t, uint64_t guest, struct error *e)
{
	struct l2_entry x;
	uint64_t count;

	for (uint64_t i = 0; i < 1ull << ed->g.l2_bits; i++, guest += ed->g.cluster_size) {
		if (map_entry(ed, t, guest, &x, e))
			return -1;
		if (x.type != CLUSTER_NORMAL || x.copied)
			continue;
		if (refs_get(ed, x.host, &count, e))
			return -1;
		if (count == 1)
			map_set(ed, t, guest, x.host | ENTRY_COPIED, 0);
	}
	return 0;
}

static int own_what_is_left(struct edit *ed, struct error *e)
{
	for (uint32_t i = 0; i < ed->l1_entries; i++) {
		uint64_t guest = i * geometry_l2_span(&ed->g);
		struct table *t;
		int failed;

		if (!(ed->l1[i] & ENTRY_COPIED))
			continue;
		if (map_table(ed, guest, &t, e))
			return -1;
		failed = t && own_table(ed, t, guest, e);
		table_put(t);
		if (failed)
			return -1;
	}
	return 0;
}

int edit_expand_zeros(struct edit *ed, struct error *e)
{
	struct expansion p = {.ed = ed, .active = true};

	if (expand_tree(&p, ed->l1, ed->l1_entries, e))
		return -1;
	p = (struct expansion){.ed = ed};
	for (uint32_t i = 0; i < ed->q->snapshot_count; i++)
		if (expand_snapshot(&p, &ed->q->snapshots[i].entry, e))
			return err_prefix(e, "snapshot '%s'", ed->q->snapshots[i].name);
	if (!p.dropped)
		return 0;
	/* Only now it is known who is left. */
	return edit_commit(ed, e) || own_what_is_left(ed, e) ? -1 : 0;
}
