/* SPDX-License-Identifier: Apache-2.0
 *
 * `dd`: a part of a disk, counted in blocks, to a new image. It is a conversion whose source is cut; holes stay holes.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>

struct dd_args {
	struct cli_source source;
	const char *format; /* of the output */
	const char *in, *out;
	uint64_t block, count, skip;
	bool has_count;
};

static uint64_t parse_block_number(const struct cli *c, const char *what, const char *text)
{
	char *end;
	if (*text < '0' || *text > '9')
		exit(cli_error(c, "Invalid %s specified: '%s'.", what, text));
	unsigned long long v = strtoull(text, &end, 10);
	if (*end)
		exit(cli_error(c, "Invalid %s specified: '%s'.", what, text));
	if (v > INT64_MAX)
		exit(cli_error(c, "Invalid %s specified. Must be between 0 and %lld.", what, (long long)INT64_MAX));
	return v;
}

static void parse_operand(const struct cli *c, char *text, struct dd_args *a)
{
	char *value = strchr(text, '=');
	if (!value)
		exit(cli_error(c, "unrecognized operand %s", text));
	*value++ = 0;
	if (strcmp(text, "if") == 0) {
		a->in = value;
	} else if (strcmp(text, "of") == 0) {
		a->out = value;
	} else if (strcmp(text, "bs") == 0) {
		a->block = cli_parse_size_between(c, "bs", value, 1, INT32_MAX);
	} else if (strcmp(text, "count") == 0) {
		a->count = parse_block_number(c, "count", value);
		a->has_count = true;
	} else if (strcmp(text, "skip") == 0) {
		a->skip = parse_block_number(c, "skip", value);
	} else {
		exit(cli_error(c, "unrecognized operand %s", text));
	}
}

static void parse(const struct cli *c, int argc, char **argv, struct dd_args *a)
{
	const char *arg;
	int id;
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		if (id == 'O')
			a->format = arg;
		else
			cli_source_option(&a->source, id, arg);
	}
	for (int i = optind; i < argc; i++)
		parse_operand(c, argv[i], a);
	if (!a->in || !a->out)
		exit(cli_error(c, "Must specify both input and output files"));
	a->out = cli_target_path(c, a->out);
}

/* count is, as dd has it, the number of blocks copied; qemu-img counts them from the disk's start, and so do we under its name. */
static void cut(const struct cli *c, const struct dd_args *a, struct convert_source *s)
{
	uint64_t blocks = a->count;
	if (mul_overflows(a->skip, a->block, &s->skip))
		s->skip = UINT64_MAX;
	if (!a->has_count)
		return;
	if (!c->drop_in && add_overflows(blocks, a->skip, &blocks))
		blocks = UINT64_MAX;
	if (mul_overflows(blocks, a->block, &s->end))
		s->end = UINT64_MAX;
	if (s->end == 0) /* nothing; 0 would mean all */
		s->skip = UINT64_MAX;
}

static int dd_run(struct cli *c, int argc, char **argv)
{
	struct dd_args a = {.format = "raw", .block = 512};
	struct convert_source source = {0};
	struct convert_opts opts;
	struct convert_result result;
	struct cli_progress progress;
	struct error e;

	parse(c, argc, argv, &a);
	convert_defaults(&opts);
	if (image_format_parse(a.format, &opts.create.format, &e) < 0)
		return e.code == ERR_UNSUPPORTED ? cli_fail(c, &e) : cli_error(c, "Unknown file format");
	image_create_defaults(&opts.create, opts.create.format);
	source.name = a.in;
	if (cli_source_opts(c, &a.source, a.in, NULL, &source.open) < 0)
		return 1;
	cut(c, &a, &source);
	opts.sources = &source;
	opts.source_count = 1;
	opts.target = a.out;
	opts.target_opts.sync_at_end = true;
	struct cli_access target = {.path = a.out, .write = true};
	if (cli_admit(c, &source, 1, &target, 1) < 0)
		return 1;
	opts.progress = &progress.base;
	cli_progress_begin(&progress, c, CLI_PROGRESS_NONE);
	int r = convert_run(&opts, &result, &e);
	cli_progress_end(&progress, r == 0);
	if (r < 0)
		return cli_status_after_signal(cli_fail(c, &e));
	if (result.virtual_size == 0 && a.skip)
		cli_error(c, "%s: cannot skip to specified offset", a.in);
	return 0;
}

static const struct cli_option dd_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{'O', "output-format", "FMT", "format of the output: raw (default) or qcow2"},
	CLI_ROW_FORCE_SHARE,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_dd = {
	.name = "dd",
	.summary = "Copy a part of an image into a new one",
	.arguments = "[bs=BYTES] [count=BLOCKS] [skip=BLOCKS] if=FILENAME of=FILENAME",
	.options = dd_options,
	.run = dd_run,
};
