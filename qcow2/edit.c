/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening an image for changes (FORMAT.md §12.4): L1 and refcount table come into memory, and every cluster that holds
 * metadata is noted, so that no data is ever written over one.
 */
#include "qcow2/check.h"
#include "qcow2/edit_internal.h"

#include <limits.h>

enum { BOUNCE_BYTES = 1 << 16 };

int edit_mark_corrupt(struct edit *ed, uint64_t host, const char *what, struct error *e)
{
	struct header h = ed->q->h;
	struct error unsaid;

	if (!ed->broken && h.version >= 3) {
		h.incompatible |= INCOMPAT_CORRUPT;
		(void)edit_put_header(ed, &h, &unsaid); /* what is told is why, not that */
	}
	ed->broken = true;
	return err_set(e, ERR_CORRUPT, "%s: host cluster at 0x%llx is %s; marked as corrupt, nothing more is written",
		ed->file->name, (unsigned long long)host, what);
}

static int write_failed(struct edit *ed)
{
	ed->broken = true;
	return -1;
}

int edit_write_table(struct edit *ed, const void *buf, size_t len, uint64_t host, const char *what, struct error *e)
{
	if (ed->broken)
		return err_set(e, ERR_IO, "%s: nothing more is written after a failure", ed->file->name);
	ed->unflushed = true;
	if (io_write(ed->file, buf, len, host, e)) {
		err_prefix(e, "%s at 0x%llx", what, (unsigned long long)host);
		return write_failed(ed);
	}
	return 0;
}

int edit_write_data(struct edit *ed, const void *buf, size_t len, uint64_t host, struct error *e)
{
	uint64_t first = host >> ed->g.cluster_bits, end = geometry_clusters(&ed->g, host + len);

	if (ed->broken)
		return err_set(e, ERR_IO, "%s: nothing more is written after a failure", ed->file->name);
	if (!ed->has_data_file && bits_any(&ed->metadata, first, end - first))
		return edit_mark_corrupt(ed, host, "metadata, and data was to be written there", e);
	ed->unflushed = true;
	return io_write(ed->data, buf, len, host, e);
}

int edit_sync(struct edit *ed, struct error *e)
{
	if (!ed->unflushed)
		return 0;
	/* What a failed flush lost is not known: a later one would not tell. */
	if ((ed->data != ed->file && io_flush(ed->data, e)) || io_flush(ed->file, e))
		return write_failed(ed);
	ed->unflushed = false;
	return 0;
}

int edit_flush(struct edit *ed, struct error *e)
{
	return edit_commit(ed, e) || edit_sync(ed, e) ? -1 : 0;
}

int edit_begin_change(struct edit *ed, struct error *e)
{
	struct header h = ed->q->h;

	if (ed->broken)
		return err_set(e, ERR_IO, "%s: nothing more is written after a failure", ed->file->name);
	if (ed->changed)
		return 0;
	h.autoclear &= AUTOCLEAR_BITMAPS | AUTOCLEAR_DATA_FILE_RAW;
	if (edit_put_header(ed, &h, e) || edit_bitmaps_begin(ed, e))
		return -1;
	ed->changed = true;
	return 0;
}

/* ---- what is where ---- */

int edit_add_metadata(struct edit *ed, uint64_t host, uint64_t bytes, struct error *e)
{
	uint64_t first = host >> ed->g.cluster_bits, end = geometry_clusters(&ed->g, host + bytes);

	if (!bytes)
		return 0;
	return bits_set(&ed->metadata, first, end - first, e);
}

/* The same for what the file says: it must lie in it and apart from all others. */
static int found_metadata(struct edit *ed, uint64_t host, uint64_t bytes, const char *what, struct error *e)
{
	uint64_t first = host >> ed->g.cluster_bits;

	if (!bytes)
		return 0;
	if (host >= ed->file->size || bytes > ed->file->size - host + ed->g.cluster_size)
		return err_set(e, ERR_CORRUPT, "%s at 0x%llx lies past the end of the file", what,
			(unsigned long long)host);
	if (bits_any(&ed->metadata, first, geometry_clusters(&ed->g, host + bytes) - first))
		return err_set(e, ERR_CORRUPT, "%s at 0x%llx overlaps other metadata", what, (unsigned long long)host);
	return edit_add_metadata(ed, host, bytes, e);
}

