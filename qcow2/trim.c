/* SPDX-License-Identifier: Apache-2.0
 *
 * Leaked clusters freed, free clusters punched, the free tail cut off (FORMAT.md §7.4, §12.4). What is free is what no pointer
 * reaches in a walk over all tables, as check does it; stored refcounts alone are not trusted.
 *
 * order: unknown autoclear bits, flush; refcounts that are too high, flush; COPIED, flush; the file's length; holes; flush.
 */
#include "qcow2/trim.h"

#include "qcow2/check_internal.h"
#include "qcow2/internal.h"

enum { DEVICE_BLOCK = 4096 }; /* what devices give back is whole ones */

struct trim {
	struct check c; /* its counts are those of the references */
	struct check_opts opts;
	struct check_result found;
	struct finding first; /* the first thing that is no leak */
	bool bad, dirty;
	uint64_t leaked; /* clusters */
	struct trim_result *out;
};

/* Whether the repair that is to come puts it right by the way. */
static bool follows_from_counts(const struct trim *t, const struct finding *f)
{
	const bool copied = f->code == FOUND_L1_COPIED || f->code == FOUND_L2_COPIED;
	if (t->dirty)
		return copied || f->code == FOUND_TOO_LOW;
	/* One reference and no COPIED: as long as the stored count was too high, that was right. */
	return copied && t->found.leaks && counts_get(&t->c.counts, f->host >> t->c.g->cluster_bits) == 1;
}

static void judge(void *ctx, const struct finding *f)
{
	struct trim *t = ctx;
	if (f->kind == FINDING_LEAK) {
		t->leaked += counts_get(&t->c.counts, f->host >> t->c.g->cluster_bits) == 0;
	} else if (f->kind != FINDING_NOTE && !t->bad && !follows_from_counts(t, f)) {
		t->bad = true;
		t->first = *f;
	}
}

static int walk(struct trim *t, struct layer *l, struct error *e)
{
	struct check *c = &t->c;
	t->leaked = 0;
	t->dirty = l->q->h.incompatible & INCOMPAT_DIRTY;
	if (check_begin(c, l, &t->opts, &t->found, e) < 0)
		return -1;
	c->stage = COMPARE_LOOK;
	check_snapshot_table(c);
	if (check_reftable_load(c, e) < 0 || check_collect(c, e) < 0 || check_compare(c, e) < 0 ||
		check_copied(c, e) < 0)
		return -1;
	if (t->bad)
		return err_set(e, ERR_CORRUPT, "the image is damaged, nothing was changed: %s", t->first.text);
	return 0;
}

static int repair(struct trim *t, struct layer *l, enum repair_mode mode, struct error *e)
{
	/* The walk has told how far it is; this is only waited for. */
	struct progress quiet = {.cancel = t->opts.progress ? t->opts.progress->cancel : NULL};
	const struct check_opts opts = {.threads = t->opts.threads, .progress = &quiet};
	struct check_result r;
	if (qcow2_repair(l, mode, &opts, &r, e) < 0)
		return -1;
	if (r.corruptions || r.leaks || r.check_errors)
		return err_set(e, ERR_CORRUPT, "the refcounts could not be made right, `check` tells why");
	return io_flush(l->file, e);
}

/* Something unknown may refer to clusters that are leaked for us; without its bit it does not count any more (FORMAT.md §3.5). */
static int clear_unknown(struct layer *l, struct error *e)
{
	struct header h = l->q->h;
	h.autoclear &= AUTOCLEAR_BITMAPS | AUTOCLEAR_DATA_FILE_RAW;
	return header_put(l->q, &h, e);
}

static int cut(struct trim *t, uint64_t end, struct error *e)
{
	struct io *file = t->c.file;
	if ((file->caps & IO_IS_DEVICE) || end >= file->size)
		return 0;
	const uint64_t more = file->size - end;
	if (io_truncate(file, end, e) < 0)
		return -1;
	t->out->truncated = more;
	return 0;
}

