/* SPDX-License-Identifier: Apache-2.0
 *
 * A new refcount structure made from the counts of a check, FORMAT.md §7 and §12.5: all of it in clusters that nothing refers
 * to, the old structure included; one write of the header switches to it, and what was the old one is free from then on.
 *
 * order: blocks and table; flush; header; flush.
 */
#include "qcow2/check_internal.h"
#include "qcow2/internal.h"

enum { BUFFER = 1 << 20 };

struct plan {
	uint64_t *table;                /* the new refcount table; while planning 1: a block is needed */
	uint64_t ranges;                /* that the largest table has blocks for */
	uint64_t blocks, table_entries; /* the latter in whole clusters */
	uint64_t first, clusters;       /* the new area: blocks, then table */
};

int repair_find_room(const struct check *c, uint64_t n, uint64_t *first, struct error *e)
{
	const uint64_t end = counts_end(&c->counts),
		       limit = min_u64(c->repair->beyond, (1ull << 56) >> c->g->cluster_bits);
	/* Behind all that is in use; else, when something leads to places behind the end, in a gap. */
	*first = end;
	if (end <= limit && limit - end >= n)
		return 0;
	*first = counts_find_free(&c->counts, 0, n, end);
	if (*first != NOWHERE)
		return 0;
	return err_set(e, ERR_LIMIT,
		"there is no room for %llu clusters of tables: entries lead to places behind the end of the file",
		(unsigned long long)n);
}

static void mark_ranges(const struct check *c, struct plan *p)
{
	const struct counts *counts = &c->counts;
	for (uint64_t i = 0; i < counts->room;) {
		const uint64_t in_page = COUNTS_PAGE - i % COUNTS_PAGE;
		const uint64_t n = min_u64(min_u64(in_page, counts->room - i), 1ull << c->g->refblock_bits);
		const uint8_t *page = counts_page(counts, i);
		const uint64_t range = i >> c->g->refblock_bits;
		if (page && range < p->ranges && !p->table[range] && !mem_is_zero(page + i % COUNTS_PAGE, n)) {
			p->table[range] = 1;
			p->blocks++;
		}
		i += page ? n : in_page;
	}
}

/* Blocks that the new area itself needs besides. */
static uint64_t more_blocks(const struct check *c, const struct plan *p)
{
	uint64_t more = 0;
	const unsigned bits = c->g->refblock_bits;
	for (uint64_t i = p->first >> bits; i <= (p->first + p->clusters - 1) >> bits; i++)
		more += i >= p->ranges || !p->table[i];
	return more;
}

static int too_large(const struct check *c, struct error *e)
{
	return err_set(e, ERR_LIMIT, "the file of %llu bytes is too large for a refcount table of %d bytes",
		(unsigned long long)c->file_bytes, QCOW2_MAX_REFTABLE_BYTES);
}

/* Where the area goes and how large it is: more of it may need more blocks, until nothing changes. */
static int plan_area(const struct check *c, struct plan *p, struct error *e)
{
	const unsigned bits = c->g->refblock_bits;
	uint64_t more = 0, n = p->blocks + 1;
	for (;;) {
		p->clusters = n;
		if (repair_find_room(c, n, &p->first, e) < 0)
			return -1;
		more = more_blocks(c, p);
		const uint64_t end = max_u64(counts_end(&c->counts), p->first + n);
		p->table_entries = align_up(((end - 1) >> bits) + 1, c->g->cluster_size / 8);
		if (p->table_entries > p->ranges || p->first + n > INT32_MAX)
			return too_large(c, e);
		const uint64_t need = p->blocks + more + (p->table_entries * 8 >> c->g->cluster_bits);
		if (need <= n)
			break;
		n = need;
	}
	for (uint64_t i = p->first >> bits; i <= (p->first + p->clusters - 1) >> bits; i++) {
		p->blocks += !p->table[i];
		p->table[i] = 1;
	}
	p->clusters = p->blocks + (p->table_entries * 8 >> c->g->cluster_bits);
	return 0;
}

static void drop_old(struct check *c, uint64_t host, uint64_t bytes)
{
	bytes = check_part_in_file(c, host, bytes);
	if (bytes == 0)
		return;
	for (uint64_t i = host >> c->g->cluster_bits; i <= (host + bytes - 1) >> c->g->cluster_bits; i++)
		counts_drop(&c->counts, i);
}

