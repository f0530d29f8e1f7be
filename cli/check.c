/* SPDX-License-Identifier: Apache-2.0
 *
 * `check`: what qcow2/check.h finds, one finding a line on standard error, the sums on standard output; with -r also puts right
 * what it can, and checks again. Exit status 0 clean, 1 not to be checked, 2 corruptions, 3 leaks only, 63 a format without
 * anything to check.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>

enum { EXIT_CORRUPT = 2, EXIT_LEAKS = 3, EXIT_NO_CHECK = 63 };
enum { CHECK_THREADS = CLI_OWN };

struct check_args {
	struct cli_source source;
	enum cli_progress_kind progress;
	unsigned threads;
	bool json, quiet, repair;
	enum repair_mode mode; /* if `repair` */
};

static void parse(const struct cli *c, int argc, char **argv, struct check_args *a)
{
	const char *arg;
	int id;
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'q':
			a->quiet = true;
			break;
		case 'p':
			a->progress = cli_parse_progress(c, arg);
			break;
		case 'r':
			if (strcmp(arg, "leaks") != 0 && strcmp(arg, "all") != 0)
				cli_usage_error(c, "--repair (-r) expects 'leaks' or 'all' not '%s'", arg);
			a->repair = true;
			a->mode = strcmp(arg, "all") == 0 ? REPAIR_ALL : REPAIR_LEAKS;
			break;
		case CHECK_THREADS:
			a->threads = cli_parse_number(c, "number of threads", arg, 0, 1024);
			break;
		case CLI_OUTPUT:
			a->json = cli_parse_output(c, arg);
			break;
		default:
			cli_source_option(&a->source, id, arg);
		}
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name");
}

/* A damaged image may have millions of findings: they leave in large pieces, since standard error has no buffer. */
struct findings {
	size_t len;
	char text[32 << 10];
};

static void flush_findings(struct findings *all)
{
	fwrite(all->text, 1, all->len, stderr);
	all->len = 0;
}

static void print_finding(void *ctx, const struct finding *f)
{
	struct findings *all = ctx;
	size_t len = strlen(f->text);
	if (all->len + len + 1 > sizeof all->text)
		flush_findings(all);
	memcpy(all->text + all->len, f->text, len);
	all->text[all->len + len] = '\n';
	all->len += len + 1;
}

static void print_json(const char *name, const struct check_result *r)
{
	struct json j;
	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	json_uint(&j, "image-end-offset", r->image_end_offset);
	if (r->compressed_clusters)
		json_uint(&j, "compressed-clusters", r->compressed_clusters);
	if (r->corruptions_fixed || r->leaks_fixed) {
		json_uint(&j, "leaks-fixed", r->leaks_fixed);
		json_uint(&j, "corruptions-fixed", r->corruptions_fixed);
	}
	json_uint(&j, "total-clusters", r->total_clusters);
	if (r->corruptions)
		json_uint(&j, "corruptions", r->corruptions);
	json_uint(&j, "check-errors", r->check_errors);
	if (r->leaks)
		json_uint(&j, "leaks", r->leaks);
	if (r->allocated_clusters)
		json_uint(&j, "allocated-clusters", r->allocated_clusters);
	json_string(&j, "filename", name);
	json_string(&j, "format", "qcow2");
	if (r->fragmented_clusters)
		json_uint(&j, "fragmented-clusters", r->fragmented_clusters);
	json_object_end(&j);
	putchar('\n');
}

static double percent(uint64_t part, uint64_t whole)
{
	return (double)part * 100.0 / (double)whole;
}

static void print_human(const struct check_result *r)
{
	if (!r->corruptions && !r->leaks && !r->check_errors)
		printf("No errors were found on the image.\n");
	if (r->corruptions)
		printf("\n%" PRIu64 " errors were found on the image.\n"
		       "Data may be corrupted, or further writes to the image may corrupt it.\n",
			r->corruptions);
	if (r->leaks)
		printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
		       "This means waste of disk space, but no harm to data.\n",
			r->leaks);
	if (r->check_errors)
		printf("\n%" PRIu64 " internal errors have occurred during the check.\n", r->check_errors);
	if (r->total_clusters && r->allocated_clusters)
		printf("%" PRIu64 "/%" PRIu64 " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
			r->allocated_clusters, r->total_clusters, percent(r->allocated_clusters, r->total_clusters),
			percent(r->fragmented_clusters, r->allocated_clusters),
			percent(r->compressed_clusters, r->allocated_clusters));
	if (r->image_end_offset)
		printf("Image end offset: %" PRIu64 "\n", r->image_end_offset);
}

