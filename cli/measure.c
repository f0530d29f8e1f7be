/* SPDX-License-Identifier: Apache-2.0
 *
 * `measure`: the size a new image would need, before it is made.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>

struct measure_args {
	struct cli_source source;
	const char *format; /* of the target */
	struct cli_option_list list;
	uint64_t size;
	bool has_size, json;
};

static void parse(const struct cli *c, int argc, char **argv, struct measure_args *a)
{
	const char *arg;
	struct error e;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'O':
			a->format = arg;
			break;
		case 'o':
			if (cli_option_list_add(&a->list, arg, &e) < 0)
				exit(cli_fail(c, &e));
			break;
		case 's':
			a->size = cli_parse_size(c, "image size", arg);
			a->has_size = true;
			break;
		case CLI_OUTPUT:
			a->json = cli_parse_output(c, arg);
			break;
		default:
			cli_source_option(&a->source, id, arg);
		}
	}
}

static void print_result(const struct measure_result *m, bool json)
{
	if (!json) {
		printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", m->required,
			m->fully_allocated);
		if (m->has_bitmaps)
			printf("bitmaps size: %" PRIu64 "\n", m->bitmaps);
		return;
	}
	struct json j;
	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	if (m->has_bitmaps)
		json_uint(&j, "bitmaps", m->bitmaps);
	json_uint(&j, "required", m->required);
	json_uint(&j, "fully-allocated", m->fully_allocated);
	json_object_end(&j);
	putchar('\n');
}

static int target_options(const struct cli *c, struct measure_args *a, struct image_create *create)
{
	struct error e;
	enum image_format format;

	if (image_format_parse(a->format, &format, &e) < 0)
		return e.code == ERR_UNSUPPORTED ? cli_fail(c, &e)
						 : cli_error(c, "Unknown file format '%s'", a->format);
	image_create_defaults(create, format);
	if (a->list.help) {
		cli_option_list_help(format, stdout);
		return -1;
	}
	if (cli_option_list_apply(&a->list, create, NULL, &e) < 0) {
		cli_fail(c, &e);
		return cli_error(c, "Invalid options for file format '%s'", a->format);
	}
	if (a->has_size)
		create->size = a->size;
	if (image_create_check(create, &e) < 0)
		return cli_fail(c, &e);
	return 0;
}

static int measure_run(struct cli *c, int argc, char **argv)
{
	struct measure_args a = {.format = "raw"};
	parse(c, argc, argv, &a);
	const char *name = optind < argc ? argv[optind] : NULL;
	if (argc - optind > 1)
		cli_usage_error(c, "At most one filename argument is allowed.");

	struct image_create create;
	int status = target_options(c, &a, &create);
	if (status)
		return status < 0 ? 0 : status;
	if (!name && (a.source.format || a.source.snapshot))
		return cli_error(c, "--image-opts, -f, and -l require a filename argument.");
	if (!name && !a.has_size)
		return cli_error(c, "Either --size N or one filename must be specified.");
	if (name && a.has_size)
		return cli_error(c, "--size N cannot be used together with a filename.");

	struct error e;
	struct chain_opts opts;
	struct snapshot_query query;
	AUTO_CHAIN struct chain *image = NULL;
	if (name && (cli_source_opts(c, &a.source, name, &query, &opts) < 0 || cli_open(c, name, &opts, &image) < 0))
		return 1;
	struct measure_result result;
	if (convert_measure(image, &create, &result, &e) < 0)
		return cli_fail(c, &e);
	print_result(&result, a.json);
	cli_option_list_free(&a.list);
	return 0;
}

static const struct cli_option measure_options[] = {
	CLI_ROW_HELP,
	{'s', "size", "SIZE", "measure an empty disk of this size instead of a source image"},
	{'O', "target-format", "FMT", "format of the new image: raw (default) or qcow2"},
	{'o', "options", "OPTIONS", "options of the new image, as for create; '-o help' lists them"},
	{CLI_HEADING, NULL, NULL, "The source"},
	CLI_ROW_FORMAT,
	{'l', "snapshot", "SNAPSHOT",
		"the source is this snapshot inside the image: its name or id, snapshot.name=X or snapshot.id=X"},
	CLI_ROW_FORCE_SHARE,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	{CLI_HEADING, NULL, NULL, "The answer"},
	CLI_ROW_OUTPUT,
	CLI_ROW_END,
};

const struct cli_command cli_measure = {
	.name = "measure",
	.summary = "Tell how large a new image would be",
	.arguments = "(--size SIZE | FILENAME)",
	.options = measure_options,
	.run = measure_run,
};
