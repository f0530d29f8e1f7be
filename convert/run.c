/* SPDX-License-Identifier: Apache-2.0
 *
 * convert_run: opens the sources, chooses how the target is written (a file, a device, a stream with or without a spool),
 * runs the passes that this takes, proves that the source held still, and only then gives the target its name.
 */
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "convert/internal.h"

struct conversion {
	const struct convert_opts *opts;
	struct image_create create;
	struct plan plan;
	struct work work;
	struct target *target, *data_target;
	struct chain *existing; /* -n: the qcow2 image whose options the new one has */
	struct convert_result *result;
	unsigned threads;
	bool new_file; /* the target starts empty and reads as zeros */
};

static void close_all(struct conversion *c)
{
	work_free(&c->work);
	for (unsigned i = 0; c->plan.sources && i < c->plan.source_count; i++) {
		walk_free(c->plan.sources[i].walk);
		chain_close(c->plan.sources[i].chain);
	}
	free(c->plan.sources);
	target_close(c->data_target);
	target_close(c->target);
	chain_close(c->existing);
}

static int open_sources(struct conversion *c, struct error *e)
{
	const struct convert_opts *o = c->opts;
	c->plan.sources = mem_calloc(o->source_count, sizeof *c->plan.sources, "sources", e);
	if (!c->plan.sources)
		return -1;
	c->plan.source_count = o->source_count;
	for (unsigned i = 0; i < o->source_count; i++) {
		struct source *s = &c->plan.sources[i];
		if (chain_open(&s->chain, o->sources[i].name, &o->sources[i].open, e) < 0)
			return -1;
		s->start = c->plan.total;
		s->end = o->sources[i].end ? min_u64(o->sources[i].end, s->chain->size) : s->chain->size;
		s->skip = min_u64(o->sources[i].skip, s->end);
		s->len = align_up(s->end - s->skip, 512);
		if (s->chain->size > INT64_MAX - 511 || add_overflows(c->plan.total, s->len, &c->plan.total))
			return err_set(e, ERR_LIMIT, "%s: the disks together are too large", o->sources[i].name);
		if (walk_new(&s->walk, s->chain, s->chain->count, WALK_FILE_HOLES, e) < 0)
			return -1;
	}
	c->create.size = c->plan.total;
	c->result->virtual_size = c->plan.total;
	return 0;
}

static struct io_identity stat_identity(const struct stat *st)
{
	if (S_ISBLK(st->st_mode))
		return (struct io_identity){.dev = st->st_rdev};
	return (struct io_identity){.dev = st->st_dev, .ino = st->st_ino};
}

static bool same_file(const struct io *io, const struct io_identity *id)
{
	struct io_identity its;
	return io_file_identity(io, &its) && its.dev == id->dev && its.ino == id->ino;
}

/* The layer of a source that is the file `path`, or -1. */
static int find_layer(const struct chain *chain, const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return -1;
	struct io_identity id = stat_identity(&st);
	for (unsigned i = 0; i < chain->count; i++)
		if (same_file(chain->layers[i].file, &id) || same_file(chain->layers[i].data, &id))
			return (int)i;
	return -1;
}

static int refuse_source_as_target(const struct conversion *c, const char *path, struct error *e)
{
	for (unsigned i = 0; path && i < c->plan.source_count; i++) {
		int layer = find_layer(c->plan.sources[i].chain, path);
		if (layer >= 0)
			return err_set(e, ERR_USAGE, "%s: the target is %s", path,
				layer ? "a backing file of the source" : "the source itself");
	}
	return 0;
}

/* -B: which layers the target's backing file stands for. One that is a layer of the source: that one and all below; any other
 * is taken at the user's word to show what the source's own backing file shows. */
