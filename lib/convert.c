/* SPDX-License-Identifier: Apache-2.0
 *
 * The facade's conversion: public options into those of convert_run, its progress and its result back.
 */
#include "lib/internal.h"

#define FLAGS_KNOWN (2 * QSNAP_CONVERT_VERSION_2 - 1)

/* One call of qsnap_convert. */
struct call {
	struct qsnap_open_options source;
	struct qsnap_convert_options options;
	struct snapshot_query query, since;
	struct convert_opts opts;
	struct progress progress;
	atomic_bool cancel;
};

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct call *c = ctx;
	if (c->options.progress && c->options.progress(c->options.context, done, total))
		atomic_store(&c->cancel, true);
}

static int check(const struct call *c, const char *target_path, struct error *e)
{
	const struct qsnap_convert_options *o = &c->options;
	if (o->flags & ~(unsigned)FLAGS_KNOWN)
		return err_set(e, ERR_UNSUPPORTED, "a convert flag is newer than libqsnap %s", QSNAP_VERSION);
	if (c->source.flags & QSNAP_OPEN_TOP_ONLY)
		return err_set(e, ERR_USAGE, "a copy needs the backing files, too");
	if (target_path && strcmp(target_path, "-") == 0)
		return err_set(e, ERR_USAGE, "the target is a file: write \"./-\" for one of that name");
	if (o->more_source_count > 10000 || (o->more_source_count && !o->more_sources))
		return err_set(e, ERR_USAGE, "%zu more sources: 10000 are the most", o->more_source_count);
	if (o->more_source_count && c->source.snapshot)
		return err_set(e, ERR_USAGE, "a snapshot is of one source");
	if (c->source.flags & QSNAP_OPEN_WRITE)
		return err_set(e, ERR_USAGE, "a source is only read");
	if (o->sparse_size % 512)
		return err_set(e, ERR_USAGE, "sparse_size %u is not a multiple of 512", o->sparse_size);
	if ((o->flags & QSNAP_CONVERT_TARGET_IS_ZERO) && !(o->flags & QSNAP_CONVERT_IN_PLACE))
		return err_set(e, ERR_USAGE, "TARGET_IS_ZERO needs IN_PLACE");
	if ((o->flags & QSNAP_CONVERT_IN_PLACE) && !target_path)
		return err_set(e, ERR_USAGE, "IN_PLACE needs a target that has a name");
	return 0;
}

static int set_format(const struct qsnap_convert_options *o, struct image_create *create, struct error *e)
{
	enum image_format format = IMAGE_RAW;
	if (o->format && image_format_parse(o->format, &format, e) < 0)
		return -1;
	image_create_defaults(create, format);
	if (o->cluster_size)
		create->cluster_size = o->cluster_size;
	if (o->compression && strcmp(o->compression, "zstd") == 0)
		create->compression = CODEC_ZSTD;
	else if (o->compression && strcmp(o->compression, "zlib") != 0)
		return err_set(e, ERR_USAGE, "there is no compression '%s'", o->compression);
	int most = create->compression == CODEC_ZSTD ? CODEC_ZSTD_MAX_LEVEL : CODEC_DEFLATE_MAX_LEVEL;
	if (o->level > most || o->level < QSNAP_LEVEL_FASTEST)
		return err_set(e, ERR_USAGE, "compression level %d is not in 1..%d", o->level, most);
	create->level.level = o->level == QSNAP_LEVEL_FASTEST ? CODEC_FASTEST : o->level;
	if (o->backing_name && !o->backing_format)
		return err_set(e, ERR_USAGE, "backing_name needs backing_format");
	create->backing_name = o->backing_name;
	create->backing_format = o->backing_format;
	create->extended_l2 = o->flags & QSNAP_CONVERT_EXTENDED_L2;
	if (o->flags & QSNAP_CONVERT_VERSION_2)
		create->version = 2;
	return 0;
}