static void print_repairs(const struct check_result *r)
{
	printf("The following inconsistencies were found and repaired:\n\n    %" PRIu64 " leaked clusters\n    %" PRIu64
	       " corruptions\n\nDouble checking the fixed image now...\n",
		r->leaks_fixed, r->corruptions_fixed);
	fflush(stdout);
}

/* Where anything was repaired, the result is that of a second check. */
static int check_and_repair(const struct check_args *a, struct layer *layer, const struct check_opts *opts,
	struct check_result *result, struct error *e)
{
	if (!a->repair)
		return qcow2_check(layer, opts, result, e);
	if (qcow2_repair(layer, a->mode, opts, result, e) < 0)
		return -1;
	const struct check_result first = *result;
	if (!first.corruptions_fixed && !first.leaks_fixed)
		return 0;
	flush_findings(opts->ctx);
	if (!a->json && !a->quiet)
		print_repairs(&first);
	int rc = qcow2_check(layer, opts, result, e);
	result->corruptions_fixed = first.corruptions_fixed;
	result->leaks_fixed = first.leaks_fixed;
	return rc;
}

static int check_image(const struct cli *c, const struct check_args *a, const char *name, struct layer *layer)
{
	struct error e;
	struct check_result result;
	struct cli_progress progress;
	struct findings findings = {.len = 0};

	cli_progress_begin(&progress, c, a->progress);
	struct check_opts opts = {
		.threads = a->threads, .progress = &progress.base, .found = print_finding, .ctx = &findings};
	int r = check_and_repair(a, layer, &opts, &result, &e);
	flush_findings(&findings);
	cli_progress_end(&progress, r == 0);
	if (r < 0)
		return cli_status_after_signal(cli_fail(c, &e));
	if (result.check_errors)
		cli_error(c, "Check failed");
	if (!a->quiet && a->json)
		print_json(name, &result);
	else if (!a->quiet)
		print_human(&result);
	if (result.check_errors)
		return 1;
	return result.corruptions ? EXIT_CORRUPT : result.leaks ? EXIT_LEAKS : 0;
}

static int check_run(struct cli *c, int argc, char **argv)
{
	struct check_args a = {.threads = pool_cpu_count()};
	struct chain_opts opts;
	AUTO_CHAIN struct chain *image = NULL;

	parse(c, argc, argv, &a);
	const char *name = argv[optind];
	if (cli_source_opts(c, &a.source, name, NULL, &opts) < 0)
		return 1;
	opts.inspect = true;
	if (a.repair) {
		if (a.source.force_share) {
			cli_error(c, "Could not open '%s': force-share=on can only be used with read-only images",
				name);
			return 1;
		}
		opts.write = opts.repair = true;
		opts.lock = IO_LOCK_WRITE;
	}
	if (cli_open(c, name, &opts, &image) < 0)
		return 1;
	if (!image->layers[0].q) {
		cli_error(c, "This image format does not support checks");
		return EXIT_NO_CHECK;
	}
	return check_image(c, &a, name, &image->layers[0]);
}

static const struct cli_option check_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{'r', "repair", "WHAT", "put right: leaks (only what costs room) or all (what can be without guessing)"},
	{'T', "cache", "CACHE", "cache mode of the image: writeback (default), none, directsync, writethrough, unsafe"},
	CLI_ROW_FORCE_SHARE,
	CLI_ROW_OUTPUT,
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	{CHECK_THREADS, "threads", "N",
		"threads that read metadata (default: one for each processor; 0: none but the first)"},
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_check = {
	.name = "check",
	.summary = "Look for errors in the structure of an image, and repair them",
	.arguments = "FILENAME",
	.options = check_options,
	.run = check_run,
};
