/* SPDX-License-Identifier: Apache-2.0
 *
 * The simple look at an image of tests/unit/image_view.h.
 */
#include "tests/unit/image_view.h"

static const uint8_t *at(const struct image_view *v, uint64_t host, uint64_t len)
{
	if (!(host <= v->size && len <= v->size - host))
		ck_abort_msg("host 0x%llx+0x%llx is not in the file of 0x%llx bytes", (unsigned long long)host,
			(unsigned long long)len, (unsigned long long)v->size);
	return v->bytes + host;
}

/* One reference to each host cluster of the range, which may end in the cut last one. */
static void meet(struct image_view *v, uint64_t host, uint64_t len)
{
	if (!len)
		return;
	NEED((host + len - 1) >> v->g.cluster_bits < v->clusters);
	for (uint64_t c = host >> v->g.cluster_bits; c <= (host + len - 1) >> v->g.cluster_bits; c++)
		v->found[c]++;
}

static struct l2_entry decode_at(const struct image_view *v, uint64_t table, uint64_t index)
{
	struct error e = {0};
	struct l2_entry entry;
	const uint8_t *p = at(v, table + index * v->g.l2_entry_bytes, v->g.l2_entry_bytes);
	uint64_t bitmap = v->g.subclusters > 1 ? get_be64(p + 8) : 0;
	int r = l2_entry_decode(&v->g, v->h.version, v->data_file, get_be64(p), bitmap, &entry, &e);
	if (r != 0)
		ck_abort_msg("%s", e.msg);
	return entry;
}

static void meet_entry(struct image_view *v, const struct l2_entry *entry)
{
	if (entry->type == CLUSTER_COMPRESSED) {
		NEED(!entry->copied);
		meet(v, entry->host, entry->csize);
	} else if (entry->host && !v->data_file) {
		meet(v, entry->host, v->g.cluster_size);
	}
}

static void meet_tree(struct image_view *v, uint64_t l1_offset, uint64_t l1_entries)
{
	struct error e = {0};
	meet(v, l1_offset, l1_entries * 8);
	for (uint64_t i = 0; i < l1_entries; i++) {
		uint64_t table;
		NEED(l1_entry_decode(&v->g, get_be64(at(v, l1_offset + i * 8, 8)), &table, &e) == 0);
		if (!table)
			continue;
		meet(v, table, v->g.cluster_size);
		for (uint64_t k = 0; k < 1ull << v->g.l2_bits; k++) {
			struct l2_entry entry = decode_at(v, table, k);
			meet_entry(v, &entry);
		}
	}
}

struct snapshot_entry image_view_snapshot(const struct image_view *v, unsigned index)
{
	struct error e = {0};
	struct snapshot_entry s = {0};
	uint64_t host = v->h.snapshots_offset;
	for (unsigned i = 0; i <= index; i++) {
		host += s.bytes;
		ck_assert(snapshot_entry_decode(at(v, host, 40), v->size - host, &s, &e) == 0);
	}
	return s;
}

struct bitmap_entry image_view_bitmap(const struct image_view *v, unsigned index)
{
	struct error e = {0};
	struct bitmap_entry b = {0};
	uint64_t done = 0;
	for (unsigned i = 0; i <= index; i++) {
		done += b.bytes;
		const uint8_t *p = at(v, v->bitmaps.directory_offset + done, 1);
		ck_assert_msg(bitmap_entry_decode(&v->g, p, v->bitmaps.directory_bytes - done, &b, &e) == 0, "%s",
			e.msg);
	}
	return b;
}

static void meet_snapshots(struct image_view *v)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < v->h.snapshot_count; i++) {
		struct snapshot_entry s = image_view_snapshot(v, i);
		meet_tree(v, s.l1_offset, s.l1_entries);
		bytes += s.bytes;
	}
	meet(v, v->h.snapshots_offset, bytes);
}

static void meet_bitmaps(struct image_view *v)
{
	struct error e = {0};
	ck_assert(!v->bitmaps.count == !(v->h.autoclear & AUTOCLEAR_BITMAPS));
	meet(v, v->bitmaps.directory_offset, v->bitmaps.directory_bytes);
	for (unsigned i = 0; i < v->bitmaps.count; i++) {
		struct bitmap_entry b = image_view_bitmap(v, i);
		meet(v, b.table_offset, b.table_entries * 8ull);
		for (uint64_t k = 0; k < b.table_entries; k++) {
			uint64_t host;
			bool ones;
			const uint8_t *p = at(v, b.table_offset + k * 8, 8);
			ck_assert(bitmap_table_entry_decode(&v->g, get_be64(p), &host, &ones, &e) == 0);
			if (host)
				meet(v, host, v->g.cluster_size);
		}
	}
}

static void meet_refcounts(struct image_view *v)
{
	uint64_t bytes = (uint64_t)v->h.reftable_clusters << v->g.cluster_bits;
	meet(v, v->h.reftable_offset, bytes);
	for (uint64_t i = 0; i < bytes / 8; i++) {
		uint64_t block = get_be64(at(v, v->h.reftable_offset + i * 8, 8));
		NEED(block % v->g.cluster_size == 0);
		if (block)
			meet(v, block, v->g.cluster_size);
	}
}

