/* SPDX-License-Identifier: Apache-2.0
 *
 * convert_run: opens the sources, chooses how the target is written (a file, a device, a stream with or without a spool),
 * runs the passes that this takes, proves that the source held still, and only then gives the target its name.
 */
#include <limits.h>

#include "convert/internal.h"

static void close_all(struct conversion *c)
{
	work_free(&c->work);
	for (unsigned i = 0; c->plan.sources && i < c->plan.source_count; i++) {
		walk_free(c->plan.sources[i].walk);
		chain_close(c->plan.sources[i].chain);
	}
	free(c->plan.sources);
	diff_free(c->plan.since);
	share_free(c->plan.share);
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

static int refuse_source_as_target(const struct conversion *c, const char *path, struct error *e)
{
	for (unsigned i = 0; path && i < c->plan.source_count; i++) {
		int layer = chain_find_file(c->plan.sources[i].chain, path);
		if (layer >= 0)
			return err_set(e, ERR_USAGE, "%s: the target is %s", path,
				layer ? "a backing file of the source" : "the source itself");
	}
	return 0;
}

/* A backing file that cannot be opened would make a target that cannot be. *layer: which one of the source's it is, or -1;
 * *size: of its disk. */
static int look_at_backing(const struct conversion *c, int *layer, uint64_t *size, struct error *e)
{
	const struct convert_opts *o = c->opts;
	struct chain_opts opts = {.no_backing = true, .inspect = true, .lock = o->sources[0].open.lock};
	AUTO_CHAIN struct chain *backing = NULL;
	AUTO_FREE char *path = image_backing_path(strcmp(o->target, "-") ? o->target : "", c->create.backing_name, e);
	if (!path || (c->create.backing_format && image_format_parse(c->create.backing_format, &opts.format, e) < 0))
		return -1;
	if (chain_open(&backing, path, &opts, e) < 0)
		return err_prefix(e, "Could not open backing file of '%s'", o->target);
	*layer = chain_find_file(c->plan.sources[0].chain, backing->layers[0].path);
	*size = backing->size;
	return 0;
}

/* -B: which layers the target's backing file stands for. One that is a layer of the source: that one and all below; any other
 * is taken at the user's word to show what the source's own backing file shows, as far as that one reaches. Zeros where a
 * layer above it ends early are the source's own (FORMAT.md §10.4). Without -B all is copied, also when the image of -n has a
 * backing file. */
static int plan_backing(struct conversion *c, struct error *e)
{
	const struct convert_opts *o = c->opts;
	c->plan.backing_depth = UINT32_MAX;
	if (c->plan.since && c->create.nameless_backing)
		since_backing(c, c->since.size);
	if (!o->create.backing_name || !c->create.backing_name)
		return 0;
	if (o->source_count > 1)
		return err_set(e, ERR_USAGE,
			"Having a backing file for the target makes no sense when concatenating multiple input images");
	const struct chain *chain = c->plan.sources[0].chain;
	int layer;
	uint64_t size;
	if (look_at_backing(c, &layer, &size, e) < 0)
		return -1;
	if (c->plan.since) {
		since_backing(c, size);
		return layer == 0 ? err_set(e, ERR_USAGE, "%s: the backing file is the source itself", o->target) : 0;
	}
	unsigned depth = layer > 0 ? (unsigned)layer : 1;
	if (depth < chain->count)
		c->plan.backing_depth = depth;
	c->plan.absent_depth = layer > 0 ? depth - 1 : depth;
	return 0;
}

int convert_verify(struct conversion *c, struct error *e)
{
	for (unsigned i = 0; i < c->plan.source_count; i++) {
		struct qcow2 *q = c->plan.sources[i].chain->layers[0].q;
		if (q && q->snapshot >= 0 && qcow2_snapshot_verify(q, e) < 0)
			return err_prefix(e, "%s", c->plan.sources[i].chain->layers[0].path);
	}
	const struct layer *top = &c->plan.sources[0].chain->layers[0];
	return c->plan.since && qcow2_state_verify(top->q, &c->since, e) < 0 ? err_prefix(e, "%s", top->path) : 0;
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
	c->plan.job_bytes = max_u64(direct ? 2 << 20 : o->compress ? 128 << 10 : 1 << 20, c->plan.unit);
	c->plan.write_zeros = o->sparse_bytes == 0 || (!qcow2 && c->create.prealloc == PREALLOC_FULL);
	c->plan.clone = c->plan.unit % 4096 == 0 && !c->plan.share && !o->compress && !o->no_reflink &&
			c->create.prealloc == PREALLOC_OFF && !c->plan.write_zeros;
	c->plan.clone_align = 4096;
	c->plan.salvage = o->salvage ? o : NULL;
	c->threads = direct && o->threads ? max_u64(o->threads, 4) : o->threads;
}

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
	/* a data file's name is taken from the current folder, not from the image's (FORMAT.md §11) */
	if (c->create.data_file && target_open(&c->data_target, c->create.data_file, &o->target_opts, e) < 0)
		return -1;
	return c->data_target && target_same(c->target, c->data_target)
		       ? err_set(e, ERR_USAGE, "%s: the image cannot be its own data file", o->target)
		       : 0;
}

