/* SPDX-License-Identifier: Apache-2.0
 *
 * `create`: a new empty image, possibly over a backing file, whose size it then takes when none is given.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>

struct create_args {
	const char *name, *path; /* as given; without "file:" */
	const char *format, *backing, *backing_format;
	struct cli_option_list list;
	uint64_t size;
	bool has_size, unsafe, quiet;
};

static void parse(const struct cli *c, int argc, char **argv, struct create_args *a)
{
	const char *arg;
	struct error e;
	int id;
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'f':
			a->format = arg;
			break;
		case 'b':
			a->backing = arg;
			break;
		case 'F':
			a->backing_format = arg;
			break;
		case 'o':
			if (cli_option_list_add(&a->list, arg, &e) < 0)
				exit(cli_fail(c, &e));
			break;
		case 'u':
			a->unsafe = true;
			break;
		case 'q':
			a->quiet = true;
			break;
		}
	}
	if (optind < argc)
		a->name = argv[optind++];
	if (optind < argc) {
		a->size = cli_parse_size(c, "image size", argv[optind++]);
		a->has_size = true;
	}
	if (optind < argc)
		cli_usage_error(c, "Unexpected argument: %s", argv[optind]);
	if (!a->name && a->list.help)
		a->name = "create";
	if (!a->name)
		cli_usage_error(c, "Expecting image file name");
	a->path = image_plain_path(a->name, &e);
	if (!a->path)
		exit(cli_error(c, "%s: %s", a->name, e.msg));
}

static int fail(const struct cli *c, const struct create_args *a, const struct error *e)
{
	size_t len = strlen(a->name);
	bool named = strncmp(e->msg, a->name, len) == 0 && e->msg[len] == ':'; /* by what failed to write it */
	return named ? cli_fail(c, e) : cli_error(c, "%s: %s", a->name, e->msg);
}

/* Puts together what -o and the other options say. */
static int collect(struct create_args *a, struct image_create *create, struct error *e)
{
	bool size_in_list = false;
	if (cli_option_list_apply(&a->list, create, &size_in_list, e) < 0)
		return -1;
	if (a->backing)
		create->backing_name = *a->backing ? a->backing : NULL;
	if (a->backing_format)
		create->backing_format = *a->backing_format ? a->backing_format : NULL;
	if (create->format != IMAGE_QCOW2 && create->backing_name)
		return err_set(e, ERR_USAGE, "Backing file not supported for file format '%s'", a->format);
	if (create->format != IMAGE_QCOW2 && create->backing_format)
		return err_set(e, ERR_USAGE, "Backing format not supported for file format '%s'", a->format);
	if (create->backing_format && !create->backing_name)
		return err_set(e, ERR_USAGE, "Backing format cannot be used without backing file");
	if (a->has_size && size_in_list)
		return err_set(e, ERR_USAGE, "The image size must be specified only once");
	if (a->has_size)
		create->size = a->size;
	a->has_size |= size_in_list;
	if (create->backing_name && strcmp(create->backing_name, a->name) == 0)
		return err_set(e, ERR_USAGE,
			"Error: Trying to create an image with the same filename as the backing file");
	return 0;
}

/* With --untrusted it is the backing file that is the stranger's. */
static int confine(const struct cli *c, const struct create_args *a, const struct image_create *create)
{
	struct error e;
	AUTO_FREE char *backing = create->backing_name ? image_backing_path(a->path, create->backing_name, &e) : NULL;
	struct cli_access access[3] = {{.path = a->path, .write = true}};
	unsigned n = 1;
	if (backing)
		access[n++] = (struct cli_access){.path = backing};
	if (create->data_file) /* from the current folder, not from the image's (FORMAT.md §11) */
		access[n++] = (struct cli_access){.path = create->data_file, .write = true};
	return cli_confine(c, access, n);
}

static int open_backing(const struct cli *c, const struct create_args *a, const struct image_create *create,
	struct chain **out, struct error *e)
{
	struct chain_opts opts = {.lock = IO_LOCK_READ, .untrusted = c->untrusted};
	if (create->backing_format && image_format_parse(create->backing_format, &opts.format, e) < 0)
		return -1;
	AUTO_FREE char *path = image_backing_path(a->path, create->backing_name, e);
	return path ? chain_open(out, path, &opts, e) : -1;
}