static int read_entries(struct edit *ed, uint64_t **out, uint64_t host, uint64_t n, const char *what, struct error *e)
{
	uint64_t *entries = mem_calloc(n + 1, sizeof *entries, what, e);

	free(*out);
	*out = entries;
	if (!entries || (n && io_read_exact(ed->file, entries, (size_t)n * 8, host, what, e)))
		return -1;
	for (uint64_t i = 0; i < n; i++)
		entries[i] = get_be64(&entries[i]);
	return found_metadata(ed, host, n * 8, what, e);
}

static int find_l2_tables(struct edit *ed, struct error *e)
{
	for (uint32_t i = 0; i < ed->l1_entries; i++) {
		uint64_t l2;

		if (l1_entry_decode(&ed->g, ed->l1[i], &l2, e))
			return err_prefix(e, "L1 entry %u", i);
		if (l2 && found_metadata(ed, l2, ed->g.cluster_size, "L2 table", e))
			return err_prefix(e, "L1 entry %u", i);
	}
	return 0;
}

static int find_refblocks(struct edit *ed, struct error *e)
{
	for (uint64_t i = 0; i < ed->reftable_entries; i++) {
		uint64_t host = ed->reftable[i] & REFTABLE_OFFSET_MASK;

		if (geometry_in_cluster(&ed->g, host))
			return err_set(e, ERR_CORRUPT,
				"refcount table entry %llu: block at 0x%llx is not cluster-aligned",
				(unsigned long long)i, (unsigned long long)host);
		ed->reftable[i] = host;
		if (host && found_metadata(ed, host, ed->g.cluster_size, "refcount block", e))
			return err_prefix(e, "refcount table entry %llu", (unsigned long long)i);
	}
	return 0;
}

static int find_snapshots(struct edit *ed, struct error *e)
{
	const struct qcow2 *q = ed->q;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < q->snapshot_count; i++) {
		const struct snapshot_entry *s = &q->snapshots[i].entry;

		bytes += s->bytes;
		if (l1_table_check(&ed->g, s->l1_offset, s->l1_entries, 0, e) ||
			found_metadata(ed, s->l1_offset, s->l1_entries * UINT64_C(8), "L1 table", e))
			return err_prefix(e, "snapshot '%s'", q->snapshots[i].name);
	}
	return q->snapshot_count ? found_metadata(ed, q->h.snapshots_offset, bytes, "snapshot table", e) : 0;
}

static int find_bitmaps(struct edit *ed, struct error *e)
{
	const struct qcow2 *q = ed->q;

	if (found_metadata(ed, q->bitmap_directory.directory_offset, q->bitmap_directory.directory_bytes,
		    "bitmap directory", e))
		return -1;
	for (uint32_t i = 0; i < q->bitmap_count; i++)
		if (found_metadata(ed, q->bitmaps[i].entry.table_offset,
			    q->bitmaps[i].entry.table_entries * UINT64_C(8), "bitmap table", e))
			return err_prefix(e, "bitmap '%s'", q->bitmaps[i].name);
	return 0;
}

int edit_reload(struct edit *ed, struct error *e)
{
	const struct header *h = &ed->q->h;

	if (geometry_clusters(&ed->g, ed->file->size) > INT_MAX)
		return err_set(e, ERR_LIMIT, "a file of %llu bytes is more than can be changed at this cluster size",
			(unsigned long long)ed->file->size);
	bits_free(&ed->metadata);
	ed->l1_entries = h->l1_entries;
	ed->reftable_entries = ((uint64_t)h->reftable_clusters << ed->g.cluster_bits) / 8;
	ed->l1_dirty_from = ed->l1_dirty_to = 0;
	ed->reftable_dirty_from = ed->reftable_dirty_to = 0;
	ed->free_cursor = ed->packed_at = 0;
	if (found_metadata(ed, 0, ed->g.cluster_size, "header", e) ||
		read_entries(ed, &ed->l1, h->l1_offset, h->l1_entries, "L1 table", e) ||
		read_entries(ed, &ed->reftable, h->reftable_offset, ed->reftable_entries, "refcount table", e))
		return -1;
	return find_l2_tables(ed, e) || find_refblocks(ed, e) || find_snapshots(ed, e) || find_bitmaps(ed, e) ? -1 : 0;
}