static int to_file(struct conversion *c, struct error *e)
{
	const struct convert_opts *o = c->opts;
	if (open_targets(c, e) < 0)
		return -1;
	struct io *file = target_io(c->target), *data = c->data_target ? target_io(c->data_target) : NULL;
	c->plan.clone &= ((data ? data : file)->caps & IO_CAN_CLONE) != 0;
	struct qcow2_pass pass = {.file = file, .data = data, .progress_total = c->plan.total};
	const struct progress cancel = {.cancel = o->progress ? o->progress->cancel : NULL};
	int r = c->create.format == IMAGE_RAW ? pass_raw(c, file, false, e) : pass_qcow2(c, &pass, e);
	if (r < 0 || convert_verify(c, e) < 0)
		return -1;
	if (c->create.format == IMAGE_RAW)
		c->result->target_bytes = c->plan.total;
	if (o->hash && hash_io(file, c->result->target_bytes, o->hash, &cancel, c->result->digest, e) < 0)
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

/* What a raw target cannot hold is refused rather than dropped. */
static int check_target(const struct conversion *c, struct error *e)
{
	bool raw = c->create.format == IMAGE_RAW;
	if (raw && c->opts->compress)
		return err_set(e, ERR_USAGE, "Compression not supported for this file format");
	if (raw && c->opts->bitmaps)
		return err_set(e, ERR_USAGE, "Format driver 'raw' does not support bitmaps");
	if (raw && c->opts->keep_snapshots)
		return err_set(e, ERR_USAGE, "A raw target cannot hold snapshots");
	return image_create_check(&c->create, e);
}

int convert_run(const struct convert_opts *o, struct convert_result *out, struct error *e)
{
	struct conversion c = {.opts = o, .create = o->create, .result = out};
	memset(out, 0, sizeof *out);
	int r = o->hash ? hash_known(o->hash, e) : 0;
	if (r == 0)
		r = open_sources(&c, e);
	if (r == 0)
		r = check_target(&c, e);
	if (r == 0 && o->sources[0].since)
		r = since_prepare(&c, e);
	if (r == 0 && o->in_place && c.create.format == IMAGE_QCOW2)
		r = existing_qcow2(&c.existing, o->target, &c.create, e);
	if (r == 0)
		r = plan_backing(&c, e);
	if (r == 0 && o->keep_snapshots)
		r = snapshots_prepare(&c, e);
	if (r == 0) {
		set_up_work(&c);
		r = strcmp(o->target, "-") == 0 ? convert_to_stream(&c, e) : to_file(&c, e);
	}
	close_all(&c);
	return r;
}
