/* SPDX-License-Identifier: Apache-2.0
 *
 * convert: images in, one image out, in qemu-img's syntax and with what it lacks (a pipe as target, threads, levels,
 * digests). Parses and checks; the work is convert_run's.
 */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include <getopt.h>

#include "cli/cli.h"

enum {
	OPT_SALVAGE = CLI_OWN,
	OPT_TARGET_IS_ZERO,
	OPT_BITMAPS,
	OPT_SKIP_BROKEN_BITMAPS,
	OPT_TARGET_IMAGE_OPTS,
	OPT_THREADS,
	OPT_HASH,
	OPT_RECOMPRESS,
	OPT_TWO_PASS,
	OPT_SPOOL_DIR,
	OPT_KEEP_SNAPSHOTS,
	OPT_NO_REFLINK,
	OPT_SINCE,
};

static const struct cli_option options[] = {
	CLI_ROW_HELP,
	{'f', "source-format", "FMT", "format of the sources: raw or qcow2 (default: probe)"},
	{'f', "format", "FMT", NULL},
	{'F', "backing-format", "FMT", "format of the target's backing file (with -B)"},
	{'O', "target-format", "FMT", "format of the target: raw (default) or qcow2"},
	{'o', "options", "LIST", "options of the target, key=value,...; -o help lists them"},
	{'o', "target-options", "LIST", NULL},
	{'c', "compress", NULL, "compress the target's clusters (qcow2)"},
	{'B', "backing", "FILE", "the target is an overlay of FILE: only what differs from it is copied"},
	{'l', "snapshot", "SNAPSHOT",
		"read this internal snapshot, at its own size; an id, a name, or snapshot.id=ID,snapshot.name=NAME"},
	{'l', "source-snapshot", "SNAPSHOT", NULL},
	{'n', "no-create", NULL, "the target exists: write into it"},
	{OPT_TARGET_IS_ZERO, "target-is-zero", NULL, "with -n: the target reads as zeros already"},
	{'S', "sparse-size", "SIZE", "zero runs of at least SIZE bytes become holes (default 4k); 0 writes all zeros"},
	{'C', "copy-range-offloading", NULL, "let the kernel copy ranges (copy_file_range)"},
	{'r', "rate", "RATE", "bytes a second at most"},
	{'r', "rate-limit", "RATE", NULL},
	{'t', "target-cache", "CACHE",
		"cache mode of the target: unsafe (default), writeback, writethrough, none, directsync"},
	{'T', "source-cache", "CACHE", "cache mode of the source: writeback (default) or none"},
	{OPT_SALVAGE, "salvage", NULL, "where the source cannot be read, write zeros and go on"},
	{OPT_BITMAPS, "bitmaps", NULL, "copy persistent bitmaps of the top image too"},
	{OPT_SKIP_BROKEN_BITMAPS, "skip-broken-bitmaps", NULL, "with --bitmaps: leave out inconsistent ones"},
	{'m', "parallel", "N", "number of threads, 1 to 16"},
	{'W', "oob-writes", NULL, "accepted; writing in any order is the default and changes no byte"},
	{'W', "oob", NULL, NULL},
	CLI_ROW_FORCE_SHARE,
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	CLI_ROW_IMAGE_OPTS,
	{CLI_IMAGE_OPTS, "source-image-opts", NULL, NULL},
	{OPT_TARGET_IMAGE_OPTS, "target-image-opts", NULL, "not supported"},
	CLI_ROW_OBJECT,
	{CLI_HEADING, NULL, NULL, "Beyond qemu-img"},
	{OPT_THREADS, "threads", "N", "number of threads; 0: do all on one (default: the processors)"},
	{OPT_HASH, "hash", "ALG", "print the digest of the target's bytes (sha256, sha512, md5, ...)"},
	{OPT_RECOMPRESS, "recompress", NULL, "compress again what is compressed already"},
	{OPT_TWO_PASS, "two-pass", NULL, "compressed qcow2 to standard output: compress twice and need no spool"},
	{OPT_SPOOL_DIR, "spool-dir", "DIR", "where compressed qcow2 for standard output is spooled"},
	{OPT_KEEP_SNAPSHOTS, "keep-snapshots", NULL, "internal snapshots and bitmaps arrive in the target too"},
	{OPT_SINCE, "since", "SNAPSHOT",
		"with -B: write what differs from this snapshot, which the backing file holds"},
	{OPT_NO_REFLINK, "no-reflink", NULL, "never share blocks with the source"},
	CLI_ROW_END,
};

