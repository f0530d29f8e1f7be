/* SPDX-License-Identifier: Apache-2.0
 *
 * rebase: another backing file under an image whose disk stays the same (FORMAT.md §10). What the image leaves to its backing file,
 * and what the new one would not show, comes into the image.
 * order: snapshots looked at, before any write, or given clusters of their own; clusters, flush; then the name in the header.
 */
#include "convert/internal.h"

struct rebase {
	const struct rebase_opts *o;
	struct edited top;
	const struct geometry *g;
	uint64_t size;
};

/* What the image itself does not have, from `pos` on. */
static int next_hole(void *ctx, uint64_t pos, uint64_t *start, uint64_t *end, struct error *e)
{
	struct rebase *r = ctx;
	struct extent x;

	for (; pos < r->size; pos += x.len) {
		if (edit_extent(r->top.ed, pos, r->size - pos, &x, e))
			return -1;
		if (x.kind == EXTENT_ABSENT) {
			*start = pos;
			*end = pos + x.len;
			return 1;
		}
	}
	return 0;
}

static int store_compressed(struct rebase *r, uint64_t guest, uint64_t len, const uint8_t *bytes, struct error *e)
{
	uint64_t size = r->g->cluster_size;

	while (len) {
		uint64_t n = min_u64(len, size - geometry_in_cluster(r->g, guest));
		bool whole = n == size || (!geometry_in_cluster(r->g, guest) && guest + n == r->size);

		if (whole ? edit_write_compressed(r->top.ed, bytes, n, guest, e)
			  : edit_write(r->top.ed, bytes, n, guest, e))
			return -1;
		guest += n;
		bytes += n;
		len -= n;
	}
	return 0;
}

static int store(void *ctx, uint64_t guest, uint64_t len, const uint8_t *bytes, struct error *e)
{
	struct rebase *r = ctx;

	if (!bytes)
		return edit_zero(r->top.ed, guest, len, EDIT_SAY_ZERO | EDIT_MAY_UNMAP, e);
	return r->o->compress ? store_compressed(r, guest, len, bytes, e) : edit_write(r->top.ed, bytes, len, guest, e);
}

static int bring_in(struct rebase *r, struct chain *now, struct error *e)
{
	const struct rebase_opts *o = r->o;
	struct chain *onto = o->onto;
	struct transfer t = {.compare = true,
		/* Version 2 cannot say "zero": it costs a cluster, so it had better be needed. */
		.exact = o->image->layers[0].q->h.version < 3,
		.unit = o->compress ? r->g->cluster_size : 1ull << r->g->subcluster_bits,
		.total = r->size,
		.range = next_hole,
		.take = store,
		.ctx = r,
		.threads = o->threads,
		.progress = o->progress};
	int failed = side_open(&t.from, now, now ? now->count : 0, 0, e) ||
		     side_open(&t.onto, onto, onto ? onto->count : 0, 0, e) || transfer_run(&t, e);

	side_close(&t.from);
	side_close(&t.onto);
	return failed ? -1 : 0;
}

static int put_name(struct edit *ed, const struct rebase_opts *o, struct error *e)
{
	const struct header_strings strings = {.backing_name = o->backing_name,
		.backing_format = o->backing_format,
		.data_file_name = o->image->layers[0].q->data_file_name};

	return edit_set_strings(ed, &strings, e);
}

static int refuse(const struct rebase_opts *o, struct chain *now, struct error *e)
{
	const struct qcow2 *q = o->image->layers[0].q;
	struct progress quiet = {.cancel = o->progress ? o->progress->cancel : NULL};
	const struct state_change change = {
		.chain = o->image, .below = 1, .now = now, .to = o->onto, .threads = o->threads, .cancel = &quiet};

	if (o->backing_name && (q->h.autoclear & AUTOCLEAR_DATA_FILE_RAW))
		return err_set(e, ERR_UNSUPPORTED, "an image with a raw external data file cannot have a backing file");
	if (o->compress && (q->h.incompatible & INCOMPAT_DATA_FILE))
		return err_set(e, ERR_UNSUPPORTED, "there is no compression with an external data file");
	if (o->unsafe)
		return 0;
	return (o->flatten_snapshots && states_flatten(&change, e)) || states_refuse_change(&change, e) ? -1 : 0;
}

int convert_rebase(const struct rebase_opts *o, struct error *e)
{
	const struct layer *top = &o->image->layers[0];
	struct rebase r = {.o = o, .g = &top->q->g, .size = top->q->size};
	struct chain below = {.layers = o->image->layers + 1, .count = o->image->count - 1};
	struct chain *now = below.count ? &below : NULL;
	struct error unsaid;
	int failed;

	below.size = now ? below.layers[0].size : 0;
	if (refuse(o, now, e) || edited_open(&r.top, o->image, 0, o->progress, e))
		return -1;
	failed = (!o->unsafe && (bring_in(&r, now, e) || edit_flush(r.top.ed, e))) || put_name(r.top.ed, o, e);
	return edited_close(&r.top, failed ? &unsaid : e) || failed ? -1 : 0;
}
