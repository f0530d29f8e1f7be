/* SPDX-License-Identifier: Apache-2.0
 *
 * Reference counts of host clusters for check, FORMAT.md §12.3. Almost all counts are 0 or 1 and come in long runs, so
 * they are bytes, and a run is added in bulk. Few clusters have 255 references or more; those are in a hash table. Memory
 * follows what is really counted, not what the file's length promises.
 */
#include "qcow2/check_internal.h"

enum { BLOCK = 64, FIRST_SLAB = 64 << 10, LAST_SLAB = 2 << 20 };

/* A page of zeros from the last slab. Slabs double up to the size of a huge page: to touch a new page of 4 KiB costs more than all that
 * is counted in it. */
static uint8_t *new_page(struct counts *c, struct error *e)
{
	if (c->slab_used == c->slab_bytes) {
		const size_t bytes = c->slab_bytes ? min_u64(2 * c->slab_bytes, LAST_SLAB) : FIRST_SLAB;
		uint8_t **slabs = realloc(c->slabs, (c->slab_count + 1) * sizeof *slabs);
		if (!slabs) {
			err_fill(e, ERR_NO_MEMORY, "no memory for reference counts");
			return NULL;
		}
		c->slabs = slabs;
		slabs[c->slab_count] = bytes < LAST_SLAB ? mem_alloc_pages(bytes, "reference counts", e)
							 : mem_alloc_huge(bytes, "reference counts", e);
		if (!slabs[c->slab_count])
			return NULL;
		c->slab_count++;
		c->slab_bytes = bytes;
		c->slab_used = 0;
	}
	uint8_t *page = c->slabs[c->slab_count - 1] + c->slab_used;
	c->slab_used += COUNTS_PAGE;
	return memset(page, 0, COUNTS_PAGE);
}

/* Where the cluster is in the hash table, or the free place where it belongs. The table is never full. */
static struct big_count *big_find(const struct counts *c, uint64_t cluster)
{
	size_t i = (size_t)(cluster * 0x9e3779b97f4a7c15ull >> 20) & (c->big_room - 1);
	while (c->big[i].count && c->big[i].cluster != cluster)
		i = (i + 1) & (c->big_room - 1);
	return &c->big[i];
}

static int big_grow(struct counts *c, struct error *e)
{
	struct counts old = *c;
	c->big_room = old.big_room ? old.big_room * 2 : 64;
	c->big = mem_calloc(c->big_room, sizeof *c->big, "reference counts", e);
	if (!c->big) {
		*c = old;
		return -1;
	}
	for (size_t i = 0; i < old.big_room; i++)
		if (old.big[i].count)
			*big_find(c, old.big[i].cluster) = old.big[i];
	free(old.big);
	return 0;
}

static int big_set(struct counts *c, uint64_t cluster, uint64_t count, struct error *e)
{
	if ((c->big_used + 1) * 2 > c->big_room && big_grow(c, e) < 0)
		return -1;
	struct big_count *b = big_find(c, cluster);
	c->big_used += b->count == 0;
	*b = (struct big_count){.cluster = cluster, .count = count};
	return 0;
}

int counts_init(struct counts *c, uint64_t clusters, uint64_t max, uint64_t bytes_limit, struct error *e)
{
	*c = (struct counts){.clusters = clusters, .room = clusters + 1, .max = max};
	c->pages_left = bytes_limit / COUNTS_PAGE;
	c->pages = mem_calloc(c->room / COUNTS_PAGE + 1, sizeof *c->pages, "reference counts", e);
	return c->pages ? 0 : -1;
}

void counts_free(struct counts *c)
{
	for (size_t i = 0; i < c->slab_count; i++)
		free(c->slabs[i]);
	free(c->slabs);
	free(c->pages);
	free(c->big);
	*c = (struct counts){0};
}

int counts_grow(struct counts *c, uint64_t room, struct error *e)
{
	const uint64_t have = c->room / COUNTS_PAGE + 1, want = room / COUNTS_PAGE + 1;
	if (room <= c->room)
		return 0;
	if (want > have) {
		uint8_t **pages = realloc(c->pages, want * sizeof *pages);
		if (!pages)
			return err_set(e, ERR_NO_MEMORY, "no memory for reference counts");
		memset(pages + have, 0, (want - have) * sizeof *pages);
		c->pages = pages;
	}
	c->room = room;
	return 0;
}

int counts_copy(struct counts *to, const struct counts *from, struct error *e)
{
	const uint64_t pages = from->room / COUNTS_PAGE + 1;
	*to = *from;
	to->big = NULL;
	to->slabs = NULL;
	to->slab_count = to->slab_bytes = to->slab_used = 0;
	to->pages = mem_calloc(pages, sizeof *to->pages, "reference counts", e);
	if (!to->pages)
		return -1;
	for (uint64_t i = 0; i < pages; i++) {
		if (!from->pages[i])
			continue;
		to->pages[i] = new_page(to, e);
		if (!to->pages[i])
			return -1;
		memcpy(to->pages[i], from->pages[i], COUNTS_PAGE);
	}
	if (!from->big)
		return 0;
	to->big = mem_calloc(from->big_room, sizeof *to->big, "reference counts", e);
	if (!to->big)
		return -1;
	memcpy(to->big, from->big, from->big_room * sizeof *to->big);
	return 0;
}

