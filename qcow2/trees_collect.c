/* SPDX-License-Identifier: Apache-2.0
 *
 * What a whole tree refers to (FORMAT.md §12.3), and proof that it may be worked on: no entry is wrong, no table lies where
 * something else is. All of it is read before an operation writes anything, so that a damaged image is refused as it is.
 */
#include "qcow2/trees.h"

struct trees *trees_of(const struct check_job *j)
{
	return (struct trees *)(void *)j->check;
}

int marks_new(struct marks *m, uint64_t clusters, const char *what, struct error *e)
{
	*m = (struct marks){.clusters = clusters};
	m->bytes = mem_calloc(clusters / 8 + 1, 1, what, e);
	return m->bytes ? 0 : -1;
}

static void note_first(void *ctx, const struct finding *f)
{
	struct trees *t = ctx;
	if (!t->bad)
		t->first = *f;
	t->bad = true;
}

/* Marks the clusters of [host, host + bytes), as far as they are in the file. */
static int fix(struct trees *t, uint64_t host, uint64_t bytes, const char *what, struct error *e)
{
	const unsigned bits = t->c.g->cluster_bits;
	uint64_t end;
	if (bytes == 0 || host >= t->c.file_bytes)
		return 0;
	if (add_overflows(host, bytes, &end) || end > t->c.file_bytes)
		end = t->c.file_bytes;
	for (uint64_t i = host >> bits; i <= (end - 1) >> bits; i++) {
		if (marks_get(&t->fixed, i))
			return err_set(e, ERR_CORRUPT, "%s at 0x%llx lies where another table is", what,
				(unsigned long long)host);
		t->fixed.bytes[i / 8] |= (uint8_t)(1u << i % 8);
	}
	return 0;
}

static int fix_snapshots(struct trees *t, struct error *e)
{
	const struct qcow2 *q = t->c.q;
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < q->snapshot_count; i++) {
		const struct snapshot_entry *s = &q->snapshots[i].entry;
		bytes += s->bytes;
		if (fix(t, s->l1_offset, (uint64_t)s->l1_entries * 8, "L1 table of a snapshot", e) < 0)
			return -1;
	}
	return fix(t, q->h.snapshots_offset, bytes, "snapshot table", e);
}

static int fix_bitmaps(struct trees *t, struct error *e)
{
	const struct qcow2 *q = t->c.q;
	for (uint32_t i = 0; i < q->bitmap_count; i++) {
		const struct bitmap_entry *b = &q->bitmaps[i].entry;
		if (fix(t, b->table_offset, (uint64_t)b->table_entries * 8, "bitmap table", e) < 0)
			return -1;
	}
	return fix(t, q->bitmap_directory.directory_offset, q->bitmap_directory.directory_bytes, "bitmap directory", e);
}

static int fix_all(struct trees *t, struct error *e)
{
	const struct header *h = &t->c.q->h;
	if (marks_new(&t->fixed, geometry_clusters(t->c.g, t->c.file_bytes), "clusters of tables", e) < 0 ||
		fix(t, 0, t->c.g->cluster_size, "header", e) < 0 ||
		fix(t, h->l1_offset, (uint64_t)h->l1_entries * 8, "L1 table", e) < 0 ||
		fix(t, h->reftable_offset, t->c.reftable_entries * 8, "refcount table", e) < 0)
		return -1;
	for (uint64_t i = 0; i < t->c.reftable_entries; i++) {
		const uint64_t host = t->c.reftable[i] & REFTABLE_OFFSET_MASK;
		if (geometry_in_cluster(t->c.g, host) || host >= t->c.file_bytes)
			return err_set(e, ERR_CORRUPT, "refcount block %llu at 0x%llx is not in the file",
				(unsigned long long)i, (unsigned long long)host);
		if (host && fix(t, host, t->c.g->cluster_size, "refcount block", e) < 0)
			return -1;
	}
	return fix_snapshots(t, e) < 0 ? -1 : fix_bitmaps(t, e);
}

int trees_reload(struct trees *t, struct error *e)
{
	free(t->c.reftable);
	t->c.reftable = NULL;
	return check_reftable_load(&t->c, e);
}

int trees_begin(struct trees *t, struct layer *l, unsigned threads, struct progress *progress, struct error *e)
{
	*t = (struct trees){.opts = {.threads = threads, .progress = progress, .found = note_first, .ctx = t}};
	if (check_begin(&t->c, l, &t->opts, &t->result, e) < 0 || check_reftable_load(&t->c, e) < 0)
		return -1;
	return fix_all(t, e);
}

