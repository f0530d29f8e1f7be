/* SPDX-License-Identifier: Apache-2.0
 *
 * A raw target: guest bytes at their own offset. A file or device is written by the workers in any order; a stream by the
 * planner's thread, ascending.
 */
#include "convert/internal.h"

struct raw_sink {
	struct sink base;
	struct io *target;
	struct raw_sink_opts opts;
	atomic_ullong written;
};

static int raw_zero(struct raw_sink *s, uint64_t guest, uint64_t len, struct error *e)
{
	if (s->opts.ordered || !s->opts.zeros_needed)
		return 0; /* a stream's gaps become zeros; a new file has them */
	return io_zero(s->target, guest, len, IO_ZERO_UNMAP, e);
}

static int raw_write_pieces(struct raw_sink *s, struct job *job, struct error *e)
{
	for (unsigned i = 0; i < job->piece_count; i++) {
		const struct piece *p = &job->pieces[i];
		int r = p->kind == PIECE_DATA ? io_write(s->target, p->bytes, p->len, p->guest, e)
					      : raw_zero(s, p->guest, p->len, e);
		if (r < 0)
			return -1;
		if (p->kind == PIECE_DATA)
			atomic_fetch_add_explicit(&s->written, p->len, memory_order_relaxed);
	}
	return 0;
}

static int raw_place(struct sink *base, struct job *job, struct error *e)
{
	return raw_write_pieces((struct raw_sink *)base, job, e);
}

/* The file system may refuse what looked possible: then the bytes are copied here, and no more clones are planned. */
static int raw_clone(struct raw_sink *s, struct job *job, struct error *e)
{
	const struct extent *x = &job->extents[0];
	int r = s->opts.copy_range ? io_copy_range(s->target, job->guest, x->file, x->host, job->len, e)
				   : io_clone(s->target, job->guest, x->file, x->host, job->len, e);
	if (r < 0)
		return -1;
	if (r == 0) {
		s->base.cloned += job->len;
		return 0;
	}
	s->base.clone_failed = true;
	s->base.written += job->len;
	return convert_copy(s->target, job->guest, x->file, x->host, job->len, e);
}

static int raw_commit(struct sink *base, struct job *job, struct error *e)
{
	struct raw_sink *s = (struct raw_sink *)base;
	if (job->kind == JOB_CLONE)
		return raw_clone(s, job, e);
	if (job->kind == JOB_SKIP)
		return job->skip_as == PIECE_ZERO ? raw_zero(s, job->guest, job->len, e) : 0;
	return s->opts.one_writer ? raw_write_pieces(s, job, e) : 0;
}

static int raw_finish(struct sink *base, uint64_t total, struct error *e)
{
	struct raw_sink *s = (struct raw_sink *)base;
	base->written += atomic_load(&s->written);
	if (s->opts.set_size && s->target->size < total)
		return io_truncate(s->target, total, e);
	return 0;
}

static void raw_close(struct sink *base)
{
	free(base);
}

static const struct sink_ops placed_ops = {.place = raw_place,
	.commit = raw_commit,
	.finish = raw_finish,
	.close = raw_close};
static const struct sink_ops committed_ops = {.commit = raw_commit, .finish = raw_finish, .close = raw_close};

int sink_raw_new(struct sink **out, struct io *target, const struct raw_sink_opts *opts, struct error *e)
{
	struct raw_sink *s = mem_calloc(1, sizeof *s, "sink", e);
	if (!s)
		return -1;
	s->base.ops = opts->one_writer ? &committed_ops : &placed_ops;
	s->base.light_commit = !opts->one_writer;
	s->target = target;
	s->opts = *opts;
	*out = &s->base;
	return 0;
}
