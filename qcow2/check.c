/* SPDX-License-Identifier: Apache-2.0
 *
 * check: what an image refers to against what its refcounts say, FORMAT.md §12.3. In order: header, active state, snapshots,
 * snapshot table, refcount table, bitmaps, refcount blocks; then the comparison; then COPIED. Nothing is written here; repair.c uses the same
 * steps.
 */
#include "qcow2/check_internal.h"

#include <limits.h>

enum { JOBS_SERIAL = 1, JOBS_SPARE = 2 };
static const uint64_t BUDGET_BYTES = 4ull << 30, ALIAS_BYTES = 16 << 20;

int check_spend(struct check *c, uint64_t *budget, uint64_t bytes, const char *what, struct error *e)
{
	if (bytes > *budget)
		return err_set(e, ERR_LIMIT, "%s are referred to more often than a file of %llu bytes can need", what,
			(unsigned long long)c->file_bytes);
	*budget -= bytes;
	return 0;
}

bool check_in_file(const struct check *c, uint64_t host, uint64_t bytes)
{
	uint64_t end;
	/* The last cluster of a file may be cut off, so a little beyond its end is fine. */
	return !add_overflows(host, bytes, &end) && (end <= c->file_bytes || end - c->file_bytes < c->g->cluster_size);
}

uint64_t check_part_in_file(const struct check *c, uint64_t host, uint64_t bytes)
{
	if (check_in_file(c, host, bytes))
		return bytes;
	return host < c->file_bytes ? c->file_bytes - host : 0;
}

int check_refer(struct check *c, uint64_t host, uint64_t bytes, uint64_t guest, struct error *e)
{
	const unsigned bits = c->g->cluster_bits;
	if (bytes == 0)
		return 0;
	if (!check_in_file(c, host, bytes)) {
		if (c->repair)
			c->repair->beyond = min_u64(c->repair->beyond, max_u64(host, c->file_bytes) >> bits);
		check_found(c, FOUND_BEYOND_END, (struct place){host, guest}, host, bytes, 0);
		/* What of it is in the file can be read, so a repair must not free it. */
		bytes = check_part_in_file(c, host, bytes);
		if (!c->repair || bytes == 0)
			return 0;
	}
	uint64_t first = host >> bits, after = ((host + bytes - 1) >> bits) + 1;
	c->counts.clusters = max_u64(c->counts.clusters, after);
	while (first < after) {
		uint64_t done;
		if (counts_add(&c->counts, first, after - first, &done, &c->shared, e) < 0)
			return -1;
		first += done;
		if (first == after)
			break;
		if (c->repair)
			c->repair->overflow = true;
		check_found(c, FOUND_OVERFLOW, (struct place){first << bits, guest}, first << bits, 0, 0);
		first++;
	}
	return 0;
}

/* A name from the image as it may be shown. */
static const char *printable(const char *name, char buf[64])
{
	size_t n = 0;
	for (; name[n] && n < 63; n++)
		buf[n] = (unsigned char)name[n] < ' ' || name[n] == 0x7f ? '?' : name[n];
	buf[n] = 0;
	return buf;
}

static int check_snapshot(struct check *c, const struct qcow2_snapshot *s, struct error *e)
{
	const struct place at = {s->entry.l1_offset, NOWHERE};
	char id[64], name[64];
	if (geometry_in_cluster(c->g, s->entry.l1_offset)) {
		check_found_text(c, FOUND_SNAPSHOT_L1_UNALIGNED, at,
			"ERROR snapshot %s (%s) l1_offset=%#llx: L1 table is not cluster aligned; snapshot table entry "
			"corrupted",
			printable(s->id, id), printable(s->name, name), (unsigned long long)s->entry.l1_offset);
		return 0;
	}
	if (s->entry.l1_entries > QCOW2_MAX_L1_BYTES / 8) {
		check_found_text(c, FOUND_SNAPSHOT_L1_TOO_LARGE, at,
			"ERROR snapshot %s (%s) l1_size=%#x: L1 table is too large; snapshot table entry corrupted",
			printable(s->id, id), printable(s->name, name), s->entry.l1_entries);
		return 0;
	}
	if (check_spend(c, &c->budget, (uint64_t)s->entry.l1_entries * 8, "L1 tables of snapshots", e) < 0)
		return -1;
	return check_walk(c, s->entry.l1_offset, s->entry.l1_entries, false, e);
}

