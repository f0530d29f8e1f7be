/* SPDX-License-Identifier: Apache-2.0
 *
 * `commit`: what an image holds goes into its backing file, or with -b into a deeper one; then the image is emptied.
 */
#include "cli/cli.h"

#include <getopt.h>

enum { COMMIT_THREADS = CLI_OWN, COMMIT_FLATTEN };

struct commit_args {
	struct cli_source source;
	const char *base;
	uint64_t rate;
	enum cli_progress_kind progress;
	unsigned threads;
	bool keep, flatten, quiet;
};

static void parse(const struct cli *c, int argc, char **argv, struct commit_args *a)
{
	const char *arg;
	int id;
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 't':
			a->source.cache = arg;
			break;
		case 'b':
			a->base = arg;
			a->keep = true;
			break;
		case 'd':
			a->keep = true;
			break;
		case 'r':
			a->rate = cli_parse_size(c, "rate limit", arg);
			break;
		case 'p':
			a->progress = cli_parse_progress(c, arg);
			break;
		case 'q':
			a->quiet = true;
			break;
		case COMMIT_FLATTEN:
			a->flatten = true;
			break;
		case COMMIT_THREADS:
			a->threads = cli_parse_number(c, "number of threads", arg, 0, 1024);
			break;
		default:
			cli_source_option(&a->source, id, arg);
		}
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name");
}

/* The layer that -b means: by the name that is stored in the one above it, or as a file, from the image's folder; 0: none. */
static unsigned find_base(const struct chain *image, const char *name, struct error *e)
{
	AUTO_FREE char *path = NULL;
	for (unsigned i = 1; i < image->count; i++) {
		const char *stored = image->layers[i - 1].q->backing_name;
		if (stored && strcmp(stored, name) == 0)
			return i;
	}
	path = image_backing_path(image->layers[0].path, name, e);
	int found = path ? chain_find_file(image, path) : 0;
	return found > 0 ? (unsigned)found : 0;
}

/* Looks at the chain without a lock: which layer is to be opened for writing. */
static int choose_base(const struct cli *c, const struct commit_args *a, const char *name, unsigned *base)
{
	struct chain_opts opts;
	struct error e;
	AUTO_CHAIN struct chain *image = NULL;

	if (cli_write_opts(c, &a->source, name, &opts) < 0)
		return -1;
	opts.write = false;
	opts.lock = IO_LOCK_NONE;
	if (cli_open(c, name, &opts, &image) < 0)
		return -1;
	cli_warn_probed(image);
	*base = a->base ? find_base(image, a->base, &e) : image->count > 1;
	if (*base)
		return 0;
	if (a->base)
		cli_error(c, "Did not find '%s' in the backing chain of '%s'", a->base, name);
	else
		cli_error(c, "Image does not have a backing file");
	return -1;
}

static int commit(const struct cli *c, const struct commit_args *a, struct chain *image, unsigned base)
{
	struct cli_progress progress;
	struct error e;

	cli_progress_begin(&progress, c, a->quiet ? CLI_PROGRESS_NONE : a->progress);
	const struct commit_opts o = {.image = image,
		.base = base,
		.keep = a->keep,
		.rate_limit = a->rate,
		.flatten_snapshots = a->flatten,
		.threads = a->threads,
		.progress = &progress.base};
	int failed = convert_commit(&o, &e);
	cli_progress_end(&progress, !failed);
	if (failed)
		return cli_status_after_signal(cli_error(c, "Could not commit: %s", e.msg));
	if (!a->quiet)
		printf("Image committed.\n");
	return 0;
}

static int commit_run(struct cli *c, int argc, char **argv)
{
	struct commit_args a = {.threads = pool_cpu_count()};
	struct chain_opts opts;
	struct cli_cache cache;
	AUTO_CHAIN struct chain *image = NULL;
	unsigned base;

	parse(c, argc, argv, &a);
	const char *name = argv[optind];
	if (a.source.cache && !cli_parse_cache(a.source.cache, &cache))
		return cli_error(c, "Invalid cache option: %s", a.source.cache);
	if (choose_base(c, &a, name, &base) < 0 || cli_write_opts(c, &a.source, name, &opts) < 0)
		return 1;
	opts.write_layer = base;
	if (cli_open(c, name, &opts, &image) < 0)
		return 1;
	if (base >= image->count)
		return cli_error(c, "The backing chain of '%s' has changed", name);
	return commit(c, &a, image, base);
}

static const struct cli_option commit_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{'t', "cache", "CACHE", "cache mode: writeback (default), none, directsync, writethrough, unsafe"},
	{'b', "base", "BASE", "the backing file to commit into, not the next one; the image is not emptied"},
	{'d', "drop", NULL, "do not empty the image afterwards"},
	{'r', "rate", "RATE", "limit to so many bytes a second"},
	{COMMIT_FLATTEN, "flatten-snapshots", NULL,
		"internal snapshots that would show something else get clusters of their own first"},
	{COMMIT_THREADS, "threads", "N", "threads that read (default: one for each processor; 0: none but the first)"},
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_commit = {
	.name = "commit",
	.summary = "Bring what an image holds into its backing file",
	.arguments = "FILENAME",
	.options = commit_options,
	.run = commit_run,
};
