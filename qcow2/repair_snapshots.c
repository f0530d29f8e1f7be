/* SPDX-License-Identifier: Apache-2.0
 *
 * Repair of the snapshot table, FORMAT.md §8 and §12.5: entries without the extra data that version 3 asks for get them, extra
 * data beyond the limit are cut to what is known, entries beyond the limits go. A new table is written elsewhere.
 *
 * order: refcounts of the new place; table; flush; header; flush; refcounts of the old place.
 */
#include "qcow2/check_internal.h"
#include "qcow2/internal.h"

enum {
	EXTRA_NEEDED = 16,
	EXTRA_WRITTEN = 24,
	AT_VM_STATE_32 = 32,
	AT_EXTRA_BYTES = 36,
	AT_VM_STATE_64 = 40,
	AT_DISK_SIZE = 48,
	AT_ICOUNT = 56,
	SECTOR = 512,
};

int repair_snapshot_count(struct check *c, struct error *e)
{
	const struct qcow2 *q = c->q;
	const struct place at = {q->h.snapshots_offset, NOWHERE};
	const uint64_t over = q->h.snapshot_count - q->snapshot_count;
	if (c->repair->mode != REPAIR_ALL) {
		if (header_check_snapshot_count(&q->h, e) < 0)
			return -1;
		for (uint32_t i = 0; i < q->snapshot_count; i++)
			if (q->snapshots[i].entry.extra_bytes > QCOW2_MAX_SNAPSHOT_EXTRA)
				return err_set(e, ERR_LIMIT, "snapshot %u: %u bytes of extra data are more than %d", i,
					q->snapshots[i].entry.extra_bytes, QCOW2_MAX_SNAPSHOT_EXTRA);
		return over ? err_set(e, ERR_LIMIT, "snapshot table is larger than %d bytes",
				      QCOW2_MAX_SNAPSHOT_TABLE_BYTES)
			    : 0;
	}
	for (uint32_t i = 0; i < q->snapshot_count; i++)
		if (q->snapshots[i].entry.extra_bytes > QCOW2_MAX_SNAPSHOT_EXTRA)
			check_fixed(c, FOUND_SNAPSHOT_EXTRA, at, i, q->snapshots[i].entry.extra_bytes,
				QCOW2_MAX_SNAPSHOT_EXTRA);
	if (!over)
		return 0;
	check_fixed(c, q->snapshot_count == QCOW2_MAX_SNAPSHOTS ? FOUND_SNAPSHOTS_TOO_MANY : FOUND_SNAPSHOTS_TOO_BIG,
		at, over, 0, 0);
	c->out->corruptions_fixed += over - 1;
	struct header h = q->h;
	h.snapshot_count = q->snapshot_count;
	return header_put(c->repair->q, &h, e);
}

/* Entry `i` as it will be; returns its bytes. `host`: where it is now. */
static size_t entry_bytes(const struct qcow2_snapshot *s)
{
	const uint32_t extra = s->entry.extra_bytes;
	const size_t kept = extra < EXTRA_WRITTEN || extra > QCOW2_MAX_SNAPSHOT_EXTRA ? EXTRA_WRITTEN : extra;
	return (size_t)align_up(QCOW2_SNAPSHOT_ENTRY_BYTES + kept + s->entry.id_len + s->entry.name_len, 8);
}

/* The entry that lies at `host` in the file, as it will be. */
static int put_entry(const struct check *c, const struct qcow2_snapshot *s, uint64_t host, uint8_t *buf,
	struct error *e)
{
	const uint32_t extra = s->entry.extra_bytes;
	const bool too_long = extra > QCOW2_MAX_SNAPSHOT_EXTRA;
	const uint32_t from_file = too_long ? EXTRA_WRITTEN : extra;
	const uint32_t kept = from_file < EXTRA_WRITTEN ? EXTRA_WRITTEN : from_file;
	const size_t names = (size_t)s->entry.id_len + s->entry.name_len;
	const uint64_t names_at = host + QCOW2_SNAPSHOT_ENTRY_BYTES + extra;
	const uint64_t known[3] = {s->entry.vm_state_bytes, s->disk_size, s->entry.icount};
	if (io_read_exact(c->file, buf, QCOW2_SNAPSHOT_ENTRY_BYTES + from_file, host, "snapshot table", e) < 0 ||
		io_read_exact(c->file, buf + QCOW2_SNAPSHOT_ENTRY_BYTES + kept, names, names_at, "snapshot table", e) <
			0)
		return -1;
	put_be32(buf + AT_EXTRA_BYTES, kept);
	for (size_t k = 0; k < 3; k++)
		if (from_file < 8 * (k + 1))
			put_be64(buf + AT_VM_STATE_64 + 8 * k, known[k]);
	return 0;
}

static bool needs_new_table(const struct check *c)
{
	for (uint32_t i = 0; i < c->q->snapshot_count; i++) {
		const uint32_t extra = c->q->snapshots[i].entry.extra_bytes;
		if (extra > QCOW2_MAX_SNAPSHOT_EXTRA || (c->q->h.version >= 3 && extra < EXTRA_NEEDED))
			return true;
	}
	return false;
}