struct request {
	const struct cli *cli;
	struct convert_opts opts;
	struct cli_source source;
	struct snapshot_query query, since;
	bool has_since;
	struct cli_option_list list;
	const char *target_format, *target_cache, *backing, *backing_format;
	bool quiet;
	bool have_sparse;
	enum cli_progress_kind progress;
};

static uint64_t parse_sparse(const struct cli *c, const char *text)
{
	uint64_t bytes = cli_parse_size(c, "buffer size for sparse output", text);
	if (bytes % 512 || bytes > INT_MAX)
		cli_usage_error(c,
			"Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to %d. "
			"Select 0 to disable sparse detection (fully allocates output).",
			INT_MAX / 512 * 512);
	return bytes;
}

static void parse_source_option(struct request *r, int id, const char *arg)
{
	if (cli_source_option(&r->source, id, arg))
		return;
	switch (id) {
	case OPT_SINCE:
		cli_snapshot_name(r->cli, arg, &r->since);
		r->has_since = true;
		break;
	case OPT_SALVAGE:
		r->opts.salvage = true;
		break;
	case OPT_BITMAPS:
		r->opts.bitmaps = true;
		break;
	case OPT_SKIP_BROKEN_BITMAPS:
		r->opts.skip_broken_bitmaps = true;
		break;
	case OPT_KEEP_SNAPSHOTS:
		r->opts.keep_snapshots = true;
		break;
	}
}

static void parse_target_option(struct request *r, int id, const char *arg)
{
	struct error e;
	switch (id) {
	case 'O':
		r->target_format = arg;
		break;
	case 'o':
		if (cli_option_list_add(&r->list, arg, &e) < 0)
			cli_usage_error(r->cli, "%s", e.msg);
		break;
	case 'c':
		r->opts.compress = true;
		break;
	case 'B':
		r->backing = arg;
		break;
	case 'F':
		r->backing_format = arg;
		break;
	case 'n':
		r->opts.in_place = true;
		break;
	case OPT_TARGET_IS_ZERO:
		r->opts.target_is_zero = true;
		break;
	case 'S':
		r->opts.sparse_bytes = parse_sparse(r->cli, arg);
		r->have_sparse = true;
		break;
	case 't':
		r->target_cache = arg;
		break;
	}
}

static void parse_work_option(struct request *r, int id, const char *arg)
{
	switch (id) {
	case 'm':
		r->opts.threads = cli_parse_number(r->cli, "number of coroutines", arg, 1, 16);
		break;
	case OPT_THREADS:
		r->opts.threads = cli_parse_number(r->cli, "number of threads", arg, 0, 256);
		break;
	case 'C':
		r->opts.copy_range = true;
		break;
	case 'r':
		r->opts.rate_limit = cli_parse_size(r->cli, "rate limit", arg);
		break;
	case 'p':
		r->progress = cli_parse_progress(r->cli, arg);
		break;
	case 'q':
		r->quiet = true;
		break;
	case OPT_HASH:
		r->opts.hash = arg;
		break;
	case OPT_RECOMPRESS:
		r->opts.recompress = true;
		break;
	case OPT_TWO_PASS:
		r->opts.two_pass = true;
		break;
	case OPT_SPOOL_DIR:
		r->opts.spool_dir = arg;
		break;
	case OPT_NO_REFLINK:
		r->opts.no_reflink = true;
		break;
	case OPT_TARGET_IMAGE_OPTS:
		cli_usage_error(r->cli, "--target-image-opts is not supported");
	}
}