static int plan_backing(struct conversion *c, struct error *e)
{
	const struct convert_opts *o = c->opts;
	c->plan.backing_depth = UINT32_MAX;
	if (!c->create.backing_name)
		return 0;
	if (o->source_count > 1)
		return err_set(e, ERR_USAGE,
			"Having a backing file for the target makes no sense when concatenating multiple input images");
	const struct chain *chain = c->plan.sources[0].chain;
	AUTO_FREE char *path = image_backing_path(strcmp(o->target, "-") ? o->target : "", c->create.backing_name, e);
	if (!path)
		return -1;
	int layer = find_layer(chain, path);
	unsigned depth = layer > 0 ? (unsigned)layer : 1;
	if (depth < chain->count)
		c->plan.backing_depth = depth;
	return 0;
}

static void set_up_work(struct conversion *c)
{
	const struct convert_opts *o = c->opts;
	struct work *w = &c->work;
	bool qcow2 = c->create.format == IMAGE_QCOW2;
	bool direct = o->target_opts.direct || o->sources[0].open.direct;
	uint64_t granule = 4096;
	while (o->sparse_bytes >= 512 && granule > o->sparse_bytes)
		granule >>= 1;
	w->opts = o;
	w->plan = &c->plan;
	w->compress = o->compress;
	w->pass_through = o->compress && !o->recompress && !c->create.level.small_window && !c->create.level.level;
	w->cluster_size = qcow2 ? c->create.cluster_size : 0;
	w->granule = qcow2 ? c->create.cluster_size : granule;
	c->plan.unit = qcow2 ? c->create.cluster_size : 4096;
	c->plan.job_bytes = max_u64(direct ? 2 << 20 : 512 << 10, c->plan.unit);
	c->plan.write_zeros = o->sparse_bytes == 0 || (!qcow2 && c->create.prealloc == PREALLOC_FULL);
	c->plan.clone = c->plan.unit % 4096 == 0 && !o->compress && !o->no_reflink && c->create.prealloc == PREALLOC_OFF && !c->plan.write_zeros;
	c->plan.clone_align = 4096;
	c->threads = direct && o->threads ? max_u64(o->threads, 4) : o->threads;
}

/* ---- one pass into one sink ---- */

static int run_into(struct conversion *c, struct sink *sink, uint64_t done, uint64_t progress_total, struct error *e)
{
	c->work.sink = sink;
	if (work_init(&c->work, c->threads, e) < 0)
		return -1;
	int r = pipeline_run(&c->work, c->threads, done, progress_total, c->result, e);
	if (r == 0)
		r = sink->ops->finish(sink, c->plan.total, e);
	c->result->written_bytes = sink->written;
	c->result->cloned_bytes = sink->cloned;
	work_free(&c->work);
	return r;
}

static int pass_raw(struct conversion *c, struct io *io, bool ordered, struct error *e)
{
	const struct convert_opts *o = c->opts;
	struct raw_sink_opts so = {.ordered = ordered,
		.zeros_needed = !c->new_file && !o->target_is_zero,
		.copy_range = o->copy_range,
		.set_size = !(io->caps & IO_IS_DEVICE)};
	struct sink *sink;
	if (!ordered && io->size < c->plan.total && !c->new_file)
		return err_set(e, ERR_USAGE, "%s: the target is smaller (%llu bytes) than the source (%llu)", o->target,
			(unsigned long long)io->size, (unsigned long long)c->plan.total);
	if (!ordered && c->create.prealloc == PREALLOC_FALLOC && io_file_reserve(io, 0, c->plan.total, e) < 0)
		return -1;
	if (sink_raw_new(&sink, io, &so, e) < 0)
		return -1;
	int r = run_into(c, sink, 0, c->plan.total, e);
	sink_close(sink);
	return r;
}

/* How one pass makes a qcow2 image. */
struct qcow2_pass {
	struct io *file, *data;      /* data: an external data file or NULL */
	const uint8_t *header_first; /* from a dry run, NULL: the header comes last */
	uint8_t *keep_header;        /* dry run: a cluster's bytes for the header found; NULL: not wanted */
	bool ordered, layout_only;
	uint64_t done, progress_total;
};