/* Version 3 asks for the size of the disk and of the VM state in each entry, FORMAT.md §8.3. */
void check_snapshot_table(struct check *c)
{
	enum { EXTRA_NEEDED = 16 };
	for (uint32_t i = 0; i < c->q->snapshot_count && c->q->h.version >= 3; i++)
		if (c->q->snapshots[i].entry.extra_bytes < EXTRA_NEEDED)
			(repair_is(c, REPAIR_ALL) ? check_fixed : check_found)(c, FOUND_SNAPSHOT_INCOMPLETE,
				(struct place){c->q->h.snapshots_offset, NOWHERE}, i, 0, 0);
}

static int check_snapshots(struct check *c, struct error *e)
{
	const struct qcow2 *q = c->q;
	uint64_t bytes = 0;
	if (c->data_file && q->snapshot_count)
		check_found(c, FOUND_SNAPSHOTS_DATA_FILE, (struct place){NOWHERE, NOWHERE}, q->snapshot_count, 0, 0);
	for (uint32_t i = 0; i < q->snapshot_count; i++) {
		if (check_snapshot(c, &q->snapshots[i], e) < 0)
			return err_prefix(e, "snapshot %s", q->snapshots[i].id);
		bytes += q->snapshots[i].entry.bytes;
	}
	return check_refer(c, q->h.snapshots_offset, bytes, NOWHERE, e);
}

static int check_bitmap(struct check *c, const struct bitmap_entry *b, struct error *e)
{
	enum { CHUNK = 8192 }; /* entries */
	const uint64_t bytes = (uint64_t)b->table_entries * 8;
	if (check_refer(c, b->table_offset, bytes, NOWHERE, e) < 0)
		return -1;
	AUTO_FREE uint8_t *table = mem_alloc_pages(CHUNK * 8, "bitmap table", e);
	if (!table || check_spend(c, &c->budget, bytes, "bitmap tables", e) < 0)
		return -1;
	if (counts_get(&c->counts, b->table_offset >> c->g->cluster_bits) > 1 &&
		check_spend(c, &c->aliases, bytes, "bitmap tables", e) < 0)
		return -1;
	for (uint32_t i = 0; i < b->table_entries; i += CHUNK) {
		const uint32_t n = b->table_entries - i < CHUNK ? b->table_entries - i : CHUNK;
		const uint64_t at = b->table_offset + (uint64_t)i * 8;
		if (at >= c->file_bytes)
			break;
		if (io_read(c->file, table, (size_t)n * 8, at, e) < 0)
			return err_prefix(e, "bitmap table at 0x%llx", (unsigned long long)b->table_offset);
		for (uint32_t k = 0; k < n; k++) {
			const uint64_t raw = get_be64(table + (size_t)k * 8);
			uint64_t host;
			bool ones;
			struct error bad;
			if (bitmap_table_entry_decode(c->g, raw, &host, &ones, &bad) < 0)
				check_found(c, FOUND_BITMAP_TABLE_ENTRY, (struct place){at + (uint64_t)k * 8, NOWHERE},
					(uint64_t)i + k, raw, 0);
			else if (host && check_refer(c, host, c->g->cluster_size, NOWHERE, e) < 0)
				return -1;
		}
	}
	return 0;
}

static int check_bitmaps(struct check *c, struct error *e)
{
	const struct qcow2 *q = c->q;
	const struct bitmaps_extension *d = &q->bitmap_directory;
	if (check_refer(c, d->directory_offset, d->directory_bytes, NOWHERE, e) < 0)
		return -1;
	for (uint32_t i = 0; i < q->bitmap_count; i++)
		if (check_bitmap(c, &q->bitmaps[i].entry, e) < 0)
			return err_prefix(e, "bitmap %s", q->bitmaps[i].name);
	return 0;
}

