/* SPDX-License-Identifier: Apache-2.0
 *
 * A set of host clusters, in pages made when first needed: which clusters hold metadata (FORMAT.md §12.4).
 */
#include "qcow2/edit_internal.h"

enum { PAGE_BITS = 8 * BITS_PAGE_BYTES };

static int page_for_write(struct bits *b, uint64_t page, struct error *e)
{
	if (page >= b->page_count) {
		uint64_t count = max_u64(page + 1, b->page_count * 2);
		uint8_t **pages = realloc(b->pages, (size_t)count * sizeof *pages);

		if (!pages)
			return err_set(e, ERR_NO_MEMORY, "no memory for the map of metadata");
		memset(pages + b->page_count, 0, (size_t)(count - b->page_count) * sizeof *pages);
		b->pages = pages;
		b->page_count = count;
	}
	if (!b->pages[page])
		b->pages[page] = mem_calloc(1, BITS_PAGE_BYTES, "map of metadata", e);
	return b->pages[page] ? 0 : -1;
}

int bits_set(struct bits *b, uint64_t first, uint64_t n, struct error *e)
{
	for (uint64_t i = first; i < first + n; i++) {
		if (page_for_write(b, i / PAGE_BITS, e))
			return -1;
		b->pages[i / PAGE_BITS][i % PAGE_BITS / 8] |= (uint8_t)(1u << i % 8);
	}
	return 0;
}

static uint8_t *page_of(const struct bits *b, uint64_t i)
{
	return i / PAGE_BITS < b->page_count ? b->pages[i / PAGE_BITS] : NULL;
}

void bits_clear(struct bits *b, uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i++) {
		uint8_t *page = page_of(b, i);

		if (page)
			page[i % PAGE_BITS / 8] &= (uint8_t) ~(1u << i % 8);
	}
}

bool bits_any(const struct bits *b, uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n;) {
		const uint8_t *page = page_of(b, i);

		if (!page) {
			i = (i / PAGE_BITS + 1) * PAGE_BITS;
			continue;
		}
		if (page[i % PAGE_BITS / 8] >> i % 8 & 1)
			return true;
		i++;
	}
	return false;
}

void bits_free(struct bits *b)
{
	for (uint64_t i = 0; i < b->page_count; i++)
		free(b->pages[i]);
	free(b->pages);
	*b = (struct bits){0};
}