static int pass_qcow2(struct conversion *c, const struct qcow2_pass *p, struct error *e)
{
	struct writer *writer = NULL;
	struct sink *sink = NULL;
	struct qcow2_sink_opts so = {.data = p->data ? p->data : p->file,
		.cluster_size = c->create.cluster_size,
		.ordered = p->ordered,
		.layout_only = p->layout_only,
		.external_data = p->data != NULL,
		.copy_range = c->opts->copy_range};
	c->work.layout_only = p->layout_only;
	int r = writer_new(&writer, &c->create, p->file, p->data, e);
	if (r == 0 && p->ordered)
		writer_ascending(writer);
	if (r == 0 && p->header_first)
		r = writer_header_first(writer, p->header_first, e);
	if (r == 0)
		r = sink_qcow2_new(&sink, writer, &so, e);
	if (r == 0)
		r = run_into(c, sink, p->done, p->progress_total, e);
	if (r == 0 && p->keep_header)
		memcpy(p->keep_header, writer_header(writer), c->create.cluster_size);
	c->result->target_bytes = r == 0 ? writer_file_size(writer) : 0;
	sink_close(sink);
	writer_free(writer);
	return r;
}

/* ---- to a stream ---- */

/* The header of a qcow2 stream comes first, so its contents must be known: from a dry run over metadata, or over the data
 * itself (--two-pass). */
static int stream_qcow2(struct conversion *c, struct io *out, struct error *e)
{
	struct io *nowhere;
	uint64_t total = c->plan.total;
	bool twice = c->opts->compress;
	AUTO_FREE uint8_t *header = mem_calloc(1, c->create.cluster_size, "header", e);
	if (!header || io_null_new(&nowhere, e) < 0)
		return -1;
	c->work.by_metadata = !twice;
	struct qcow2_pass dry = {.file = nowhere,
		.keep_header = header,
		.ordered = true,
		.layout_only = !twice,
		.progress_total = twice ? 2 * total : 0};
	/* the layout run is not what the user waits for: no progress of its own */
	struct progress *shown = c->opts->progress;
	struct convert_opts quiet = *c->opts;
	struct progress cancel_only = {.cancel = shown ? shown->cancel : NULL};
	if (!twice)
		quiet.progress = &cancel_only;
	c->work.opts = &quiet;
	int r = pass_qcow2(c, &dry, e);
	io_close(nowhere);
	c->work.opts = c->opts;
	c->result->read_bytes = 0;
	if (r < 0)
		return -1;
	struct qcow2_pass wet = {.file = out,
		.header_first = header,
		.ordered = true,
		.done = twice ? total : 0,
		.progress_total = twice ? 2 * total : total};
	return pass_qcow2(c, &wet, e);
}

/* Compressed sizes are known only afterwards: the image is made in an unnamed file and sent from there. */
static int spool_qcow2(struct conversion *c, struct io *out, struct error *e)
{
	struct io *spool;
	if (io_spool_new(&spool, c->opts->spool_dir, e) < 0)
		return -1;
	struct qcow2_pass pass = {.file = spool, .progress_total = c->plan.total};
	int r = pass_qcow2(c, &pass, e);
	c->result->spool_bytes = c->result->target_bytes;
	if (r == 0)
		r = convert_copy(out, 0, spool, 0, c->result->target_bytes, e);
	io_close(spool);
	return r;
}

static int stream_passes(struct conversion *c, struct io_stream *stream, struct error *e)
{
	AUTO_IO struct io *out = NULL;
	if (io_from_stream(&out, stream, e) < 0)
		return -1;
	c->new_file = true;
	c->plan.clone = false;
	int r = c->create.format == IMAGE_RAW             ? pass_raw(c, out, true, e)
		: c->opts->compress && !c->opts->two_pass ? spool_qcow2(c, out, e)
							  : stream_qcow2(c, out, e);
	c->result->target_bytes = stream->pos;
	return r;
}

static int verify_sources(struct conversion *c, struct error *e)
{
	for (unsigned i = 0; i < c->plan.source_count; i++) {
		struct qcow2 *q = c->plan.sources[i].chain->layers[0].q;
		if (q && q->snapshot >= 0 && qcow2_snapshot_verify(q, e) < 0)
			return err_prefix(e, "%s", c->plan.sources[i].chain->layers[0].path);
	}
	return 0;
}

