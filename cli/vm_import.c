/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm import`: a domain with its kept snapshots, out of a bundle that `vm export` made.
 */
#include "cli/vm.h"

#include <getopt.h>
#include <unistd.h>

enum { OPT_NAME = CLI_OWN, OPT_TO, OPT_TRUST, OPT_THREADS };
#define IMAGES "/var/lib/libvirt/images"

static void print_human(const struct vm_imported *i)
{
	printf("%s: imported as %s, %u snapshot%s, at snapshot %s\n", i->name, i->uuid, i->points,
		i->points == 1 ? "" : "s", i->at);
	for (unsigned k = 0; k < i->disk_count; k++)
		printf("  %-6s %s\n", i->disks[k].target, i->disks[k].path);
}

static void print_json(const struct vm_imported *i)
{
	struct json j;

	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	json_string(&j, "domain", i->name);
	json_string(&j, "uuid", i->uuid);
	json_string(&j, "name", i->at);
	json_uint(&j, "snapshots", i->points);
	json_array_begin(&j, "disks");
	for (unsigned k = 0; k < i->disk_count; k++) {
		json_object_begin(&j, NULL);
		json_string(&j, "target", i->disks[k].target);
		json_string(&j, "path", i->disks[k].path);
		json_object_end(&j);
	}
	json_array_end(&j);
	json_object_end(&j);
	putchar('\n');
}

static int import(struct cli_vm *v, const struct vm_import *opts, struct vm_imported *out, struct error *e)
{
	if (strcmp(opts->from, "-") == 0 && isatty(STDIN_FILENO))
		return err_set(e, ERR_USAGE, "standard input is a terminal");
	if (cli_vm_begin(v, e) < 0 || cli_vm_run_import(v, opts, out, e) < 0)
		return -1;
	cli_progress_break(&v->progress);
	if (v->json)
		print_json(out);
	else if (!v->quiet)
		print_human(out);
	return 0;
}

static int import_run(struct cli *c, int argc, char **argv)
{
	struct cli_vm v = {.cli = c};
	struct vm_import opts = {.stream_fd = STDIN_FILENO, .to = IMAGES, .threads = pool_cpu_count()};
	struct vm_imported imported = {0};
	struct error e;
	const char *arg;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		if (cli_vm_option(&v, id, arg))
			continue;
		if (id == OPT_NAME)
			opts.name = arg;
		else if (id == OPT_TO)
			opts.to = arg;
		else if (id == OPT_TRUST)
			opts.trust = true;
		else
			opts.threads = cli_parse_number(c, "number of threads", arg, 0, 1024);
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting a bundle: a folder, a tar file, or -");
	opts.from = argv[optind];
	const int failed = import(&v, &opts, &imported, &e);
	const int status = cli_vm_end(&v, cli_vm_close(&v, failed, &e));

	vm_imported_free(&imported);
	return status;
}

static const struct cli_option import_options[] = {
	CLI_ROW_HELP,
	{OPT_NAME, "name", "NEW", "another name, and with it another UUID and other network addresses"},
	{OPT_TO, "to", "DIR", "folder of the disks (default: " IMAGES ")"},
	{OPT_TRUST, "trust-definition", NULL, "let the definition name files, devices and programs of this host"},
	{OPT_THREADS, "threads", "N", "number of threads; 0: do all on one (default: the processors)"},
	CLI_ROWS_VM,
	CLI_ROW_END,
};

const struct cli_command cli_vm_import = {
	.name = "import",
	.summary = "Define a domain, with disks and snapshots, out of a bundle",
	.arguments = "BUNDLE",
	.options = import_options,
	.run = import_run,
};
