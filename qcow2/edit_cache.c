/* SPDX-License-Identifier: Apache-2.0
 *
 * L2 tables and refcount blocks of an edited image in memory (FORMAT.md §5, §7.2). A table that disk does not have yet stays
 * until a commit has written it; a clean one makes room for another when it has not been asked for longest.
 */
#include "qcow2/edit_internal.h"

enum { MIN_TABLES = 16, MAX_TABLES = 1 << 16, DEFAULT_BYTES = 32 << 20 };

static struct table **bucket_of(struct edit *ed, uint64_t host)
{
	uint64_t hash = (host >> ed->g.cluster_bits) * 0x9e3779b97f4a7c15ull >> 32;

	return &ed->cache.buckets[hash & ed->cache.bucket_mask];
}

static struct table *find(struct edit *ed, uint64_t host)
{
	struct table *t = *bucket_of(ed, host);

	while (t && t->host != host)
		t = t->next_in_bucket;
	return t;
}

static void unlink_table(struct edit *ed, struct table *t)
{
	struct table **p = bucket_of(ed, t->host);

	while (*p != t)
		p = &(*p)->next_in_bucket;
	*p = t->next_in_bucket;
}

/* A clean table that has not been asked for lately: a hand goes round and takes each one's mark away, until it meets one that
 * has none. NULL: all are dirty or in use. */
static struct table *find_clean(struct edit *ed)
{
	struct table_cache *c = &ed->cache;

	for (size_t i = 0; i < 2 * c->count; i++) {
		struct table *t = c->all[c->hand];

		c->hand = (c->hand + 1) % c->count;
		if (t->pins || t->dirty_from < t->dirty_to || t->fresh)
			continue;
		if (!t->used)
			return t;
		t->used = false;
	}
	return NULL;
}

static struct table *table_make(struct edit *ed, struct error *e)
{
	struct table *t = mem_calloc(1, sizeof *t, "table", e);

	if (!t)
		return NULL;
	t->bytes = mem_alloc_pages(max_u64(ed->g.cluster_size, 512), "table", e);
	if (!t->bytes) {
		free(t);
		return NULL;
	}
	ed->cache.all[ed->cache.count++] = t;
	return t;
}

/* A table that is in no bucket. */
static struct table *table_room(struct edit *ed, struct error *e)
{
	struct table *t;

	if (ed->cache.count < ed->cache.max)
		return table_make(ed, e);
	t = find_clean(ed);
	if (!t) {
		if (ed->committing ? edit_write_refblocks(ed, e) : edit_commit(ed, e))
			return NULL;
		t = find_clean(ed);
	}
	if (!t) {
		err_set(e, ERR_NO_MEMORY, "all %zu tables in memory are in use", ed->cache.count);
		return NULL;
	}
	if (t->host)
		unlink_table(ed, t);
	t->host = 0;
	return t;
}

static struct table *table_add(struct edit *ed, enum table_kind kind, uint64_t host, struct table *t)
{
	struct table **bucket = bucket_of(ed, host);

	t->host = host;
	t->kind = kind;
	t->dirty_from = t->dirty_to = 0;
	t->fresh = false;
	t->pins = 1;
	t->used = true;
	t->next_in_bucket = *bucket;
	*bucket = t;
	return t;
}

int table_get(struct edit *ed, enum table_kind kind, uint64_t host, struct table **out, struct error *e)
{
	struct table *t = find(ed, host);

	if (t && t->kind != kind)
		return edit_mark_corrupt(ed, host, "an L2 table and a refcount block at once", e);
	if (t) {
		t->pins++;
		t->used = true;
		*out = t;
		return 0;
	}
	t = table_room(ed, e);
	if (!t || io_read_exact(ed->file, t->bytes, ed->g.cluster_size, host,
			  kind == TABLE_L2 ? "L2 table" : "refcount block", e))
		return -1;
	*out = table_add(ed, kind, host, t);
	return 0;
}

int table_new(struct edit *ed, enum table_kind kind, uint64_t host, struct table **out, struct error *e)
{
	struct table *t;

	table_forget(ed, host);
	t = table_room(ed, e);
	if (!t)
		return -1;
	memset(t->bytes, 0, ed->g.cluster_size);
	table_add(ed, kind, host, t);
	t->fresh = true;
	table_dirty(t, 0, ed->g.cluster_size);
	*out = t;
	return 0;
}

void table_put(struct table *t)
{
	if (t)
		t->pins--;
}

void table_dirty(struct table *t, uint32_t from, uint32_t to)
{
	bool clean = t->dirty_from == t->dirty_to;

	if (clean || from < t->dirty_from)
		t->dirty_from = from;
	if (clean || to > t->dirty_to)
		t->dirty_to = to;
}

static void forget(struct edit *ed, struct table *t)
{
	unlink_table(ed, t);
	t->host = 0;
	t->used = false;
	t->dirty_from = t->dirty_to = 0;
	t->fresh = false;
}

void table_forget(struct edit *ed, uint64_t host)
{
	struct table *t = find(ed, host);

	if (t)
		forget(ed, t);
}

void tables_forget_all(struct edit *ed)
{
	for (size_t i = 0; i < ed->cache.count; i++)
		if (ed->cache.all[i]->host)
			forget(ed, ed->cache.all[i]);
}

int cache_init(struct edit *ed, size_t bytes, struct error *e)
{
	struct table_cache *c = &ed->cache;
	size_t buckets = 64;

	c->max = (bytes ? bytes : DEFAULT_BYTES) >> ed->g.cluster_bits;
	c->max = (size_t)min_u64(max_u64(c->max, MIN_TABLES), MAX_TABLES);
	while (buckets < c->max)
		buckets *= 2;
	c->bucket_mask = buckets - 1;
	c->all = mem_calloc(c->max, sizeof *c->all, "tables", e);
	c->buckets = c->all ? mem_calloc(buckets, sizeof(struct table *), "tables", e) : NULL;
	return c->buckets ? 0 : -1;
}

void cache_free(struct edit *ed)
{
	struct table_cache *c = &ed->cache;

	for (size_t i = 0; i < c->count; i++) {
		free(c->all[i]->bytes);
		free(c->all[i]);
	}
	free(c->all);
	free(c->buckets);
	*c = (struct table_cache){0};
}