int check_collect(struct check *c, struct error *e)
{
	const struct header *h = &c->q->h;
	if (check_refer(c, 0, c->g->cluster_size, NOWHERE, e) < 0)
		return -1;
	if (check_walk(c, h->l1_offset, h->l1_entries, true, e) < 0 || check_snapshots(c, e) < 0)
		return -1;
	if (check_refer(c, h->reftable_offset, c->reftable_entries * 8, NOWHERE, e) < 0)
		return -1;
	return check_bitmaps(c, e) < 0 ? -1 : check_refblocks(c, e);
}

static int check_all(struct check *c, struct error *e)
{
	check_snapshot_table(c);
	if (check_reftable_load(c, e) < 0 || check_collect(c, e) < 0 || check_compare(c, e) < 0 ||
		check_copied(c, e) < 0)
		return -1;
	c->out->image_end_offset = max_u64(c->highest, 1) << c->g->cluster_bits;
	return 0;
}

static void work(void *job, unsigned worker)
{
	struct check_job *j = job;
	(void)worker;
	j->failed = j->work(j, &j->error) < 0;
}

/* What the file really holds; a device or memory counts in full. */
static uint64_t real_bytes(const struct io *file)
{
	uint64_t bytes = io_file_fd(file) >= 0 ? io_file_allocated(file) : 0;
	return bytes && !(file->caps & IO_IS_DEVICE) ? min_u64(bytes, file->size) : file->size;
}

int check_counts_begin(const struct check *c, struct counts *counts, struct error *e)
{
	/* A page of counts (4 KiB) stands for tables of 32 KiB when the image is dense; some hundred times less still passes. */
	const uint64_t bytes_limit = (64ull << 20) + 4 * c->real_bytes;
	const uint64_t clusters = geometry_clusters(c->g, c->file_bytes);
	if (clusters > INT_MAX)
		return err_set(e, ERR_LIMIT, "a file of %llu clusters is more than can be checked",
			(unsigned long long)clusters);
	return counts_init(counts, clusters, refcount_max(c->g->refcount_order), bytes_limit, e);
}

int check_begin(struct check *c, struct layer *l, const struct check_opts *opts, struct check_result *out,
	struct error *e)
{
	const uint64_t real = real_bytes(l->file);
	*c = (struct check){
		.q = l->q,
		.file = l->file,
		.g = &l->q->g,
		.opts = opts,
		.out = out,
		.data_file = l->q->h.incompatible & INCOMPAT_DATA_FILE,
		.file_bytes = l->file->size,
		.real_bytes = real,
		.budget = BUDGET_BYTES + 4 * real,
		.aliases = ALIAS_BYTES,
		.progress_total = l->q->h.l1_entries,
	};
	*out = (struct check_result){.total_clusters = geometry_clusters(c->g, align_down(l->q->h.size, 512))};
	c->job_count = opts->threads ? opts->threads + JOBS_SPARE : JOBS_SERIAL;
	c->jobs = mem_calloc(c->job_count, sizeof *c->jobs, "windows of tables", e);
	if (!c->jobs || check_counts_begin(c, &c->counts, e) < 0)
		return -1;
	return pool_new(&c->pool, opts->threads, c->job_count, work, e);
}

void check_end(struct check *c)
{
	pool_free(c->pool);
	for (unsigned i = 0; c->jobs && i < c->job_count; i++) {
		free(c->jobs[i].window);
		free(c->jobs[i].events);
	}
	free(c->jobs);
	free(c->l1_chunks);
	free(c->reftable);
	counts_free(&c->counts);
}

int qcow2_check(struct layer *l, const struct check_opts *opts, struct check_result *out, struct error *e)
{
	struct check c;
	int rc = check_begin(&c, l, opts, out, e);
	if (rc == 0)
		rc = check_all(&c, e);
	check_end(&c);
	return rc < 0 ? err_prefix(e, "%s", l->file->name) : 0;
}