/* ---- opening and closing ---- */

static void edit_free(struct edit *ed)
{
	edit_bitmaps_free(ed);
	reader_free(ed->reader);
	codec_free(ed->codec);
	cache_free(ed);
	bits_free(&ed->metadata);
	free(ed->dropped);
	free(ed->bounce);
	free(ed->reftable);
	free(ed->l1);
	free(ed);
}

static int refuse(const struct layer *l, const struct edit_opts *opts, struct error *e)
{
	if (!l->q)
		return err_set(e, ERR_USAGE, "%s is not a qcow2 image", l->path);
	if (l->q->snapshot >= 0)
		return err_set(e, ERR_USAGE, "%s: a snapshot cannot be written to", l->path);
	if (!(l->file->caps & IO_CAN_WRITE))
		return err_set(e, ERR_USAGE, "%s was not opened for writing", l->path);
	if (!opts->keep_dirty && (l->q->h.incompatible & INCOMPAT_CORRUPT))
		return err_set(e, ERR_CORRUPT, "%s: Image is corrupt; cannot be opened read/write", l->path);
	return 0;
}

/* Makes the refcounts of an image right that is marked as dirty: they may be too low (FORMAT.md §12.1). */
static int repair_dirty(struct layer *l, const struct edit_opts *opts, struct error *e)
{
	const struct check_opts check = {.threads = pool_cpu_count(), .progress = opts->progress};
	struct check_result result;

	if (opts->keep_dirty || !(l->q->h.incompatible & INCOMPAT_DIRTY))
		return 0;
	if (qcow2_repair(l, REPAIR_ALL, &check, &result, e))
		return err_prefix(e, "Could not repair dirty image");
	if (l->q->h.incompatible & INCOMPAT_DIRTY)
		return err_set(e, ERR_CORRUPT,
			"%s: Could not repair dirty image: %llu errors are left, `check` names them", l->path,
			(unsigned long long)(result.corruptions + result.check_errors));
	return 0;
}

static int edit_start(struct edit *ed, const struct edit_opts *opts, struct error *e)
{
	ed->bounce_bytes = (size_t)max_u64(BOUNCE_BYTES, ed->g.cluster_size);
	ed->bounce = mem_alloc_pages(ed->bounce_bytes, "cluster", e);
	if (!ed->bounce || cache_init(ed, opts->cache_bytes, e) || reader_new(&ed->reader, e))
		return -1;
	return edit_reload(ed, e);
}

int edit_open(struct edit **out, struct layer *l, const struct edit_opts *opts, struct error *e)
{
	static const struct edit_opts no_opts = {0};
	struct edit *ed;

	if (refuse(l, opts ? opts : &no_opts, e) || repair_dirty(l, opts ? opts : &no_opts, e))
		return -1;
	ed = mem_calloc(1, sizeof *ed, "opened image", e);
	if (!ed)
		return -1;
	ed->l = l;
	ed->q = l->q;
	ed->file = l->file;
	ed->data = l->data;
	ed->g = l->q->g;
	ed->has_data_file = l->q->h.incompatible & INCOMPAT_DATA_FILE;
	if (opts) {
		ed->backing = opts->backing;
		ed->progress = opts->progress;
	}
	if (edit_start(ed, opts ? opts : &no_opts, e)) {
		edit_free(ed);
		return err_prefix(e, "%s", l->path);
	}
	*out = ed;
	return 0;
}

int edit_close(struct edit *ed, struct error *e)
{
	int failed = 0;

	if (!ed)
		return 0;
	if (ed->changed && !ed->broken) {
		failed = edit_commit(ed, e) || edit_bitmaps_store(ed, e);
		/* References given up last are still counted in the file. */
		failed = failed || edit_write_refblocks(ed, e) || edit_sync(ed, e);
	}
	edit_free(ed);
	return failed ? -1 : 0;
}