static uint64_t stored_count(const struct image_view *v, uint64_t cluster)
{
	uint64_t index = cluster >> v->g.refblock_bits, block;
	if (index >= (uint64_t)v->h.reftable_clusters << v->g.cluster_bits >> 3)
		return 0;
	block = get_be64(at(v, v->h.reftable_offset + index * 8, 8));
	if (!block)
		return 0;
	return refcount_get(at(v, block, v->g.cluster_size), v->g.refcount_order,
		cluster & ((1ull << v->g.refblock_bits) - 1));
}

static void compare_counts(const struct image_view *v)
{
	for (uint64_t c = 0; c < v->clusters; c++) {
		uint64_t stored = stored_count(v, c);
		if (v->crashed ? stored < v->found[c] : stored != v->found[c])
			ck_abort_msg("host cluster %llu: refcount %llu, %llu references", (unsigned long long)c,
				(unsigned long long)stored, (unsigned long long)v->found[c]);
	}
	if (v->crashed)
		return;
	/* nothing is counted behind the file's end */
	for (uint64_t c = v->clusters; c % (1ull << v->g.refblock_bits); c++)
		NEED(stored_count(v, c) == 0);
}

static bool copied_is_right(const struct image_view *v, bool copied, bool alone)
{
	return copied == alone || (v->crashed && !copied);
}

/* COPIED says: only the active disk refers to it, once (FORMAT.md §7.5). */
static void compare_copied(const struct image_view *v)
{
	for (uint64_t i = 0; i < v->h.l1_entries; i++) {
		uint64_t raw = get_be64(at(v, v->h.l1_offset + i * 8, 8)), table = raw & ENTRY_OFFSET_MASK;
		if (!table)
			continue;
		NEED(copied_is_right(v, raw & ENTRY_COPIED, v->found[table >> v->g.cluster_bits] == 1));
		for (uint64_t k = 0; k < 1ull << v->g.l2_bits; k++) {
			struct l2_entry entry = decode_at(v, table, k);
			const bool allocated = entry.type == CLUSTER_NORMAL || entry.type == CLUSTER_ZERO_ALLOC;
			/* the first cluster of a data file has the host offset that else means none */
			if (v->data_file)
				NEED(entry.copied == allocated || (entry.type == CLUSTER_ZERO_PLAIN && !i && !k));
			else if (entry.type != CLUSTER_COMPRESSED)
				NEED(copied_is_right(v, entry.copied,
					entry.host && v->found[entry.host >> v->g.cluster_bits] == 1));
		}
	}
}

static void read_extensions(struct image_view *v)
{
	struct error e = {0};
	struct extension x;
	size_t pos = v->h.header_length, end = v->h.backing_offset ? v->h.backing_offset : v->g.cluster_size;
	int r;
	while ((r = extension_next(v->bytes, end, &pos, &x, &e)) == 1)
		if (x.type == EXT_BITMAPS)
			ck_assert(bitmaps_extension_decode(&x, v->g.cluster_size, &v->bitmaps, &e) == 0);
	ck_assert_msg(r == 0, "%s", e.msg);
}

static void look(struct image_view *v, const uint8_t *bytes, uint64_t size, bool crashed)
{
	struct error e = {0};
	*v = (struct image_view){.bytes = bytes, .size = size, .crashed = crashed};
	ck_assert_msg(header_decode(at(v, 0, 112), size, &v->h, &e) == 0, "%s", e.msg);
	header_geometry(&v->h, &v->g);
	v->data_file = v->h.incompatible & INCOMPAT_DATA_FILE;
	v->backing = (const char *)bytes + v->h.backing_offset;
	v->clusters = geometry_clusters(&v->g, size);
	v->found = calloc(v->clusters, sizeof *v->found);
	ck_assert_ptr_nonnull(v->found);
	read_extensions(v);
	meet(v, 0, v->g.cluster_size);
	meet_refcounts(v);
	meet_tree(v, v->h.l1_offset, v->h.l1_entries);
	meet_snapshots(v);
	meet_bitmaps(v);
	compare_counts(v);
	compare_copied(v);
}

void image_view_open(struct image_view *v, const uint8_t *bytes, uint64_t size)
{
	look(v, bytes, size, false);
}

void image_view_open_crashed(struct image_view *v, const uint8_t *bytes, uint64_t size)
{
	look(v, bytes, size, true);
}

void image_view_close(struct image_view *v)
{
	free(v->found);
}

struct l2_entry image_view_entry(const struct image_view *v, uint64_t l1_offset, uint64_t l1_entries, uint64_t guest)
{
	uint64_t index = geometry_l1_index(&v->g, guest);
	NEED(index < l1_entries);
	uint64_t table = get_be64(at(v, l1_offset + index * 8, 8)) & ENTRY_OFFSET_MASK;
	if (!table)
		return (struct l2_entry){.type = CLUSTER_UNALLOCATED};
	return decode_at(v, table, geometry_l2_index(&v->g, guest));
}