static int set_work(const struct qsnap_convert_options *o, struct convert_opts *c, struct error *e)
{
	c->compress = o->compress;
	c->recompress = o->flags & QSNAP_CONVERT_RECOMPRESS;
	c->in_place = o->flags & QSNAP_CONVERT_IN_PLACE;
	c->target_is_zero = o->flags & QSNAP_CONVERT_TARGET_IS_ZERO;
	c->salvage = o->flags & QSNAP_CONVERT_SALVAGE;
	c->bitmaps = o->flags & QSNAP_CONVERT_BITMAPS;
	c->skip_broken_bitmaps = o->flags & QSNAP_CONVERT_SKIP_BROKEN_BITMAPS;
	c->keep_snapshots = o->flags & QSNAP_CONVERT_KEEP_SNAPSHOTS;
	c->no_reflink = o->flags & QSNAP_CONVERT_NO_REFLINK;
	c->two_pass = o->flags & QSNAP_CONVERT_TWO_PASS;
	if (o->flags & QSNAP_CONVERT_WRITE_ZEROS)
		c->sparse_bytes = 0;
	else if (o->sparse_size)
		c->sparse_bytes = o->sparse_size;
	c->rate_limit = o->rate_limit;
	c->hash = o->hash;
	c->spool_dir = o->spool_dir;
	c->warn = o->warn;
	c->warn_ctx = o->context;
	c->target_opts = (struct target_opts){
		.in_place = c->in_place, .direct = o->flags & QSNAP_CONVERT_DIRECT, .sync_at_end = o->sync};
	return lib_threads(o->threads, &c->threads, e);
}

static int set_sources(struct call *c, const char *first, struct error *e)
{
	const struct qsnap_convert_options *o = &c->options;
	struct chain_opts open;
	if (lib_chain_options(&c->source, &open, &c->query, e) < 0)
		return -1;
	struct convert_source *sources = mem_calloc(o->more_source_count + 1, sizeof *sources, "sources", e);
	if (!sources)
		return -1;
	c->opts.sources = sources;
	c->opts.source_count = (unsigned)o->more_source_count + 1;
	c->since = (struct snapshot_query){.any = o->since, .refuse_ambiguous = true};
	for (unsigned i = 0; i < c->opts.source_count; i++)
		sources[i] = (struct convert_source){.name = i ? o->more_sources[i - 1] : first, .open = open};
	sources[0].since = o->since ? &c->since : NULL;
	return 0;
}

static int give_result(const struct call *c, const struct convert_result *r, struct qsnap_error *error)
{
	struct qsnap_convert_result ours = {
		.virtual_size = r->virtual_size,
		.target_size = r->target_bytes,
		.read_bytes = r->read_bytes,
		.passed_through = r->passed_through,
		.cloned_bytes = r->cloned_bytes,
		.salvaged = r->salvaged_errors,
	};
	_Static_assert(sizeof ours.digest >= sizeof r->digest, "a digest fits");
	memcpy(ours.digest, r->digest, sizeof r->digest);
	return c->options.result ? lib_give_info(c->options.result, &ours, sizeof ours, error) : 0;
}

int qsnap_convert(const char *source_path, const struct qsnap_open_options *source, const char *target_path,
	const struct qsnap_convert_options *options, struct qsnap_error *error)
{
	struct call c = {.cancel = false};
	struct convert_result result = {0};
	struct error e;

	if (lib_take_options(&c.source, sizeof c.source, source, error) < 0 ||
		lib_take_options(&c.options, sizeof c.options, options, error) < 0 ||
		give_result(&c, &result, error) < 0) /* a result without a size is told of before the work */
		return -1;
	convert_defaults(&c.opts);
	c.opts.target = target_path ? target_path : "-";
	c.opts.stream_fd = target_path ? -1 : c.options.target_fd;
	c.progress = (struct progress){.report = on_progress, .ctx = &c, .cancel = &c.cancel};
	c.opts.progress = &c.progress;
	int r = check(&c, target_path, &e);
	if (r == 0)
		r = set_work(&c.options, &c.opts, &e);
	if (r == 0)
		r = set_format(&c.options, &c.opts.create, &e);
	if (r == 0)
		r = set_sources(&c, source_path, &e);
	if (r == 0)
		r = convert_run(&c.opts, &result, &e);
	free((void *)c.opts.sources);
	return r < 0 ? lib_failed(error, &e) : give_result(&c, &result, error);
}