/* What options demand of each other, before anything is opened. */
static void check_request(struct request *r)
{
	const struct cli *c = r->cli;
	struct convert_opts *o = &r->opts;
	if (o->compress && o->copy_range)
		cli_usage_error(c, "Cannot enable copy offloading when -c is used");
	if (r->have_sparse && o->copy_range)
		cli_usage_error(c, "Cannot enable copy offloading when -S is used");
	if (o->target_is_zero && !o->in_place)
		cli_usage_error(c, "--target-is-zero requires use of -n flag");
	if (o->skip_broken_bitmaps && !o->bitmaps)
		cli_usage_error(c, "Use of --skip-broken-bitmaps requires --bitmaps");
	if (o->in_place && r->list.count)
		cli_usage_error(c, "-o has no effect when skipping image creation");
	if (r->backing && !r->backing_format && !cli_option_list_get(&r->list, "backing_fmt"))
		cli_usage_error(c, "backing format must be specified explicitly (-F)");
	if (o->source_count > 1 && r->source.snapshot)
		cli_usage_error(c, "-l takes one source image");
	if (o->two_pass && strcmp(o->target, "-"))
		cli_usage_error(c, "--two-pass is for standard output");
}

static int set_target_options(struct request *r, struct error *e)
{
	enum image_format format;
	if (image_format_parse(r->target_format ? r->target_format : "raw", &format, e) < 0)
		return -1;
	image_create_defaults(&r->opts.create, format);
	if (cli_option_list_apply(&r->list, &r->opts.create, NULL, e) < 0)
		return -1;
	if (r->backing)
		r->opts.create.backing_name = r->backing;
	if (r->backing_format)
		r->opts.create.backing_format = r->backing_format;
	struct cli_cache cache;
	if (!cli_parse_cache(r->target_cache ? r->target_cache : "unsafe", &cache))
		return err_set(e, ERR_USAGE, "Invalid cache option: %s", r->target_cache);
	r->opts.target_opts = (struct target_opts){.in_place = r->opts.in_place,
		.direct = cache.direct,
		.dsync = cache.dsync,
		.sync_at_end = !cache.no_sync};
	return 0;
}

static void warn(void *ctx, const char *text)
{
	cli_error(ctx, "warning: %s", text);
}

static void report(const struct request *r, const struct convert_result *result)
{
	const struct cli *c = r->cli;
	if (result->salvaged_errors)
		cli_error(c, "warning: %u unreadable places of 4 KiB were filled with zeros", result->salvaged_errors);
	cli_verbose(c, "%llu bytes read, %llu written, %llu shared, %llu of compressed clusters kept, %llu spooled",
		(unsigned long long)result->read_bytes, (unsigned long long)result->written_bytes,
		(unsigned long long)result->cloned_bytes, (unsigned long long)result->passed_through,
		(unsigned long long)result->spool_bytes);
	if (!r->opts.hash || r->quiet)
		return;
	FILE *out = strcmp(r->opts.target, "-") ? stdout : stderr; /* standard output is the image then */
	fprintf(out, "%s  %s\n", result->digest, r->opts.target);
}