static uint8_t *page_for_write(struct counts *c, uint64_t cluster, struct error *e)
{
	uint8_t **page = &c->pages[cluster / COUNTS_PAGE];
	if (*page)
		return *page;
	if (c->pages_left == 0) {
		err_set(e, ERR_LIMIT,
			"clusters in use are scattered over the file more widely than its data can account for");
		return NULL;
	}
	c->pages_left--;
	*page = new_page(c, e);
	return *page;
}

uint64_t counts_get(const struct counts *c, uint64_t cluster)
{
	const uint8_t *page = cluster < c->room ? counts_page(c, cluster) : NULL;
	if (!page)
		return 0;
	uint8_t n = page[cluster % COUNTS_PAGE];
	return n == BIG_COUNT ? big_find(c, cluster)->count : n;
}

/* 1 added, 0 the count is at its maximum. */
static int add_one(struct counts *c, uint8_t *n, uint64_t cluster, bool *shared, struct error *e)
{
	uint64_t count = *n == BIG_COUNT ? big_find(c, cluster)->count : *n;
	if (count == c->max)
		return 0;
	count++;
	*shared |= count > 1;
	if (count >= BIG_COUNT && big_set(c, cluster, count, e) < 0)
		return -1;
	*n = (uint8_t)min_u64(count, BIG_COUNT);
	return 1;
}

/* A block of counts at once, when none is near a limit. The loops have a fixed length so that they become vector
 * instructions. */
static bool add_to_block(uint8_t *p, uint8_t below, bool *shared)
{
	uint8_t most = 0;
	for (int i = 0; i < BLOCK; i++)
		most = p[i] > most ? p[i] : most;
	if (most >= below)
		return false;
	for (int i = 0; i < BLOCK; i++)
		p[i]++;
	*shared |= most > 0;
	return true;
}

int counts_add(struct counts *c, uint64_t first, uint64_t n, uint64_t *done, bool *shared, struct error *e)
{
	const uint8_t below = (uint8_t)min_u64(c->max, BIG_COUNT - 1);
	uint8_t *page = NULL;
	for (*done = 0; *done < n;) {
		uint64_t cluster = first + *done;
		size_t in_page = cluster % COUNTS_PAGE;
		if (in_page == 0 || !page)
			page = page_for_write(c, cluster, e);
		if (!page)
			return -1;
		if (n - *done >= BLOCK && in_page + BLOCK <= COUNTS_PAGE &&
			add_to_block(page + in_page, below, shared)) {
			*done += BLOCK;
			continue;
		}
		int rc = add_one(c, page + in_page, cluster, shared, e);
		if (rc <= 0)
			return rc;
		++*done;
	}
	return 0;
}

bool counts_all_one(const struct counts *c, uint64_t first, uint64_t n)
{
	if (first >= c->room || n > c->room - first)
		return false;
	while (n) {
		const uint8_t *page = counts_page(c, first);
		size_t here = (size_t)min_u64(n, COUNTS_PAGE - first % COUNTS_PAGE);
		if (!page)
			return false;
		const uint8_t *p = page + first % COUNTS_PAGE;
		if (p[0] != 1 || memcmp(p, p + 1, here - 1) != 0)
			return false;
		first += here;
		n -= here;
	}
	return true;
}

void counts_drop(struct counts *c, uint64_t cluster)
{
	uint8_t *n = counts_page(c, cluster) + cluster % COUNTS_PAGE;
	if (*n < BIG_COUNT) {
		--*n;
		return;
	}
	struct big_count *b = big_find(c, cluster);
	b->count--;
	if (b->count < BIG_COUNT)
		*n = (uint8_t)b->count;
}

uint64_t counts_end(const struct counts *c)
{
	for (uint64_t p = c->room / COUNTS_PAGE + 1; p > 0; p--) {
		const uint8_t *page = c->pages[p - 1];
		if (!page || mem_is_zero(page, COUNTS_PAGE))
			continue;
		for (uint64_t i = COUNTS_PAGE; i > 0; i--)
			if (page[i - 1])
				return (p - 1) * COUNTS_PAGE + i;
	}
	return 0;
}

uint64_t counts_find_free(const struct counts *c, uint64_t from, uint64_t n, uint64_t limit)
{
	uint64_t run = 0;
	for (uint64_t i = from; i < limit; i++) {
		if (i >= c->room) /* nothing is counted from here on */
			return limit - (i - run) >= n ? i - run : NOWHERE;
		const uint8_t *page = counts_page(c, i);
		if (!page) {
			const uint64_t here = min_u64(COUNTS_PAGE - i % COUNTS_PAGE, limit - i);
			run += here;
			i += here - 1;
		} else {
			run = page[i % COUNTS_PAGE] ? 0 : run + 1;
		}
		if (run >= n)
			return i + 1 - run;
	}
	return NOWHERE;
}