/* Takes the old structure out of the counts, as check_collect put it in, and the new one in. */
static int exchange(struct check *c, const struct plan *p, struct error *e)
{
	uint64_t done;
	if (!c->repair->overflow) { /* else they may not have been counted; they stay as leaks */
		drop_old(c, c->q->h.reftable_offset, c->reftable_entries * 8);
		for (uint64_t i = 0; i < c->reftable_entries; i++) {
			const uint64_t host = c->reftable[i];
			if (host && !(host & ~REFTABLE_OFFSET_MASK) && !geometry_in_cluster(c->g, host))
				drop_old(c, host, c->g->cluster_size);
		}
	}
	if (counts_grow(&c->counts, p->first + p->clusters + 1, e) < 0)
		return -1;
	c->counts.pages_left += p->clusters / COUNTS_PAGE + 2;
	c->counts.clusters = max_u64(c->counts.clusters, p->first + p->clusters);
	return counts_add(&c->counts, p->first, p->clusters, &done, &c->shared, e);
}

/* The block with the counts from cluster `first` on. */
static void fill_block(const struct check *c, uint8_t *block, uint64_t first)
{
	const unsigned order = c->g->refcount_order;
	const uint64_t entries = 1ull << c->g->refblock_bits;
	memset(block, 0, c->g->cluster_size);
	for (uint64_t i = 0, n; i < entries && first + i < c->counts.room; i += n) {
		const uint64_t at = (first + i) % COUNTS_PAGE;
		const uint8_t *page = counts_page(&c->counts, first + i);
		n = min_u64(COUNTS_PAGE - at, entries - i);
		for (uint64_t k = 0; page && k < n; k++)
			if (page[at + k])
				refcount_put(block, order, i + k,
					page[at + k] < BIG_COUNT ? page[at + k]
								 : counts_get(&c->counts, first + i + k));
	}
}

static int write_blocks(struct check *c, struct plan *p, struct error *e)
{
	const size_t size = c->g->cluster_size, room = max_u64(BUFFER, size);
	AUTO_FREE uint8_t *buffer = mem_alloc_pages(room, "refcount blocks", e);
	uint64_t host = p->first << c->g->cluster_bits, start = host;
	size_t used = 0;
	if (!buffer)
		return -1;
	for (uint64_t i = 0; i < p->table_entries; i++) {
		if (p->table[i]) {
			fill_block(c, buffer + used, i << c->g->refblock_bits);
			used += size;
			p->table[i] = host;
			host += size;
		}
		if (used && (used == room || i + 1 == p->table_entries)) {
			if (io_write(c->file, buffer, used, start, e) < 0)
				return err_prefix(e, "refcount blocks");
			start += used;
			used = 0;
		}
	}
	return 0;
}

static int write_table(struct check *c, const struct plan *p, struct error *e)
{
	const size_t bytes = p->table_entries * 8;
	AUTO_FREE uint8_t *table = mem_alloc_pages(bytes, "refcount table", e);
	if (!table)
		return -1;
	for (uint64_t i = 0; i < p->table_entries; i++)
		put_be64(table + i * 8, p->table[i]);
	if (io_write(c->file, table, bytes, (p->first + p->blocks) << c->g->cluster_bits, e) < 0)
		return err_prefix(e, "refcount table");
	return 0;
}

static int switch_over(struct check *c, struct plan *p, struct error *e)
{
	struct header h = c->q->h;
	h.reftable_offset = (p->first + p->blocks) << c->g->cluster_bits;
	h.reftable_clusters = (uint32_t)(p->table_entries * 8 >> c->g->cluster_bits);
	if (write_blocks(c, p, e) < 0 || write_table(c, p, e) < 0 || header_put(c->repair->q, &h, e) < 0)
		return -1;
	free(c->reftable);
	c->reftable = STEAL(p->table);
	c->reftable_entries = p->table_entries;
	c->file_bytes = c->file->size;
	c->highest = counts_end(&c->counts);
	c->repair->rebuild = false;
	return 0;
}

int repair_rebuild(struct check *c, struct error *e)
{
	struct plan p = {.ranges = QCOW2_MAX_REFTABLE_BYTES / 8};
	p.table = mem_calloc(p.ranges, sizeof *p.table, "refcount table", e);
	int rc = p.table ? 0 : -1;
	if (rc == 0 && (counts_end(&c->counts) - 1) >> c->g->refblock_bits >= p.ranges)
		rc = too_large(c, e);
	if (rc == 0) {
		mark_ranges(c, &p);
		rc = plan_area(c, &p, e) < 0 || exchange(c, &p, e) < 0 ? -1 : switch_over(c, &p, e);
	}
	free(p.table);
	return rc;
}
