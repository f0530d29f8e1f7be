/* SPDX-License-Identifier: Apache-2.0
 *
 * A snapshot gets a cluster of its own for what it showed of the backing file (FORMAT.md §5.6, §8.4), before that shows something else. A
 * table that other states share is changed where it is, for all of them: they have the same backing file, so each reads the same
 * before and after. A new cluster is counted once for each reference to its table (FORMAT.md §7.4).
 * order: data and refcounts, flush; the L2 entry. For a table that is missing: it and its refcount, flush; the snapshot's L1 entry.
 */
#include "qcow2/edit_internal.h"

static int make_table(struct edit *ed, uint64_t l1_entry_host, uint64_t *host, struct error *e)
{
	uint8_t raw[8];
	struct table *t;
	int failed;

	if (alloc_clusters(ed, 1, host, e) || table_new(ed, TABLE_L2, *host, &t, e))
		return -1;
	failed = edit_commit(ed, e);
	table_put(t);
	put_be64(raw, *host);
	return failed || edit_write_table(ed, raw, sizeof raw, l1_entry_host, "L1 table", e) ? -1 : 0;
}

/* The L2 table of the snapshot that has `guest`. */
static int find_table(struct edit *ed, const struct snapshot_entry *s, uint64_t guest, uint64_t *host, struct error *e)
{
	uint64_t index = geometry_l1_index(&ed->g, guest), entry = s->l1_offset + index * 8;
	uint8_t raw[8];

	if (index >= s->l1_entries)
		return err_set(e, ERR_CORRUPT, "guest offset 0x%llx is beyond the L1 table", (unsigned long long)guest);
	if (io_read_exact(ed->file, raw, sizeof raw, entry, "L1 table", e) ||
		l1_entry_decode(&ed->g, get_be64(raw), host, e))
		return -1;
	if (!*host)
		return make_table(ed, entry, host, e);
	return map_check_snapshots_table(ed, index, *host, e);
}

static int new_cluster(struct edit *ed, const void *bytes, uint64_t owners, uint64_t *host, struct error *e)
{
	if (alloc_clusters(ed, 1, host, e))
		return -1;
	for (uint64_t i = 1; i < owners; i++)
		if (refs_add(ed, *host, e))
			return err_set(e, ERR_LIMIT, "refcounts are too narrow for another cluster that is shared");
	return edit_write_data(ed, bytes, ed->g.cluster_size, *host, e);
}

static int fill(struct edit *ed, struct table *t, uint64_t guest, const void *bytes, uint64_t owners, struct error *e)
{
	struct l2_entry x;
	uint64_t host = 0;

	if (map_entry(ed, t, guest, &x, e))
		return -1;
	/* A state that shares the table has been here. */
	if (x.type != CLUSTER_UNALLOCATED)
		return 0;
	if (ed->q->h.version >= 3 && mem_is_zero(bytes, ed->g.cluster_size))
		host = ENTRY_ZERO;
	else if (new_cluster(ed, bytes, owners, &host, e))
		return -1;
	map_set(ed, t, guest, host, 0);
	return 0;
}

int edit_snapshot_fill(struct edit *ed, uint32_t index, uint64_t guest, const void *bytes, struct error *e)
{
	const struct qcow2_snapshot *s = &ed->q->snapshots[index];
	uint64_t host, owners;
	struct table *t;
	int failed;

	if (ed->g.subclusters > 1)
		return err_set(e, ERR_UNSUPPORTED, "snapshots of an image with extended L2 entries cannot be filled");
	if (edit_begin_change(ed, e))
		return -1;
	if (find_table(ed, &s->entry, guest, &host, e) || refs_get(ed, host, &owners, e))
		return err_prefix(e, "snapshot '%s'", s->name);
	if (!owners)
		return err_set(e, ERR_CORRUPT, "snapshot '%s': L2 table at 0x%llx has a refcount of 0", s->name,
			(unsigned long long)host);
	if (table_get(ed, TABLE_L2, host, &t, e))
		return -1;
	failed = fill(ed, t, guest, bytes, owners, e);
	table_put(t);
	return failed;
}