static int to_stream(struct conversion *c, struct error *e)
{
	const struct convert_opts *o = c->opts;
	struct io_stream *pipe = NULL, *hashed = NULL;
	struct hash *hash = NULL;
	if (c->create.prealloc > PREALLOC_METADATA || c->create.data_file)
		return err_set(e, ERR_USAGE, "a stream takes no preallocation and no data file");
	int r = io_stream_fd(&pipe, o->stream_fd, "standard output", e);
	if (r == 0 && o->hash)
		r = hash_new(&hash, o->hash, e) < 0 ? -1 : hash_stream_new(&hashed, pipe, hash, e);
	if (r == 0)
		r = stream_passes(c, hashed ? hashed : pipe, e);
	if (r == 0)
		r = verify_sources(c, e);
	if (r == 0)
		r = io_stream_finish(hashed ? hashed : pipe, e);
	if (r == 0 && hash)
		r = hash_finish(hash, c->result->digest, e);
	io_stream_close(hashed);
	io_stream_close(pipe);
	hash_free(hash);
	return r;
}

/* ---- to a file or device ---- */

static int open_targets(struct conversion *c, struct error *e)
{
	const struct convert_opts *o = c->opts;
	if (refuse_source_as_target(c, o->target, e) < 0 || refuse_source_as_target(c, c->create.data_file, e) < 0)
		return -1;
	struct target_opts opts = o->target_opts;
	if (c->existing)
		opts.in_place = false, opts.locked = true; /* a new image takes the old one's place */
	if (target_open(&c->target, o->target, &opts, e) < 0)
		return -1;
	c->new_file = target_is_new(c->target);
	if (!c->create.data_file)
		return 0;
	AUTO_FREE char *path = image_backing_path(o->target, c->create.data_file, e);
	return path ? target_open(&c->data_target, path, &o->target_opts, e) : -1;
}

static int to_file(struct conversion *c, struct error *e)
{
	const struct convert_opts *o = c->opts;
	if (open_targets(c, e) < 0)
		return -1;
	struct io *file = target_io(c->target), *data = c->data_target ? target_io(c->data_target) : NULL;
	c->plan.clone &= ((data ? data : file)->caps & IO_CAN_CLONE) != 0;
	struct qcow2_pass pass = {.file = file, .data = data, .progress_total = c->plan.total};
	int r = c->create.format == IMAGE_RAW ? pass_raw(c, file, false, e) : pass_qcow2(c, &pass, e);
	if (r < 0 || verify_sources(c, e) < 0)
		return -1;
	if (c->create.format == IMAGE_RAW)
		c->result->target_bytes = c->plan.total;
	if (o->hash && hash_io(file, c->result->target_bytes, o->hash, c->result->digest, e) < 0)
		return -1;
	if (c->data_target && target_commit(c->data_target, e) < 0)
		return -1;
	return target_commit(c->target, e);
}

void convert_defaults(struct convert_opts *o)
{
	memset(o, 0, sizeof *o);
	image_create_defaults(&o->create, IMAGE_RAW);
	o->sparse_bytes = 4096;
	o->threads = pool_cpu_count();
	o->stream_fd = -1;
}

int convert_run(const struct convert_opts *o, struct convert_result *out, struct error *e)
{
	struct conversion c = {.opts = o, .create = o->create, .result = out};
	memset(out, 0, sizeof *out);
	int r = o->hash ? hash_known(o->hash, e) : 0;
	if (r == 0)
		r = open_sources(&c, e);
	if (r == 0)
		r = o->compress && c.create.format == IMAGE_RAW
			    ? err_set(e, ERR_USAGE, "Compression not supported for this file format")
			    : image_create_check(&c.create, e);
	if (r == 0 && o->in_place && c.create.format == IMAGE_QCOW2)
		r = existing_qcow2(&c.existing, o->target, &c.create, e);
	if (r == 0)
		r = plan_backing(&c, e);
	if (r == 0) {
		set_up_work(&c);
		r = strcmp(o->target, "-") == 0 ? to_stream(&c, e) : to_file(&c, e);
	}
	close_all(&c);
	return r;
}