/* The first cluster in use from `from` on, or `end`. */
static uint64_t next_used(const struct counts *counts, uint64_t from, uint64_t end)
{
	for (uint64_t i = from; i < end && i < counts->room;) {
		const uint8_t *page = counts_page(counts, i);
		const uint64_t stop = min_u64(min_u64(align_down(i, COUNTS_PAGE) + COUNTS_PAGE, end), counts->room);
		for (; page && i < stop; i++)
			if (page[i % COUNTS_PAGE])
				return i;
		i = stop;
	}
	return end;
}

static int punch_run(struct trim *t, uint64_t host, uint64_t end, struct error *e)
{
	struct io *file = t->c.file;
	struct extent x;
	if (file->caps & IO_IS_DEVICE) {
		host = align_up(host, DEVICE_BLOCK);
		end = align_down(end, DEVICE_BLOCK);
	}
	for (; host < end; host = x.start + x.len) {
		if (io_extent(file, host, end - host, &x, e) < 0)
			return -1;
		if (x.kind != EXTENT_DATA)
			continue;
		const int rc = io_punch(file, x.start, x.len, e);
		if (rc < 0)
			return -1;
		t->out->cannot_punch |= rc > 0;
		t->out->punched += rc > 0 ? 0 : x.len;
	}
	return 0;
}

static int punch(struct trim *t, struct error *e)
{
	const struct counts *counts = &t->c.counts;
	struct io *file = t->c.file;
	const unsigned bits = t->c.g->cluster_bits;
	const uint64_t end = geometry_clusters(t->c.g, file->size), before = io_file_allocated(file);
	uint64_t i = 0;
	while (!t->out->cannot_punch && (i = counts_find_free(counts, i, 1, end)) != NOWHERE) {
		const uint64_t used = next_used(counts, i, end);
		if (progress_cancelled(t->opts.progress))
			return err_set(e, ERR_CANCELLED, "cancelled");
		if (punch_run(t, i << bits, min_u64(used << bits, file->size), e) < 0)
			return -1;
		i = used;
	}
	/* Blocks may be larger than clusters, and not each has been in use. */
	const uint64_t after = io_file_allocated(file);
	if (before)
		t->out->punched = before > after ? before - after : 0;
	return 0;
}

static int find_free(struct trim *t, struct layer *l, struct error *e)
{
	const int rc = walk(t, l, e);
	if (rc < 0 || !t->dirty)
		return rc;
	check_end(&t->c);
	t->c = (struct check){0};
	if (repair(t, l, REPAIR_ALL, e) < 0)
		return -1;
	return walk(t, l, e);
}

static int give_back(struct trim *t, struct layer *l, struct error *e)
{
	if (clear_unknown(l, e) < 0 || (t->found.leaks && repair(t, l, REPAIR_LEAKS, e) < 0))
		return -1;
	t->out->freed = t->leaked << t->c.g->cluster_bits;
	if (cut(t, max_u64(counts_end(&t->c.counts), 1) << t->c.g->cluster_bits, e) < 0 || punch(t, e) < 0)
		return -1;
	return io_flush(l->file, e);
}

int qcow2_trim(struct layer *l, unsigned threads, struct progress *progress, struct trim_result *out, struct error *e)
{
	struct trim t = {.out = out, .opts = {.threads = threads, .progress = progress, .found = judge, .ctx = &t}};
	*out = (struct trim_result){0};
	if (l->q->h.incompatible & INCOMPAT_CORRUPT)
		return err_set(e, ERR_CORRUPT, "%s: the image is marked as corrupt, nothing was changed", l->path);
	int rc = find_free(&t, l, e);
	if (rc == 0)
		rc = give_back(&t, l, e);
	check_end(&t.c);
	return rc < 0 ? err_prefix(e, "%s", l->path) : 0;
}
