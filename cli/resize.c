/* SPDX-License-Identifier: Apache-2.0
 *
 * `resize`: a disk made longer or shorter, in place. The size stands last and may begin with a minus sign, like an option.
 */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>

enum { RESIZE_SHRINK = CLI_OWN, RESIZE_PREALLOCATION };

struct resize_args {
	struct cli_source source;
	const char *name, *size;
	enum prealloc prealloc;
	bool shrink, quiet;
};

static enum prealloc parse_prealloc(const struct cli *c, const char *text)
{
	static const char *const names[] = {
		[PREALLOC_OFF] = "off",
		[PREALLOC_METADATA] = "metadata",
		[PREALLOC_FALLOC] = "falloc",
		[PREALLOC_FULL] = "full",
	};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i], text) == 0)
			return (enum prealloc)i;
	exit(cli_error(c, "Invalid preallocation mode '%s'", text));
}

static void parse(const struct cli *c, int argc, char **argv, struct resize_args *a)
{
	const char *arg, *last = argv[argc - 1];
	int id;
	/* "-1G" is a size */
	if (argc > 1 && last[0] == '-' && (isdigit((unsigned char)last[1]) || last[1] == '.')) {
		a->size = last;
		argv[--argc] = NULL;
	}
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'q':
			a->quiet = true;
			break;
		case RESIZE_SHRINK:
			a->shrink = true;
			break;
		case RESIZE_PREALLOCATION:
			a->prealloc = parse_prealloc(c, arg);
			break;
		default:
			cli_source_option(&a->source, id, arg);
		}
	}
	int operands = argc - optind + (a->size != NULL);
	if (operands < 2)
		cli_usage_error(c, "Expecting image file name and size");
	if (operands > 2)
		cli_usage_error(c, "Extra argument(s) in command line");
	a->name = argv[optind];
	if (!a->size)
		a->size = argv[optind + 1];
}

/* The new size, or an exit. */
static uint64_t new_size(const struct cli *c, const char *text, uint64_t now)
{
	struct error e;
	uint64_t bytes, sum;
	bool more = text[0] == '+', less = text[0] == '-';

	if ((more || less) && (text[1] == '+' || text[1] == '-'))
		exit(cli_error(c, "Parameter 'size' expects a non-negative number below 2^64"));
	if (size_parse(text + (more || less), &bytes, &e) < 0)
		exit(e.sys_errno == ERANGE
				? cli_error(c, "New image size must be positive")
				: cli_error(c, "Parameter 'size' expects a non-negative number below 2^64\n"
					       "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, "
					       "tera-, peta-\nand exabytes, respectively."));
	sum = more ? now + bytes : less ? now - bytes : bytes;
	if (sum == 0 || sum > INT64_MAX || (less && bytes >= now))
		exit(cli_error(c, "New image size must be positive"));
	return sum;
}

static int refuse(const struct cli *c, const struct resize_args *a, uint64_t now, uint64_t size)
{
	if (size <= now && a->prealloc != PREALLOC_OFF)
		return cli_error(c, "Preallocation can only be used for growing images");
	if (size < now && !a->shrink) {
		cli_error(c, "Use the --shrink option to perform a shrink operation.");
		return cli_error(c, "warning: Shrinking an image will delete all data beyond the shrunken image's end. "
				    "Before performing such an operation, make sure there is no important data there.");
	}
	return 0;
}

static int resize(const struct cli *c, const struct resize_args *a, struct chain *image)
{
	struct cli_progress progress;
	struct error e;
	uint64_t now = image->size, size = new_size(c, a->size, now);

	if (refuse(c, a, now, size))
		return 1;
	cli_progress_begin(&progress, c, CLI_PROGRESS_NONE);
	int failed = convert_resize(image, size, a->prealloc, &progress.base, &e);
	cli_progress_end(&progress, !failed);
	if (failed)
		return cli_status_after_signal(cli_error(c, "%s", e.msg));
	if (!a->quiet)
		printf("Image resized.\n");
	return 0;
}

static int resize_run(struct cli *c, int argc, char **argv)
{
	struct resize_args a = {0};
	struct chain_opts opts;
	AUTO_CHAIN struct chain *image = NULL;

	parse(c, argc, argv, &a);
	if (cli_write_opts(c, &a.source, a.name, &opts) < 0 || cli_open(c, a.name, &opts, &image) < 0)
		return 1;
	cli_warn_probed(image);
	return resize(c, &a, image);
}

static const struct cli_option resize_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{RESIZE_SHRINK, "shrink", NULL, "allow the disk to become shorter: what lies beyond is lost"},
	{RESIZE_PREALLOCATION, "preallocation", "PREALLOC",
		"how the new part is allocated: off (default), metadata, falloc or full"},
	CLI_ROW_QUIET,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_resize = {
	.name = "resize",
	.summary = "Make a disk longer or shorter",
	.arguments = "FILENAME [+|-]SIZE",
	.options = resize_options,
	.run = resize_run,
};
