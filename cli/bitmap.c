/* SPDX-License-Identifier: Apache-2.0
 *
 * `bitmap`: persistent bitmaps made, removed, cleared, switched on and off, merged (FORMAT.md §9), in the order the options say. The
 * first that fails ends the run; what came before it stays done.
 */
#include "cli/cli.h"
#include "qcow2/edit.h"

#include <getopt.h>

enum action { ACT_ADD = CLI_OWN, ACT_REMOVE, ACT_CLEAR, ACT_ENABLE, ACT_DISABLE, ACT_MERGE };

struct step {
	enum action action;
	const char *source; /* of MERGE */
};
struct bitmap_args {
	struct cli_source target, source;
	const char *source_name; /* -b; NULL: the image itself */
	const char *image, *bitmap;
	uint64_t granularity; /* 0: the default */
	struct step *steps;
	unsigned count;
	bool adds, merges;
};

static const char *action_name(enum action a)
{
	static const char *const names[] = {"add", "remove", "clear", "enable", "disable", "merge"};
	return names[a - ACT_ADD];
}

static void add_step(struct bitmap_args *a, int id, const char *arg)
{
	a->steps[a->count++] = (struct step){(enum action)id, arg};
	a->adds |= id == ACT_ADD;
	a->merges |= id == ACT_MERGE;
}

static void check_args(const struct cli *c, const struct bitmap_args *a)
{
	if (!a->count)
		cli_usage_error(c, "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
	if (a->granularity && !a->adds)
		cli_usage_error(c, "granularity only supported with --add");
	if (a->source.format && !a->source_name)
		cli_usage_error(c, "-F only supported with -b");
	if (a->source_name && !a->merges)
		cli_usage_error(c, "Merge bitmap source file only supported with --merge");
}

static void parse(const struct cli *c, int argc, char **argv, struct bitmap_args *a)
{
	const char *arg;
	int id;
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'b':
			a->source_name = arg;
			break;
		case 'F':
			a->source.format = arg;
			break;
		case 'g':
			a->granularity = cli_parse_size_between(c, "granularity", arg, 1, INT64_MAX);
			break;
		default:
			if (!cli_source_option(&a->target, id, arg))
				add_step(a, id, arg);
		}
	}
	if (argc - optind != 2)
		cli_usage_error(c, "Expecting filename and bitmap name");
	a->image = argv[optind];
	a->bitmap = argv[optind + 1];
	check_args(c, a);
}

static int do_step(struct edit *ed, const struct qcow2 *own, const struct qcow2 *from, const struct bitmap_args *a,
	const struct step *s, struct error *e)
{
	switch (s->action) {
	case ACT_ADD:
		return edit_bitmap_add(ed, a->bitmap, a->granularity, e);
	case ACT_REMOVE:
		return edit_bitmap_remove(ed, a->bitmap, e);
	case ACT_CLEAR:
		return edit_bitmap_clear(ed, a->bitmap, e);
	case ACT_MERGE:
		return edit_bitmap_merge(ed, a->bitmap, from ? from : own, s->source, e);
	default:
		return edit_bitmap_enable(ed, a->bitmap, s->action == ACT_ENABLE, e);
	}
}

static int do_steps(const struct cli *c, const struct bitmap_args *a, struct layer *l, const struct qcow2 *from)
{
	struct edit *ed;
	struct error e;
	int status = 0;

	if (!l->q)
		return cli_error(c, "Operation %s on bitmap %s failed: only qcow2 images have bitmaps",
			action_name(a->steps[0].action), a->bitmap);
	if (edit_open(&ed, l, NULL, &e) < 0)
		return cli_fail(c, &e);
	for (unsigned i = 0; i < a->count && !status; i++)
		if (do_step(ed, l->q, from, a, &a->steps[i], &e) < 0)
			status = cli_error(c, "Operation %s on bitmap %s failed: %s", action_name(a->steps[i].action),
				a->bitmap, e.msg);
	if (edit_close(ed, &e) < 0)
		status = cli_fail(c, &e);
	return status;
}

/* The image that --merge takes bitmaps from. */
static int open_source(const struct cli *c, const struct bitmap_args *a, struct chain **out)
{
	struct chain_opts opts;

	if (!a->source_name)
		return 0;
	if (cli_source_opts(c, &a->source, a->source_name, NULL, &opts) < 0)
		return -1;
	opts.no_backing = opts.inspect = true;
	return cli_open(c, a->source_name, &opts, out);
}

static int change(const struct cli *c, const struct bitmap_args *a)
{
	AUTO_CHAIN struct chain *image = NULL, *source = NULL;
	struct cli_access access[] = {{.path = a->image, .write = true}, {.path = a->source_name}};
	struct chain_opts opts;

	if (cli_confine(c, access, a->source_name ? 2 : 1) < 0 || open_source(c, a, &source) < 0 ||
		cli_source_opts(c, &a->target, a->image, NULL, &opts) < 0)
		return 1;
	opts.no_backing = opts.write = true;
	opts.lock = IO_LOCK_WRITE;
	if (cli_open(c, a->image, &opts, &image) < 0)
		return 1;
	if (source && !source->layers[0].q)
		return cli_error(c, "'%s' has no bitmaps: it is not a qcow2 image", a->source_name);
	return do_steps(c, a, &image->layers[0], source ? source->layers[0].q : NULL);
}

static int bitmap_run(struct cli *c, int argc, char **argv)
{
	struct error e;
	AUTO_FREE struct step *steps = mem_calloc((size_t)argc, sizeof *steps, "list of actions", &e);
	struct bitmap_args a = {.steps = steps};

	if (!steps)
		return cli_fail(c, &e);
	parse(c, argc, argv, &a);
	return change(c, &a);
}

static const struct cli_option bitmap_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{ACT_ADD, "add", NULL, "make BITMAP; it follows writes from then on"},
	{'g', "granularity", "SIZE", "bytes of disk for each bit, with --add: a power of two (default: a cluster)"},
	{ACT_REMOVE, "remove", NULL, "remove BITMAP"},
	{ACT_CLEAR, "clear", NULL, "clear all bits of BITMAP"},
	{ACT_ENABLE, "enable", NULL, "let BITMAP follow writes"},
	{ACT_DISABLE, "disable", NULL, "keep BITMAP as it is"},
	{ACT_MERGE, "merge", "SOURCE", "set all bits in BITMAP that bitmap SOURCE has"},
	{'b', "source-file", "FILE", "the image that has SOURCE (default: the same)"},
	{'F', "source-format", "FMT", "format of that image: qcow2 (default: probe)"},
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_bitmap = {
	.name = "bitmap",
	.summary = "Make, change and remove the bitmaps inside an image",
	.arguments = "(--add | --remove | --clear | --enable | --disable | --merge SOURCE)... FILENAME BITMAP",
	.options = bitmap_options,
	.run = bitmap_run,
};
