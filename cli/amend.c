/* SPDX-License-Identifier: Apache-2.0
 *
 * `amend`: other options for an image that is there (FORMAT.md §3). What it takes are a few of create's -o options.
 */
#include "cli/cli.h"

#include <getopt.h>

enum { AMEND_FORCE = CLI_OWN };

struct amend_args {
	struct cli_source source;
	struct cli_option_list options;
	const char *name;
	enum cli_progress_kind progress;
	bool quiet, force, any;
};

static void parse(const struct cli *c, int argc, char **argv, struct amend_args *a)
{
	const char *arg;
	struct cli_cache cache;
	struct error e;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'o':
			a->any = true;
			if (!*arg)
				exit(cli_error(c, "Invalid option list: %s", arg));
			if (cli_option_list_add(&a->options, arg, &e) < 0)
				exit(cli_fail(c, &e));
			break;
		case 'p':
			a->progress = cli_parse_progress(c, arg);
			break;
		case 'q':
			a->quiet = true;
			break;
		case 't':
			if (!cli_parse_cache(arg, &cache))
				exit(cli_error(c, "Invalid cache option: %s", arg));
			break;
		case AMEND_FORCE:
			a->force = true;
			break;
		default:
			cli_source_option(&a->source, id, arg);
		}
	}
	if (!a->any)
		cli_usage_error(c, "Must specify options (-o)");
	if (a->options.help)
		return;
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name");
	a->name = argv[optind];
}

static bool same(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

/* What the image is, as create's options. */
static struct image_create options_of(const struct qcow2 *q)
{
	struct image_create now;
	image_create_defaults(&now, IMAGE_QCOW2);
	now.version = q->h.version;
	now.refcount_bits = 1u << q->g.refcount_order;
	now.lazy_refcounts = q->h.compatible & COMPAT_LAZY_REFCOUNTS;
	now.data_file_raw = q->h.autoclear & AUTOCLEAR_DATA_FILE_RAW;
	now.size = q->size;
	now.backing_name = q->backing_name;
	now.backing_format = q->backing_format;
	return now;
}

/* Whether what is asked for can be wanted at all; a message and status 1 else. */
static int refuse(const struct cli *c, const struct amend_args *a, const struct qcow2 *q,
	const struct image_create *wanted)
{
	if (!same(wanted->backing_name, q->backing_name) || !same(wanted->backing_format, q->backing_format))
		return cli_error(c, "Cannot amend the backing file\nYou can use '%s rebase' instead.", c->program);
	if (wanted->refcount_bits != 16 && wanted->version < 3 && cli_option_list_get(&a->options, "refcount_bits"))
		return cli_error(c, "Refcount widths other than 16 bits require compatibility level 1.1 or above "
				    "(use compat=1.1 or greater)");
	if (wanted->size < q->size && !a->force && !c->drop_in)
		return cli_error(c, "%s: what lies beyond the new size would be lost; say --force, or resize --shrink",
			a->name);
	return 0;
}

static int amend(const struct cli *c, const struct amend_args *a, struct cli_edited *d)
{
	const struct qcow2 *q = d->image->layers[0].q;
	struct image_create wanted;
	struct image_amend am;
	struct error e;

	if (!q)
		return cli_error(c, "Format driver 'raw' does not support option amendment");
	wanted = options_of(q);
	if (cli_option_list_check_amend(&a->options, &e) < 0 ||
		cli_option_list_apply(&a->options, &wanted, NULL, &e) < 0)
		return cli_fail(c, &e);
	/* A version that has no such thing ends it, unless it was asked for at once. */
	if (wanted.version < 3 && !cli_option_list_get(&a->options, "lazy_refcounts"))
		wanted.lazy_refcounts = false;
	if (refuse(c, a, q, &wanted))
		return 1;
	am = (struct image_amend){.version = wanted.version,
		.refcount_bits = wanted.refcount_bits,
		.lazy_refcounts = wanted.lazy_refcounts,
		.data_file_raw = wanted.data_file_raw,
		.size = wanted.size,
		.data_file = wanted.data_file};
	return edit_amend(d->top.ed, &am, &e) < 0 ? cli_fail(c, &e) : 0;
}

static int change(const struct cli *c, const struct amend_args *a)
{
	struct cli_progress progress;
	struct cli_edited d;
	int status;

	if (cli_edited_open(c, a->name, &a->source, true, &d) < 0)
		return 1;
	cli_progress_begin(&progress, c, a->quiet ? CLI_PROGRESS_NONE : a->progress);
	status = amend(c, a, &d);
	if (cli_edited_close(c, &d) < 0)
		status = 1;
	if (!status)
		progress_report(&progress.base, 1, 1);
	cli_progress_end(&progress, !status);
	return status;
}

static int amend_run(struct cli *c, int argc, char **argv)
{
	struct amend_args a = {0};
	int status = 0;

	parse(c, argc, argv, &a);
	if (a.options.help)
		cli_option_list_help_amend(stdout);
	else
		status = change(c, &a);
	cli_option_list_free(&a.options);
	return status;
}

static const struct cli_option amend_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{'o', "options", "OPTIONS", "what the image is to be: a list KEY=VALUE,...; \"help\" tells the keys"},
	{'t', "cache", "CACHE", "cache mode; all that is changed is on stable storage in any"},
	{AMEND_FORCE, "force", NULL, "allow the disk to become shorter"},
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_amend = {
	.name = "amend",
	.summary = "Change options of an image that is there",
	.arguments = "-o OPTIONS FILENAME",
	.options = amend_options,
	.run = amend_run,
};