void trees_end(struct trees *t)
{
	check_end(&t->c);
	free(t->fixed.bytes);
	free(t->ones.bytes);
	t->fixed = t->ones = (struct marks){0};
}

/* No cluster that the tree refers to may be one of the fixed tables. */
static int clear_of_fixed(struct trees *t, const struct counts *tree, struct error *e)
{
	for (uint64_t i = 0; i < t->fixed.clusters; i++) {
		if (i % 8 == 0 && t->fixed.bytes[i / 8] == 0) {
			i += 7;
			continue;
		}
		if (marks_get(&t->fixed, i) && counts_get(tree, i))
			return err_set(e, ERR_CORRUPT, "the cluster at 0x%llx holds a table and is referred to as data",
				(unsigned long long)(i << t->c.g->cluster_bits));
	}
	return 0;
}

/* Nothing else in the tree may be where an L2 table is: it will be written to. */
static int tables_alone(struct trees *t, uint64_t l1_host, uint32_t l1_entries, const struct counts *tree,
	struct error *e)
{
	enum { CHUNK = 8192 }; /* entries */
	AUTO_FREE uint8_t *l1 = mem_alloc_pages(CHUNK * 8, "L1 table", e);
	if (!l1)
		return -1;
	for (uint32_t i = 0; i < l1_entries; i += CHUNK) {
		const uint32_t n = l1_entries - i < CHUNK ? l1_entries - i : CHUNK;
		if (io_read(t->c.file, l1, (size_t)n * 8, l1_host + (uint64_t)i * 8, e) < 0)
			return err_prefix(e, "L1 table at 0x%llx", (unsigned long long)l1_host);
		for (uint32_t k = 0; k < n; k++) {
			const uint64_t host = get_be64(l1 + (size_t)k * 8) & ENTRY_OFFSET_MASK;
			if (host && counts_get(tree, host >> t->c.g->cluster_bits) != 1)
				return err_set(e, ERR_CORRUPT, "the L2 table at 0x%llx is referred to more than once",
					(unsigned long long)host);
		}
	}
	return 0;
}

/* Adds what the tree refers to. */
static int collect(struct trees *t, const struct tree *tree, struct error *e)
{
	counts_free(&t->c.counts);
	t->c.counts = *tree->counts;
	*tree->counts = (struct counts){0};
	t->c.walks = 1;
	int rc = t->c.counts.pages ? 0 : check_counts_begin(&t->c, &t->c.counts, e);
	if (rc == 0)
		rc = check_tree(&t->c, tree->l1_host, tree->l1_entries, false, e);
	*tree->counts = t->c.counts;
	t->c.counts = (struct counts){0};
	if (rc == 0 && t->bad)
		rc = err_set(e, t->first.kind == FINDING_ERROR ? ERR_IO : ERR_CORRUPT,
			"the image is damaged: %s; `check` tells more", t->first.text);
	return rc;
}

static int is_sound(struct trees *t, const struct tree *tree, struct error *e)
{
	if (clear_of_fixed(t, tree->counts, e) < 0)
		return -1;
	return tables_alone(t, tree->l1_host, tree->l1_entries, tree->counts, e);
}

static int named(const struct tree *tree, int rc, struct error *e)
{
	return rc < 0 && tree->snapshot ? err_prefix(e, "snapshot '%s'", tree->snapshot) : rc;
}

static int collect_beside(struct trees *t, const struct tree *tree, const struct tree *other, bool same,
	struct error *e)
{
	t->c.beside = (struct l1_beside){
		same ? BESIDE_SAME : BESIDE_DIFFERENT, .host = other->l1_host, .entries = other->l1_entries};
	int rc = collect(t, tree, e);
	t->c.beside = (struct l1_beside){0};
	return named(tree, rc, e);
}

int trees_collect(struct trees *t, const struct tree *tree, struct error *e)
{
	*tree->counts = (struct counts){0};
	int rc = collect(t, tree, e);
	return named(tree, rc == 0 ? is_sound(t, tree, e) : rc, e);
}

int trees_collect_two(struct trees *t, const struct tree *a, const struct tree *b, struct error *e)
{
	*a->counts = *b->counts = (struct counts){0};
	if (collect_beside(t, a, b, true, e) < 0 || counts_copy(b->counts, a->counts, e) < 0)
		return -1;
	if (collect_beside(t, a, b, false, e) < 0 || collect_beside(t, b, a, false, e) < 0)
		return -1;
	return named(a, is_sound(t, a, e), e) < 0 ? -1 : named(b, is_sound(t, b, e), e);
}
