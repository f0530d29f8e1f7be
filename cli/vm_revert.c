/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm revert`: all disks of a domain back to a snapshot that they have kept, or none.
 */
#include "cli/vm.h"

#include <getopt.h>

enum { OPT_START = CLI_OWN, OPT_PAUSED, OPT_FIRST, OPT_WITHOUT_MEMORY };

static void print_human(const struct driver_domain *d, const char *name, const struct vm_reverted *r)
{
	printf("%s: %u disk%s back at snapshot %s", d->name, r->disk_count, r->disk_count == 1 ? "" : "s", name);
	if (r->defined)
		printf(", defined as then");
	if (r->memory)
		printf(", with its memory");
	printf("; the domain is %s\n", cli_vm_state_name(d));
	if (r->present)
		printf("  what was there before is snapshot %s\n", r->present);
}

static void print_json(const struct driver_domain *d, const char *name, const struct vm_reverted *r)
{
	struct json j;

	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	json_string(&j, "domain", d->name);
	json_string(&j, "uuid", d->uuid);
	json_string(&j, "name", name);
	json_int(&j, "created", r->created);
	json_uint(&j, "disks", r->disk_count);
	if (r->present)
		json_string(&j, "kept", r->present);
	json_bool(&j, "ended", r->ended);
	json_bool(&j, "defined", r->defined);
	json_bool(&j, "memory", r->memory);
	json_string(&j, "state", cli_vm_state_name(d));
	json_object_end(&j);
	putchar('\n');
}

static int revert(struct cli_vm *v, const char *domain, const struct vm_revert *opts, struct error *e)
{
	struct vm_reverted reverted;

	if (cli_vm_begin(v, e) < 0 || cli_vm_open(v, domain, false, e) < 0 || vm_revert(v->vm, opts, &reverted, e) < 0)
		return -1;
	cli_progress_break(&v->progress);
	if (v->json)
		print_json(vm_domain(v->vm), opts->name, &reverted);
	else if (!v->quiet)
		print_human(vm_domain(v->vm), opts->name, &reverted);
	vm_reverted_free(&reverted);
	return 0;
}

static int revert_run(struct cli *c, int argc, char **argv)
{
	struct cli_vm v = {.cli = c};
	struct vm_revert opts = {.after = VM_AS_BEFORE};
	struct error e;
	const char *arg;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		if (cli_vm_option(&v, id, arg))
			continue;
		if (id == OPT_FIRST) {
			opts.first = true;
			opts.present = arg;
			continue;
		}
		if (id == OPT_WITHOUT_MEMORY) {
			opts.without_memory = v.without_memory = true;
			continue;
		}
		if (opts.after != VM_AS_BEFORE)
			cli_usage_error(c, "One of --start and --paused is enough");
		opts.after = id == OPT_START ? VM_STARTED : VM_STARTED_PAUSED;
	}
	if (argc - optind != 2)
		cli_usage_error(c, "Expecting the name of a domain and of a snapshot");
	opts.name = argv[optind + 1];
	int failed = revert(&v, argv[optind], &opts, &e);
	return cli_vm_end(&v, cli_vm_close(&v, failed, &e));
}

static const struct cli_option revert_options[] = {
	CLI_ROW_HELP,
	{OPT_START, "start", NULL,
		"start the guest then (default: if it ran, or was paused, as it was; with memory: as it was then)"},
	{OPT_PAUSED, "paused", NULL, "start it paused"},
	{OPT_FIRST, "snapshot-first", "[NAME]",
		"keep the present as a snapshot, =NAME or named by the time (default: it is given up)"},
	{OPT_WITHOUT_MEMORY, "without-memory", NULL, "it boots from the disks, though the snapshot has its memory"},
	CLI_ROWS_VM,
	CLI_ROW_END,
};

const struct cli_command cli_vm_revert = {
	.name = "revert",
	.summary = "Go back to a snapshot with all disks of a domain, ending its guest",
	.arguments = "DOMAIN NAME",
	.options = revert_options,
	.run = revert_run,
};
