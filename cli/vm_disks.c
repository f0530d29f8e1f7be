/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm disks`: a domain's disks, the files that each is made of, and whether it is part of snapshots.
 */
#include "cli/vm.h"

#include <getopt.h>

static const char *image_name(const struct driver_image *i)
{
	return i->path ? i->path : i->kind ? i->kind : "";
}

static void print_human(const struct driver_domain *d)
{
	printf("%-8s %-6s %s\n", "TARGET", "FORMAT", "FILE");
	for (unsigned i = 0; i < d->disk_count; i++) {
		const struct driver_disk *disk = &d->disks[i];
		enum vm_obstacle why = vm_disk_obstacle(disk);

		printf("%-8s", disk->target);
		for (unsigned k = 0; k < disk->image_count; k++)
			printf("%*s %-6s %s\n", k ? 8 : 0, "", cli_vm_format_name(disk->images[k].format),
				image_name(&disk->images[k]));
		if (!disk->image_count)
			putchar('\n');
		if (why != VM_TAKEN)
			printf("%9snot part of snapshots: %s\n", "", vm_obstacle_text(why));
		if (disk->busy)
			printf("%9sa block job runs on it\n", "");
		if (!disk->whole_chain && disk->image_count)
			printf("%9sthe definition does not tell whether there are more backing files\n", "");
	}
}

static void print_json_disk(struct json *j, const struct driver_disk *d)
{
	enum vm_obstacle why = vm_disk_obstacle(d);

	json_object_begin(j, NULL);
	json_string(j, "target", d->target);
	json_bool(j, "taken", why == VM_TAKEN);
	if (why != VM_TAKEN)
		json_string(j, "reason", vm_obstacle_text(why));
	json_bool(j, "busy", d->busy);
	json_bool(j, "whole-chain", d->whole_chain);
	json_array_begin(j, "chain");
	for (unsigned i = 0; i < d->image_count; i++) {
		json_object_begin(j, NULL);
		if (d->images[i].path)
			json_string(j, "path", d->images[i].path);
		json_string(j, "kind", d->images[i].kind ? d->images[i].kind : "");
		json_string(j, "format", cli_vm_format_name(d->images[i].format));
		json_object_end(j);
	}
	json_array_end(j);
	json_object_end(j);
}

static void print_json(const struct driver_domain *d)
{
	struct json j;

	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	json_string(&j, "domain", d->name);
	json_string(&j, "uuid", d->uuid);
	json_string(&j, "state", cli_vm_state_name(d));
	json_array_begin(&j, "disks");
	for (unsigned i = 0; i < d->disk_count; i++)
		print_json_disk(&j, &d->disks[i]);
	json_array_end(&j);
	json_object_end(&j);
	putchar('\n');
}

static int disks_run(struct cli *c, int argc, char **argv)
{
	struct cli_vm v = {.cli = c};
	struct error e;
	const char *arg;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1)
		cli_vm_option(&v, id, arg);
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting the name of a domain");
	int failed = cli_vm_begin(&v, &e) < 0 || cli_vm_open(&v, argv[optind], true, &e) < 0 ? -1 : 0;
	if (!failed && v.json)
		print_json(vm_domain(v.vm));
	else if (!failed)
		print_human(vm_domain(v.vm));
	return cli_vm_end(&v, cli_vm_close(&v, failed, &e));
}

static const struct cli_option disks_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_CONNECT,
	CLI_ROW_STATE,
	CLI_ROW_JSON,
	CLI_ROW_VERBOSE,
	CLI_ROW_END,
};

const struct cli_command cli_vm_disks = {
	.name = "disks",
	.summary = "Tell which disks a domain has and which of them snapshots take",
	.arguments = "DOMAIN",
	.options = disks_options,
	.run = disks_run,
};
