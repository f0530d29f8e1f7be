/* SPDX-License-Identifier: Apache-2.0
 *
 * commit: what an image and the layers down to one of its backing files hold goes into that one (FORMAT.md §10). The disk reads the
 * same at every moment, for what is written below still shows from above.
 * order: snapshots looked at, before any write; the base's size; its data and tables, flush; only then the image is emptied.
 */
#include "convert/internal.h"

struct commit {
	const struct commit_opts *o;
	struct edited base; /* qcow2 */
	struct io *io;      /* the base's disk */
	uint64_t size;
};

static int next_range(void *ctx, uint64_t pos, uint64_t *start, uint64_t *end, struct error *e)
{
	const struct commit *c = ctx;

	(void)e;
	*start = pos;
	*end = c->size;
	return pos < c->size;
}

static int store(void *ctx, uint64_t guest, uint64_t len, const uint8_t *bytes, struct error *e)
{
	const struct commit *c = ctx;

	return bytes ? io_write(c->io, bytes, len, guest, e) : io_zero(c->io, guest, len, IO_ZERO_UNMAP, e);
}

static int copy_down(struct commit *c, struct error *e)
{
	const struct commit_opts *o = c->o;
	struct transfer t = {.absent_depth = o->base - 1,
		.unit = 1,
		.total = c->size,
		.range = next_range,
		.take = store,
		.ctx = c,
		.threads = o->threads,
		.rate_limit = o->rate_limit,
		.progress = o->progress};
	int failed = side_open(&t.from, o->image, o->base, WALK_FILE_HOLES, e) || transfer_run(&t, e);

	side_close(&t.from);
	return failed ? -1 : 0;
}

static int open_base(struct commit *c, struct error *e)
{
	struct layer *l = &c->o->image->layers[c->o->base];

	if (!l->q) {
		c->io = l->file;
		return 0;
	}
	return edited_open(&c->base, c->o->image, c->o->base, c->o->progress, e) || edit_io(&c->io, c->base.ed, e) ? -1
														   : 0;
}

static int close_base(struct commit *c, struct error *e)
{
	struct layer *l = &c->o->image->layers[c->o->base];

	if (!l->q)
		return 0;
	io_close(c->io);
	return edited_close(&c->base, e);
}

static int fill_base(struct commit *c, struct error *e)
{
	struct layer *l = &c->o->image->layers[c->o->base];
	struct error unsaid;
	int failed = open_base(c, e);

	if (!failed && l->size < c->size) {
		failed = io_truncate(c->io, c->size, e);
		l->size = failed ? l->size : c->size;
	}
	failed = failed || copy_down(c, e) || io_flush(c->io, e);
	return close_base(c, failed ? &unsaid : e) || failed ? -1 : 0;
}

static int empty_top(const struct commit *c, struct error *e)
{
	struct edited top;
	struct error unsaid;
	int failed;

	if (edited_open(&top, c->o->image, 0, c->o->progress, e))
		return -1;
	failed = edit_empty(top.ed, e);
	return edited_close(&top, failed ? &unsaid : e) || failed ? -1 : 0;
}

static int refuse(const struct commit_opts *o, struct error *e)
{
	struct chain base = {.layers = o->image->layers + o->base, .count = o->image->count - o->base};
	struct progress quiet = {.cancel = o->progress ? o->progress->cancel : NULL};
	const struct state_change change = {.chain = o->image,
		.below = o->base,
		.now = &base,
		.to = o->image,
		.written = o->image,
		.threads = o->threads,
		.cancel = &quiet};

	base.size = base.layers[0].size;
	return (o->flatten_snapshots && states_flatten(&change, e)) || states_refuse_change(&change, e) ? -1 : 0;
}

int convert_commit(const struct commit_opts *o, struct error *e)
{
	struct commit c = {.o = o, .size = o->image->size};

	if (refuse(o, e) || fill_base(&c, e))
		return -1;
	return o->keep ? 0 : empty_top(&c, e);
}
