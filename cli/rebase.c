/* SPDX-License-Identifier: Apache-2.0
 *
 * `rebase`: another backing file under an image, or none. What its disk shows stays the same, unless -u says that the caller knows.
 */
#include "cli/cli.h"

#include <getopt.h>

enum { REBASE_THREADS = CLI_OWN, REBASE_FLATTEN };

struct rebase_args {
	struct cli_source source, onto;
	const char *cache, *name, *backing;
	enum cli_progress_kind progress;
	unsigned threads;
	bool unsafe, compress, flatten, quiet;
};

static void parse(const struct cli *c, int argc, char **argv, struct rebase_args *a)
{
	const char *arg;
	int id;
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'f':
			a->source.format = arg;
			break;
		case 't':
			a->cache = arg;
			break;
		case 'U':
			a->source.force_share = a->onto.force_share = true;
			break;
		case 'b':
			a->backing = arg;
			break;
		case 'F':
			a->onto.format = arg;
			break;
		case 'T':
			a->onto.cache = arg;
			break;
		case 'u':
			a->unsafe = true;
			break;
		case 'c':
			a->compress = true;
			break;
		case 'p':
			a->progress = cli_parse_progress(c, arg);
			break;
		case 'q':
			a->quiet = true;
			break;
		case REBASE_FLATTEN:
			a->flatten = true;
			break;
		case REBASE_THREADS:
			a->threads = cli_parse_number(c, "number of threads", arg, 0, 1024);
			break;
		}
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name");
	if (!a->unsafe && !a->backing)
		cli_usage_error(c, "Must specify backing file (-b) or use unsafe mode (-u)");
	a->name = argv[optind];
	if (a->backing && !*a->backing)
		a->backing = NULL;
}

static int check_values(const struct cli *c, struct rebase_args *a)
{
	struct cli_cache cache;
	struct error e;
	enum image_format format;

	if (a->cache && !cli_parse_cache(a->cache, &cache))
		return cli_error(c, "Invalid cache option: %s", a->cache);
	if (a->onto.cache && !cli_parse_cache(a->onto.cache, &cache))
		return cli_error(c, "Invalid source cache option: %s", a->onto.cache);
	a->source.cache = a->cache;
	/* A format that is only written down need not be one that can be read here. */
	if (a->onto.format && image_format_parse(a->onto.format, &format, &e) < 0 &&
		!(a->unsafe && e.code == ERR_UNSUPPORTED))
		return cli_error(c, "Invalid format name: '%s'", a->onto.format);
	return 0;
}

static int refuse(const struct cli *c, const struct rebase_args *a, const struct chain *image)
{
	const char *name = a->backing ? a->backing : "";

	if (!image->layers[0].q && a->compress)
		return cli_error(c, "Compression not supported for this file format");
	if (!image->layers[0].q)
		return cli_error(c, "Could not change the backing file to '%s': Operation not supported", name);
	if (a->backing && !a->onto.format)
		return cli_error(c, "Could not change the backing file to '%s': backing format must be specified",
			name);
	return 0;
}

/* chain_open begins with the name of the file; that of the new backing file has been said. */
static const char *without_name(const char *message, const char *path)
{
	static const char begin[] = "Could not open '";
	size_t len = strlen(begin), n = strlen(path);
	bool is = strncmp(message, begin, len) == 0 && strncmp(message + len, path, n) == 0 &&
		  strncmp(message + len + n, "': ", 3) == 0;
	return is ? message + len + n + 3 : message;
}

/* The new backing file, whose name counts from the image's folder. */
static int open_onto(const struct cli *c, const struct rebase_args *a, const struct chain *image, struct chain **onto)
{
	struct chain_opts opts;
	struct error e;
	AUTO_FREE char *path = image_backing_path(image->layers[0].path, a->backing, &e);

	if (!path)
		return cli_fail(c, &e);
	if (cli_source_opts(c, &a->onto, path, NULL, &opts) < 0)
		return 1;
	if (chain_open(onto, path, &opts, &e) < 0)
		return cli_error(c, "Could not open new backing file '%s': %s", a->backing, without_name(e.msg, path));
	if (chain_find_file(*onto, image->layers[0].path) >= 0)
		return cli_error(c, "Could not open new backing file '%s': it leads back to '%s'", a->backing, a->name);
	return 0;
}

static int rebase(const struct cli *c, const struct rebase_args *a, struct chain *image, struct chain *onto)
{
	struct cli_progress progress;
	struct error e;

	cli_progress_begin(&progress, c, a->quiet ? CLI_PROGRESS_NONE : a->progress);
	const struct rebase_opts o = {.image = image,
		.onto = onto,
		.backing_name = a->backing,
		.backing_format = a->backing ? a->onto.format : NULL,
		.unsafe = a->unsafe,
		.compress = a->compress,
		.flatten_snapshots = a->flatten,
		.threads = a->threads,
		.progress = &progress.base};
	int failed = convert_rebase(&o, &e);
	cli_progress_end(&progress, !failed);
	if (failed)
		return cli_status_after_signal(cli_error(c, "Could not change the backing file to '%s': %s",
			a->backing ? a->backing : "", e.msg));
	return 0;
}

static int rebase_run(struct cli *c, int argc, char **argv)
{
	struct rebase_args a = {.threads = pool_cpu_count()};
	struct chain_opts opts;
	AUTO_CHAIN struct chain *image = NULL, *onto = NULL;

	parse(c, argc, argv, &a);
	if (check_values(c, &a) || cli_write_opts(c, &a.source, a.name, &opts) < 0)
		return 1;
	opts.no_backing = a.unsafe;
	if (cli_open(c, a.name, &opts, &image) < 0)
		return 1;
	cli_warn_probed(image);
	if (refuse(c, &a, image) || (a.backing && !a.unsafe && open_onto(c, &a, image, &onto)))
		return 1;
	return rebase(c, &a, image, onto);
}

static const struct cli_option rebase_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{'b', "backing", "BACKING", "the new backing file, from the image's folder; \"\": none"},
	{'F', "backing-format", "FMT", "format of the new backing file: raw or qcow2; needed with -b"},
	{'t', "cache", "CACHE", "cache mode of the image: writeback (default), none, directsync, writethrough, unsafe"},
	{'T', "backing-cache", "CACHE",
		"cache mode of the new backing file: writeback (default), none, directsync, ..."},
	{'u', "backing-unsafe", NULL, "only write the new name down: neither backing file is opened"},
	{'c', "compress", NULL, "store compressed what comes into the image"},
	{REBASE_FLATTEN, "flatten-snapshots", NULL,
		"internal snapshots that would show something else get clusters of their own first"},
	{REBASE_THREADS, "threads", "N",
		"threads that read and compare (default: one for each processor; 0: none but the first)"},
	CLI_ROW_FORCE_SHARE,
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_rebase = {
	.name = "rebase",
	.summary = "Give an image another backing file, or none",
	.arguments = "FILENAME",
	.options = rebase_options,
	.run = rebase_run,
};
