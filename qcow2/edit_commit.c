/* SPDX-License-Identifier: Apache-2.0
 *
 * A commit: what changed in memory reaches the file in an order that can only leak (FORMAT.md §12.4).
 * order: data, refcount blocks and tables that nothing points to yet; flush. Refcount table; flush. L2 entries and L1 entries;
 * flush. Only then references that were given up leave the refcounts, in memory.
 */
#include "qcow2/edit_internal.h"

static bool is_dirty(const struct table *t)
{
	return t->host && t->dirty_from < t->dirty_to;
}

static bool is_refblock(const struct table *t)
{
	return t->kind == TABLE_REFBLOCK;
}

static bool is_new_or_refblock(const struct table *t)
{
	return t->fresh || is_refblock(t);
}

static bool is_linked_l2(const struct table *t)
{
	return !t->fresh && t->kind == TABLE_L2;
}

static int by_host(const void *a, const void *b)
{
	const struct table *x = *(struct table *const *)a, *y = *(struct table *const *)b;

	return x->host < y->host ? -1 : x->host > y->host;
}

static int write_table(struct edit *ed, struct table *t, struct error *e)
{
	/* Whole sectors, so that nothing has to be read for them. */
	uint32_t from = (uint32_t)align_down(t->dirty_from, 512), to = (uint32_t)align_up(t->dirty_to, 512);

	if (edit_write_table(ed, t->bytes + from, to - from, t->host + from,
		    is_refblock(t) ? "refcount block" : "L2 table", e))
		return -1;
	t->dirty_from = t->dirty_to = 0;
	return 0;
}

/* All dirty tables of a sort, in the order of the file. */
static int write_tables(struct edit *ed, bool (*wanted)(const struct table *), struct error *e)
{
	size_t n = 0;
	AUTO_FREE struct table **list = mem_calloc(ed->cache.count + 1, sizeof(struct table *), "list of tables", e);

	if (!list)
		return -1;
	for (size_t i = 0; i < ed->cache.count; i++)
		if (is_dirty(ed->cache.all[i]) && wanted(ed->cache.all[i]))
			list[n++] = ed->cache.all[i];
	qsort(list, n, sizeof(struct table *), by_host);
	for (size_t i = 0; i < n; i++)
		if (write_table(ed, list[i], e))
			return -1;
	return 0;
}

int edit_write_refblocks(struct edit *ed, struct error *e)
{
	return write_tables(ed, is_refblock, e);
}

/* Entries [from, to) of a table of 8-byte entries that is in memory in host byte order. */
static int write_entries(struct edit *ed, const uint64_t *entries, uint64_t from, uint64_t to, uint64_t host,
	const char *what, struct error *e)
{
	uint8_t chunk[4096];

	while (from < to) {
		uint64_t n = min_u64(to - from, sizeof chunk / 8 - from % (sizeof chunk / 8));

		for (uint64_t i = 0; i < n; i++)
			put_be64(chunk + i * 8, entries[from + i]);
		if (edit_write_table(ed, chunk, (size_t)n * 8, host + from * 8, what, e))
			return -1;
		from += n;
	}
	return 0;
}

static int write_reftable(struct edit *ed, struct error *e)
{
	if (ed->reftable_dirty_from == ed->reftable_dirty_to)
		return 0;
	if (write_entries(ed, ed->reftable, ed->reftable_dirty_from, ed->reftable_dirty_to, ed->q->h.reftable_offset,
		    "refcount table", e))
		return -1;
	ed->reftable_dirty_from = ed->reftable_dirty_to = 0;
	return edit_sync(ed, e);
}

static int write_l1(struct edit *ed, struct error *e)
{
	if (ed->l1_dirty_from == ed->l1_dirty_to)
		return 0;
	if (write_entries(ed, ed->l1, ed->l1_dirty_from, ed->l1_dirty_to, ed->q->h.l1_offset, "L1 table", e))
		return -1;
	ed->l1_dirty_from = ed->l1_dirty_to = 0;
	return 0;
}

static bool pointers_changed(const struct edit *ed)
{
	if (ed->reftable_dirty_from < ed->reftable_dirty_to || ed->l1_dirty_from < ed->l1_dirty_to)
		return true;
	for (size_t i = 0; i < ed->cache.count; i++)
		if (is_dirty(ed->cache.all[i]) && !is_refblock(ed->cache.all[i]))
			return true;
	return false;
}

static int write_pointers(struct edit *ed, struct error *e)
{
	if (write_reftable(ed, e) || write_tables(ed, is_linked_l2, e) || write_l1(ed, e))
		return -1;
	for (size_t i = 0; i < ed->cache.count; i++)
		ed->cache.all[i]->fresh = false;
	return 0;
}

static int commit_steps(struct edit *ed, struct error *e)
{
	bool pointers = pointers_changed(ed);

	if (write_tables(ed, is_new_or_refblock, e))
		return -1;
	if (pointers && (edit_sync(ed, e) || write_pointers(ed, e)))
		return -1;
	if (!ed->dropped_count)
		return 0;
	return edit_sync(ed, e) || refs_drop_now(ed, e) ? -1 : 0;
}

int edit_commit(struct edit *ed, struct error *e)
{
	int failed;

	if (ed->broken)
		return err_set(e, ERR_IO, "%s: nothing more is written after a failure", ed->file->name);
	if (ed->committing)
		return 0;
	ed->committing = true;
	failed = commit_steps(ed, e);
	ed->committing = false;
	return failed;
}

int edit_settle(struct edit *ed, struct error *e)
{
	/* Others may have written to the file itself. */
	ed->unflushed = true;
	if (edit_commit(ed, e) || edit_write_refblocks(ed, e))
		return -1;
	tables_forget_all(ed);
	return 0;
}
