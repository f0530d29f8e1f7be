/* SPDX-License-Identifier: Apache-2.0
 *
 * `trim`: what a qcow2 file takes and does not need is given back to the file system, and told: leaked clusters freed, holes
 * punched, the tail cut off.
 */
#include "qcow2/trim.h"

#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>

struct trim_args {
	struct cli_source source;
	const char *name;
	enum cli_progress_kind progress;
	bool json, quiet;
};

static void parse(const struct cli *c, int argc, char **argv, struct trim_args *a)
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
		case CLI_OUTPUT:
			a->json = cli_parse_output(c, arg);
			break;
		default:
			cli_source_option(&a->source, id, arg);
		}
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name");
	a->name = argv[optind];
}

static void print_json(const char *name, const struct trim_result *r)
{
	struct json j;
	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	json_string(&j, "filename", name);
	json_string(&j, "format", "qcow2");
	json_uint(&j, "leaked-bytes-freed", r->freed);
	json_uint(&j, "bytes-punched", r->punched);
	json_uint(&j, "bytes-truncated", r->truncated);
	json_object_end(&j);
	putchar('\n');
}

static void print_human(const struct trim_result *r)
{
	printf("Leaked clusters freed: %" PRIu64 " bytes\nHoles punched: %" PRIu64 " bytes\nTail cut off: %" PRIu64
	       " bytes\n",
		r->freed, r->punched, r->truncated);
}

static int trim_image(const struct cli *c, const struct trim_args *a, struct layer *layer)
{
	struct cli_progress progress;
	struct trim_result result;
	struct error e;

	cli_progress_begin(&progress, c, a->progress);
	const int failed = qcow2_trim(layer, pool_cpu_count(), &progress.base, &result, &e);
	cli_progress_end(&progress, !failed);
	if (failed)
		return cli_status_after_signal(cli_fail(c, &e));
	if (result.cannot_punch)
		cli_error(c, "warning: what '%s' lies on takes no parts of it back, so no holes were punched", a->name);
	if (!a->quiet && a->json)
		print_json(a->name, &result);
	else if (!a->quiet)
		print_human(&result);
	return 0;
}

static int trim_run(struct cli *c, int argc, char **argv)
{
	struct trim_args a = {0};
	struct chain_opts opts;
	AUTO_CHAIN struct chain *image = NULL;

	parse(c, argc, argv, &a);
	if (cli_write_opts(c, &a.source, a.name, &opts) < 0)
		return 1;
	/* The file alone: neither what lies below nor an external data file. */
	opts.no_backing = opts.inspect = true;
	if (cli_open(c, a.name, &opts, &image) < 0)
		return 1;
	if (!image->layers[0].q)
		return cli_error(c, "'%s' is not a qcow2 image: only these know what they do not need", a.name);
	return trim_image(c, &a, &image->layers[0]);
}

static const struct cli_option trim_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	CLI_ROW_OUTPUT,
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_trim = {
	.name = "trim",
	.summary = "Give back the space that an image file takes and does not need",
	.arguments = "FILENAME",
	.options = trim_options,
	.run = trim_run,
};
