/* SPDX-License-Identifier: Apache-2.0
 *
 * One pass of the pipeline over the sources into one kind of target, from an empty sink to its finish.
 */
#include "convert/internal.h"

int pass_run(struct conversion *c, struct sink *sink, uint64_t done, uint64_t progress_total, struct error *e)
{
	c->work.sink = sink;
	int r = work_init(&c->work, c->threads, e);
	if (r == 0)
		r = pipeline_run(&c->work, c->threads, done, progress_total, c->result, e);
	work_free(&c->work);
	return r;
}

static int finish(struct conversion *c, struct sink *sink, struct error *e)
{
	int r = sink->ops->finish(sink, c->plan.total, e);
	c->result->written_bytes = sink->written;
	c->result->cloned_bytes = sink->cloned;
	return r;
}

int pass_raw(struct conversion *c, struct io *io, bool ordered, struct error *e)
{
	const struct convert_opts *o = c->opts;
	struct raw_sink_opts so = {.ordered = ordered,
		.one_writer = ordered || sink_one_writer(io, o),
		.zeros_needed = !c->new_file && !o->target_is_zero,
		.copy_range = o->copy_range,
		.set_size = !(io->caps & IO_IS_DEVICE)};
	struct sink *sink;
	if (!ordered && io->size < c->plan.total && !c->new_file)
		return err_set(e, ERR_USAGE, "%s: the target is smaller (%llu bytes) than the source (%llu)", o->target,
			(unsigned long long)io->size, (unsigned long long)c->plan.total);
	if (!ordered && c->create.prealloc == PREALLOC_FALLOC && io_file_reserve(io, 0, c->plan.total, e) < 0)
		return -1;
	if (io->caps & IO_FILLS && io_truncate(io, c->plan.total, e) < 0)
		return -1;
	if (sink_raw_new(&sink, io, &so, e) < 0)
		return -1;
	int r = pass_run(c, sink, 0, c->plan.total, e);
	if (r == 0)
		r = finish(c, sink, e);
	sink_close(sink);
	return r;
}

/* The states of the source, snapshots first, the active one last; then what belongs to the image as a whole. */
static int write_states(struct conversion *c, const struct qcow2_pass *p, struct writer *writer, struct sink *sink,
	struct error *e)
{
	uint64_t done = p->done, total = p->progress_total;
	if (c->opts->keep_snapshots &&
		snapshots_write(c, writer, sink, p->data ? p->data : p->file, &done, &total, e) < 0)
		return -1;
	if (pass_run(c, sink, done, total, e) < 0)
		return -1;
	if ((c->opts->bitmaps || c->opts->keep_snapshots) && bitmaps_write(c, writer, e) < 0)
		return -1;
	return finish(c, sink, e);
}

int pass_qcow2(struct conversion *c, const struct qcow2_pass *p, struct error *e)
{
	struct writer *writer = NULL;
	struct sink *sink = NULL;
	struct qcow2_sink_opts so = {.data = p->data ? p->data : p->file,
		.cluster_size = c->create.cluster_size,
		.ordered = p->ordered,
		.one_writer = sink_one_writer(p->data ? p->data : p->file, c->opts),
		.layout_only = p->layout_only,
		.external_data = p->data != NULL,
		.copy_range = c->opts->copy_range,
		.share = c->plan.share};
	c->work.layout_only = p->layout_only;
	int r = writer_new(&writer, &c->create, p->file, p->data, e);
	if (r == 0 && p->ordered)
		writer_ascending(writer);
	if (r == 0 && p->header_first)
		r = writer_header_first(writer, p->header_first, e);
	if (r == 0)
		r = sink_qcow2_new(&sink, writer, &so, e);
	if (r == 0)
		r = write_states(c, p, writer, sink, e);
	if (r == 0 && p->keep_header)
		memcpy(p->keep_header, writer_header(writer), c->create.cluster_size);
	c->result->target_bytes = r == 0 ? writer_file_size(writer) : 0;
	sink_close(sink);
	writer_free(writer);
	return r;
}
