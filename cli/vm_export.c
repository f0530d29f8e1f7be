/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm export`: a kept snapshot, or all of them, as a bundle that `vm import` makes a domain of elsewhere.
 */
#include "cli/vm.h"

#include <errno.h>
#include <getopt.h>
#include <unistd.h>

enum { OPT_TO = CLI_OWN, OPT_ALL, OPT_COMPRESS, OPT_THREADS };

static void print_human(const struct driver_domain *d, const struct vm_export *opts, const struct vm_exported *x)
{
	char bytes[32];

	printf("%s: snapshot %s", d->name, opts->name);
	if (opts->all)
		printf(" and %u more", x->points - 1);
	printf(", %u files, %s: %s\n", x->files, size_format(x->bytes, bytes),
		strcmp(opts->to, "-") == 0 ? "standard output" : opts->to);
}

static void print_json(const struct driver_domain *d, const struct vm_export *opts, const struct vm_exported *x)
{
	struct json j;

	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	json_string(&j, "domain", d->name);
	json_string(&j, "uuid", d->uuid);
	json_string(&j, "name", opts->name);
	if (strcmp(opts->to, "-") != 0)
		json_string(&j, "to", opts->to);
	json_uint(&j, "snapshots", x->points);
	json_uint(&j, "files", x->files);
	json_uint(&j, "bytes", x->bytes);
	json_object_end(&j);
	putchar('\n');
}

static int export(struct cli_vm *v, const char *domain, struct vm_export *opts, struct error *e)
{
	struct vm_exported exported;

	if (strcmp(opts->to, "-") == 0 && cli_take_stdout(&opts->stream_fd, e) < 0)
		return -1;
	if (cli_vm_begin(v, e) < 0 || cli_vm_open(v, domain, false, e) < 0 || vm_export(v->vm, opts, &exported, e) < 0)
		return -1;
	cli_progress_break(&v->progress);
	if (v->json)
		print_json(vm_domain(v->vm), opts, &exported);
	else if (!v->quiet)
		print_human(vm_domain(v->vm), opts, &exported);
	return 0;
}

static void parse(struct cli_vm *v, struct vm_export *opts, const char **compress, int argc, char **argv)
{
	const char *arg;
	int id;

	while ((id = cli_next_option(v->cli, argc, argv, &arg)) != -1) {
		if (cli_vm_option(v, id, arg))
			continue;
		if (id == OPT_TO)
			opts->to = arg;
		else if (id == OPT_ALL)
			opts->all = true;
		else if (id == OPT_COMPRESS)
			*compress = arg;
		else
			opts->threads = cli_parse_number(v->cli, "number of threads", arg, 0, 1024);
	}
	if (argc - optind != 2)
		cli_usage_error(v->cli, "Expecting the name of a domain and of a snapshot");
	if (!opts->to || !*opts->to)
		cli_usage_error(v->cli, "--to is needed: a new folder, a file that ends in .tar, or -");
	opts->name = argv[optind + 1];
}

static int export_run(struct cli *c, int argc, char **argv)
{
	struct cli_vm v = {.cli = c};
	struct cli_option_list list = {0};
	const char *compress = NULL;
	struct vm_export opts;
	struct error e;

	vm_export_defaults(&opts);
	parse(&v, &opts, &compress, argc, argv);
	if (cli_image_format(NULL, compress, &list, &opts.create, &e) < 0)
		cli_usage_error(c, "%s", e.msg);
	opts.compress = compress;
	int failed = export(&v, argv[optind], &opts, &e);

	if (opts.stream_fd >= 0 && close(opts.stream_fd) < 0 && !failed)
		failed = err_sys(&e, errno, "standard output");
	const int status = cli_vm_end(&v, cli_vm_close(&v, failed, &e));

	cli_option_list_free(&list);
	return status;
}

static const struct cli_option export_options[] = {
	CLI_ROW_HELP,
	{OPT_TO, "to", "BUNDLE", "a new folder, a new tar file (a name that ends in .tar), or - for a tar stream"},
	{OPT_ALL, "all", NULL, "all snapshots of the domain that are whole, each as what differs from the one before"},
	{OPT_COMPRESS, "compress", "HOW", "compress the images: zlib or zstd, with a level after a colon"},
	{OPT_THREADS, "threads", "N", "number of threads; 0: do all on one (default: the processors)"},
	CLI_ROWS_VM,
	CLI_ROW_END,
};

const struct cli_command cli_vm_export = {
	.name = "export",
	.summary = "Make a bundle of a kept snapshot, or of all: definition, disks, memory",
	.arguments = "DOMAIN NAME",
	.options = export_options,
	.run = export_run,
};