/* A backing file must be there (unless -u), must have its format told, and gives the size when nothing else does. */
static int look_at_backing(const struct cli *c, struct create_args *a, struct image_create *create, struct error *e)
{
	AUTO_CHAIN struct chain *backing = NULL;
	struct error why;
	int opened = a->unsafe ? 0 : open_backing(c, a, create, &backing, &why);
	if (!create->backing_format)
		return backing ? err_set(e, ERR_USAGE,
					 "Backing file specified without backing format\nDetected format of %s.",
					 image_format_name(backing->layers[0].format))
			       : err_set(e, ERR_USAGE, "Backing file specified without backing format");
	if (opened < 0)
		return err_set(e, why.code, "%s\nCould not open backing image.", why.msg);
	if (backing && (chain_find_file(backing, a->path) >= 0 ||
			       (create->data_file && chain_find_file(backing, create->data_file) >= 0)))
		return err_set(e, ERR_USAGE, "The new image would replace '%s' or a file below it",
			create->backing_name);
	if (backing && !a->has_size) {
		create->size = align_up(backing->size, 512);
		a->has_size = true;
	}
	return 0;
}

static int write_image(const struct create_args *a, const struct image_create *create, struct error *e)
{
	static const struct target_opts opts = {.sync_at_end = true};
	struct target *target = NULL, *data = NULL;
	int r = target_open(&target, a->path, &opts, e);
	if (r == 0 && create->data_file)
		r = target_open(&data, create->data_file, &opts, e);
	if (r == 0 && data && target_same(target, data))
		r = err_set(e, ERR_USAGE, "%s: the image cannot be its own data file", a->name);
	if (r == 0)
		r = image_create_run(create, target_io(target), data ? target_io(data) : NULL, e);
	if (r == 0 && data)
		r = target_commit(data, e);
	if (r == 0)
		r = target_commit(target, e);
	target_close(data);
	target_close(target);
	return r;
}

static int create_run(struct cli *c, int argc, char **argv)
{
	struct create_args a = {.format = "raw"};
	struct image_create create;
	struct error e;
	enum image_format format;

	parse(c, argc, argv, &a);
	if (image_format_parse(a.format, &format, &e) < 0)
		return e.code == ERR_UNSUPPORTED ? cli_fail(c, &e)
						 : cli_error(c, "%s: Unknown file format '%s'", a.name, a.format);
	if (a.list.help) {
		cli_option_list_help(format, stdout);
		return 0;
	}
	image_create_defaults(&create, format);
	if (collect(&a, &create, &e) < 0)
		return fail(c, &a, &e);
	if (confine(c, &a, &create) < 0)
		return 1;
	if (create.backing_name && look_at_backing(c, &a, &create, &e) < 0)
		return fail(c, &a, &e);
	if (!a.has_size)
		return cli_error(c, "%s: Image creation needs a size parameter", a.name);
	if (!a.quiet)
		cli_print_formatting(a.name, &create, &a.list, stdout);
	create.size = align_up(min_u64(create.size, INT64_MAX & ~(uint64_t)511), 512);
	if (image_create_check(&create, &e) < 0 || write_image(&a, &create, &e) < 0)
		return fail(c, &a, &e);
	cli_option_list_free(&a.list);
	return 0;
}

static const struct cli_option create_options[] = {
	CLI_ROW_HELP,
	{'f', "format", "FMT", "format of the new image: raw (default) or qcow2"},
	{'o', "options", "OPTIONS", "options of the format: key=value,key=value; '-o help' lists them"},
	{'b', "backing", "BACKING", "what the new image does not hold is read from this file"},
	{'F', "backing-format", "FMT", "format of the backing file; must be given"},
	{'u', "backing-unsafe", NULL, "do not look at the backing file"},
	CLI_ROW_QUIET,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_create = {
	.name = "create",
	.summary = "Make a new empty image",
	.arguments = "FILENAME [SIZE[bkKMGTPE]]",
	.options = create_options,
	.run = create_run,
};
