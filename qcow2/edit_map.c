/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries of an edited image's L1 and L2 tables (FORMAT.md §5). A table that a snapshot shares is copied before its first
 * change; what the copy says about being the only owner of a cluster (COPIED, §7.5) comes from the refcounts, not from
 * the old table.
 */
#include "qcow2/edit_internal.h"

static int l2_host(const struct edit *ed, uint64_t index, uint64_t *host, struct error *e)
{
	if (l1_entry_decode(&ed->g, ed->l1[index], host, e))
		return err_prefix(e, "%s: L1 entry %llu", ed->file->name, (unsigned long long)index);
	return 0;
}

int map_table(struct edit *ed, uint64_t guest, struct table **out, struct error *e)
{
	uint64_t index = geometry_l1_index(&ed->g, guest), host;

	*out = NULL;
	if (index >= ed->l1_entries)
		return 0;
	if (l2_host(ed, index, &host, e))
		return -1;
	return host ? table_get(ed, TABLE_L2, host, out, e) : 0;
}

/* COPIED of one entry from its cluster's refcount. */
static int own(struct edit *ed, uint8_t *entry, uint64_t guest, struct error *e)
{
	uint64_t raw = get_be64(entry), count;
	bool extended = ed->g.subclusters > 1;
	struct l2_entry x;

	if (!raw)
		return 0;
	if (l2_entry_decode(&ed->g, ed->q->h.version, ed->has_data_file, raw, extended ? get_be64(entry + 8) : 0, &x,
		    e))
		return err_prefix(e, "%s: guest offset 0x%llx", ed->file->name, (unsigned long long)guest);
	if (ed->has_data_file)
		return 0;
	raw &= ~ENTRY_COPIED;
	if (x.type == CLUSTER_NORMAL || x.type == CLUSTER_ZERO_ALLOC) {
		if (refs_get(ed, x.host, &count, e))
			return -1;
		raw |= count == 1 ? ENTRY_COPIED : 0;
	}
	put_be64(entry, raw);
	return 0;
}

static int copy_shared(struct edit *ed, const struct table *old, struct table *t, uint64_t guest, struct error *e)
{
	uint32_t bytes = ed->g.l2_entry_bytes;
	uint64_t start = align_down(guest, geometry_l2_span(&ed->g));

	memcpy(t->bytes, old->bytes, ed->g.cluster_size);
	for (uint32_t i = 0; i < 1u << ed->g.l2_bits; i++)
		if (own(ed, t->bytes + (size_t)i * bytes, start + ((uint64_t)i << ed->g.cluster_bits), e))
			return -1;
	return 0;
}

int map_check_snapshots_table(const struct edit *ed, uint64_t index, uint64_t host, struct error *e)
{
	/* What a snapshot shares with the disk has the same place in both. */
	if (bits_any(&ed->metadata, host >> ed->g.cluster_bits, 1) &&
		(index >= ed->l1_entries || (ed->l1[index] & ENTRY_OFFSET_MASK) != host))
		return err_set(e, ERR_CORRUPT, "%s: L2 table at 0x%llx overlaps other metadata", ed->file->name,
			(unsigned long long)host);
	return 0;
}

static void set_l1(struct edit *ed, uint64_t index, uint64_t raw)
{
	ed->l1[index] = raw;
	if (ed->l1_dirty_from == ed->l1_dirty_to) {
		ed->l1_dirty_from = (uint32_t)index;
		ed->l1_dirty_to = (uint32_t)index + 1;
	}
	ed->l1_dirty_from = (uint32_t)min_u64(ed->l1_dirty_from, index);
	ed->l1_dirty_to = (uint32_t)max_u64(ed->l1_dirty_to, index + 1);
}

void map_unlink(struct edit *ed, uint64_t index)
{
	set_l1(ed, index, 0);
}

/* A table of our own for L1 entry `index`, with what the one at `shared` says (0: nothing). */
static int make_table(struct edit *ed, uint64_t guest, uint64_t shared, struct table **out, struct error *e)
{
	uint64_t index = geometry_l1_index(&ed->g, guest), host;
	struct table *old = NULL, *t = NULL;
	int failed;

	if (alloc_clusters(ed, 1, &host, e) || edit_add_metadata(ed, host, ed->g.cluster_size, e))
		return -1;
	failed = (shared && table_get(ed, TABLE_L2, shared, &old, e)) || table_new(ed, TABLE_L2, host, &t, e) ||
		 (shared && copy_shared(ed, old, t, guest, e));
	table_put(old);
	if (failed) {
		table_put(t);
		table_forget(ed, host);
		bits_clear(&ed->metadata, host >> ed->g.cluster_bits, 1);
		return -1;
	}
	/* Looking up refcounts may have committed, and written it before it was whole. */
	t->fresh = true;
	table_dirty(t, 0, ed->g.cluster_size);
	set_l1(ed, index, host | ENTRY_COPIED);
	if (shared && edit_drop(ed, shared, 1, e)) {
		table_put(t);
		return -1;
	}
	*out = t;
	return 0;
}

int map_table_for_write(struct edit *ed, uint64_t guest, struct table **out, struct error *e)
{
	uint64_t index = geometry_l1_index(&ed->g, guest), host, count;

	if (index >= ed->l1_entries)
		return err_set(e, ERR_USAGE, "%s: guest offset 0x%llx is beyond the L1 table", ed->file->name,
			(unsigned long long)guest);
	if (l2_host(ed, index, &host, e))
		return -1;
	if (host && (ed->l1[index] & ENTRY_COPIED)) {
		/* The flag allows to write into the table; a wrong one would harm a snapshot. */
		if (refs_get(ed, host, &count, e))
			return -1;
		if (count == 1)
			return table_get(ed, TABLE_L2, host, out, e);
	}
	return make_table(ed, guest, host, out, e);
}

int map_entry(struct edit *ed, const struct table *t, uint64_t guest, struct l2_entry *out, struct error *e)
{
	const uint8_t *p;
	bool extended = ed->g.subclusters > 1;

	*out = (struct l2_entry){0};
	if (!t)
		return 0;
	p = t->bytes + (size_t)geometry_l2_index(&ed->g, guest) * ed->g.l2_entry_bytes;
	if (l2_entry_decode(&ed->g, ed->q->h.version, ed->has_data_file, get_be64(p), extended ? get_be64(p + 8) : 0,
		    out, e))
		return err_prefix(e, "%s: guest offset 0x%llx", ed->file->name, (unsigned long long)guest);
	if (ed->has_data_file && (out->type == CLUSTER_NORMAL || out->type == CLUSTER_ZERO_ALLOC) &&
		out->host != geometry_cluster_start(&ed->g, guest))
		return err_set(e, ERR_CORRUPT, "%s: guest offset 0x%llx lies at 0x%llx of the external data file",
			ed->file->name, (unsigned long long)guest, (unsigned long long)out->host);
	return 0;
}

void map_set(struct edit *ed, struct table *t, uint64_t guest, uint64_t raw, uint64_t bitmap)
{
	uint32_t at = geometry_l2_index(&ed->g, guest) * ed->g.l2_entry_bytes;

	put_be64(t->bytes + at, raw);
	if (ed->g.subclusters > 1)
		put_be64(t->bytes + at + 8, bitmap);
	table_dirty(t, at, at + ed->g.l2_entry_bytes);
}