/* The counts of [first, end) into one refcount block. */
static int store_in_block(struct check *c, uint64_t block, uint64_t first, uint64_t end, struct error *e)
{
	const unsigned order = c->g->refcount_order;
	uint8_t bytes[SECTOR];
	const uint64_t per_sector = (uint64_t)SECTOR * 8 >> order, mask = (1ull << c->g->refblock_bits) - 1;
	for (uint64_t i = first, n; i < end; i += n) {
		const uint64_t in_sector = i % per_sector, host = block + (((i & mask) - in_sector) << order) / 8;
		n = min_u64(end - i, per_sector - in_sector);
		if (io_read(c->file, bytes, SECTOR, host, e) < 0)
			return -1;
		for (uint64_t k = 0; k < n; k++)
			refcount_put(bytes, order, in_sector + k, counts_get(&c->counts, i + k));
		if (io_write(c->file, bytes, SECTOR, host, e) < 0)
			return -1;
	}
	return 0;
}

int repair_store_counts(struct check *c, uint64_t first, uint64_t end, struct error *e)
{
	const uint64_t per_block = 1ull << c->g->refblock_bits;
	for (uint64_t i = first, next; i < end; i = next) {
		const uint64_t block = check_refblock_of(c, i);
		next = min_u64(end, align_down(i, per_block) + per_block);
		if (block && store_in_block(c, block, i, next, e) < 0)
			return err_prefix(e, "refcounts");
	}
	return 0;
}

/* Clusters for the new table, with refcounts that are in the file. */
static int allocate(struct check *c, uint64_t clusters, uint64_t *first, struct error *e)
{
	uint64_t done;
	bool covered = true;
	if (repair_find_room(c, clusters, first, e) < 0 || counts_grow(&c->counts, *first + clusters + 1, e) < 0)
		return -1;
	c->counts.pages_left += clusters / COUNTS_PAGE + 2;
	c->counts.clusters = max_u64(c->counts.clusters, *first + clusters);
	if (counts_add(&c->counts, *first, clusters, &done, &c->shared, e) < 0)
		return -1;
	for (uint64_t i = *first; i < *first + clusters; i++)
		covered = covered && check_refblock_of(c, i);
	return covered ? repair_store_counts(c, *first, *first + clusters, e) : repair_rebuild(c, e);
}

/* The old table's clusters have one reference less. */
static int release(struct check *c, uint64_t host, uint64_t bytes, struct error *e)
{
	const uint64_t first = host >> c->g->cluster_bits;
	const uint64_t end = first + geometry_clusters(c->g, check_part_in_file(c, host, bytes));
	if (c->repair->overflow)
		return 0;
	for (uint64_t i = first; i < end; i++)
		counts_drop(&c->counts, i);
	return repair_store_counts(c, first, end, e);
}

static int write_table(struct check *c, uint8_t *table, uint64_t bytes, uint64_t *old_bytes, struct error *e)
{
	struct qcow2 *q = c->repair->q;
	struct header h = q->h;
	const uint64_t clusters = geometry_clusters(c->g, bytes);
	uint64_t first, at = 0;
	*old_bytes = 0;
	for (uint32_t i = 0; i < q->snapshot_count; i++) {
		if (put_entry(c, &q->snapshots[i], h.snapshots_offset + *old_bytes, table + at, e) < 0)
			return err_prefix(e, "snapshot %u", i);
		*old_bytes += q->snapshots[i].entry.bytes;
		at += entry_bytes(&q->snapshots[i]);
	}
	if (allocate(c, clusters, &first, e) < 0)
		return -1;
	h = q->h;
	h.snapshots_offset = first << c->g->cluster_bits;
	if (io_write(c->file, table, (size_t)(clusters << c->g->cluster_bits), h.snapshots_offset, e) < 0)
		return err_prefix(e, "snapshot table");
	return header_put(q, &h, e);
}

/* What the list says of its entries is what the file has now. */
static void update_list(struct qcow2 *q)
{
	for (uint32_t i = 0; i < q->snapshot_count; i++) {
		struct qcow2_snapshot *s = &q->snapshots[i];
		const size_t bytes = entry_bytes(s);
		if (s->entry.extra_bytes < EXTRA_WRITTEN || s->entry.extra_bytes > QCOW2_MAX_SNAPSHOT_EXTRA)
			s->entry.extra_bytes = EXTRA_WRITTEN;
		s->entry.bytes = bytes;
		s->entry.has_disk_size = true;
		s->entry.disk_size = s->disk_size;
	}
}

int repair_snapshot_table(struct check *c, struct error *e)
{
	uint64_t bytes = 0, old_bytes;
	const uint64_t old = c->q->h.snapshots_offset;
	if (c->repair->mode != REPAIR_ALL || !needs_new_table(c))
		return 0;
	for (uint32_t i = 0; i < c->q->snapshot_count; i++)
		bytes += entry_bytes(&c->q->snapshots[i]);
	AUTO_FREE uint8_t *table = mem_calloc(1, align_up(bytes, c->g->cluster_size), "snapshot table", e);
	if (!table || write_table(c, table, bytes, &old_bytes, e) < 0)
		return -1;
	update_list(c->repair->q);
	return release(c, old, old_bytes, e);
}