/* --untrusted: the files that the conversion may reach. */
static int admit(const struct request *r)
{
	const struct convert_opts *o = &r->opts;
	const char *tmp = getenv("TMPDIR");
	struct error e;
	struct cli_access others[3];
	unsigned n = 0;
	if (strcmp(o->target, "-") != 0)
		others[n++] = (struct cli_access){.path = o->target, .write = true};
	else if (o->compress && !o->two_pass)
		others[n++] = (struct cli_access){.path = o->spool_dir ? o->spool_dir
							  : tmp        ? tmp
								       : "/var/tmp",
			.write = true};
	const char *data = o->create.data_file, *backing = o->create.backing_name;
	AUTO_FREE char *data_path = data ? image_backing_path(o->target, data, &e) : NULL;
	AUTO_FREE char *backing_path = backing ? image_backing_path(o->target, backing, &e) : NULL;
	if (data_path)
		others[n++] = (struct cli_access){.path = data_path, .write = true};
	if (backing_path)
		others[n++] = (struct cli_access){.path = backing_path};
	return cli_admit(r->cli, o->sources, o->source_count, others, n);
}

static int convert(struct request *r)
{
	const struct cli *c = r->cli;
	struct error e;
	struct convert_result result;
	struct cli_progress progress;
	if (strcmp(r->opts.target, "-") == 0 && cli_take_stdout(&r->opts.stream_fd, &e) < 0)
		return cli_fail(c, &e);
	cli_progress_begin(&progress, c, r->quiet ? CLI_PROGRESS_NONE : r->progress);
	r->opts.progress = &progress.base;
	r->opts.warn = warn;
	r->opts.warn_ctx = (void *)c;
	int status = convert_run(&r->opts, &result, &e);
	cli_progress_end(&progress, status == 0);
	if (r->opts.stream_fd >= 0 && close(r->opts.stream_fd) < 0 && status == 0)
		status = err_sys(&e, errno, "standard output");
	if (status < 0)
		return cli_status_after_signal(cli_fail(c, &e));
	report(r, &result);
	return 0;
}

static int parse(struct request *r, int argc, char **argv)
{
	const char *arg;
	int id;
	while ((id = cli_next_option(r->cli, argc, argv, &arg)) != -1) {
		parse_source_option(r, id, arg);
		parse_target_option(r, id, arg);
		parse_work_option(r, id, arg);
	}
	if (r->list.help) {
		enum image_format format;
		struct error e;
		if (image_format_parse(r->target_format ? r->target_format : "raw", &format, &e) < 0)
			return cli_fail(r->cli, &e);
		cli_option_list_help(format, stdout);
		return 0;
	}
	if (argc - optind < 2)
		cli_usage_error(r->cli, "Must specify image file name");
	r->opts.target = cli_target_path(r->cli, argv[argc - 1]);
	r->opts.source_count = (unsigned)(argc - 1 - optind);
	return -1;
}

static int run(struct cli *c, int argc, char **argv)
{
	struct request r = {.cli = c};
	struct error e;
	convert_defaults(&r.opts);
	int status = parse(&r, argc, argv);
	if (status >= 0)
		return status;
	check_request(&r);
	struct convert_source *sources = mem_calloc(r.opts.source_count, sizeof *sources, "sources", &e);
	if (!sources)
		return cli_fail(c, &e);
	status = 1;
	for (unsigned i = 0; i < r.opts.source_count; i++) {
		sources[i].name = argv[optind + (int)i];
		if (strcmp(sources[i].name, "-") == 0 && access("-", F_OK) < 0) {
			cli_error(c, "Standard input cannot be a source: an image is not read from its beginning to "
				     "its end");
			goto out;
		}
		if (cli_source_opts(c, &r.source, sources[i].name, &r.query, &sources[i].open) < 0)
			goto out;
		sources[i].since = r.has_since ? &r.since : NULL;
	}
	r.opts.sources = sources;
	if (set_target_options(&r, &e) < 0)
		status = cli_fail(c, &e);
	else if (admit(&r) == 0)
		status = convert(&r);
out:
	free(sources);
	cli_option_list_free(&r.list);
	return status;
}

const struct cli_command cli_convert = {
	.name = "convert",
	.summary = "Copies one or more images, read one after the other as one disk, into a new image",
	.arguments = "SOURCE... TARGET|-",
	.options = options,
	.run = run,
};
