/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm list`: the snapshots in a domain's disks, and those that the hypervisor lists.
 */
#include "cli/vm_points.h"

#include <getopt.h>

enum { OPT_TREE = CLI_OWN };

/* "vda,vdb"; returns its width. */
static int print_targets(const struct vm_listed *l)
{
	int width = 0;

	for (unsigned i = 0; i < l->target_count; i++)
		width += printf("%s%s", i ? "," : "", l->targets[i]);
	return width;
}

static int targets_width(const struct vm_listed *l)
{
	int width = 0;

	for (unsigned i = 0; i < l->target_count; i++)
		width += (int)strlen(l->targets[i]) + (i > 0);
	return width;
}

static void print_kind(const struct vm_listed *l)
{
	printf("%s", l->external ? "external" : "internal");
	if (l->memory)
		printf(", with memory");
	if (!l->external && !l->whole)
		printf(", not of all disks");
	puts(l->recorded ? ", in libvirt's list" : "");
}

static void print_human(const struct vm_listed *l, unsigned count)
{
	int name = (int)strlen("NAME"), disks = (int)strlen("DISKS");

	for (unsigned i = 0; i < count; i++) {
		name = (int)max_u64((uint64_t)name, strlen(l[i].name));
		disks = (int)max_u64((uint64_t)disks, (uint64_t)targets_width(&l[i]));
	}
	if (count)
		printf("%-*s  %-25s  %-*s  KIND\n", name, "NAME", "TAKEN", disks, "DISKS");
	for (unsigned i = 0; i < count; i++) {
		char when[32];

		printf("%-*s  %-25s  ", name, l[i].name, cli_vm_time(l[i].created, when));
		printf("%*s  ", disks - print_targets(&l[i]), "");
		print_kind(&l[i]);
	}
}

static void print_json(const struct driver_domain *d, const struct vm_listed *l, unsigned count)
{
	struct json j;

	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	json_string(&j, "domain", d->name);
	json_string(&j, "uuid", d->uuid);
	json_array_begin(&j, "snapshots");
	for (unsigned i = 0; i < count; i++) {
		json_object_begin(&j, NULL);
		json_string(&j, "name", l[i].name);
		json_int(&j, "created", l[i].created);
		json_array_begin(&j, "disks");
		for (unsigned k = 0; k < l[i].target_count; k++)
			json_string(&j, NULL, l[i].targets[k]);
		json_array_end(&j);
		json_bool(&j, "whole", l[i].whole);
		json_bool(&j, "recorded", l[i].recorded);
		json_bool(&j, "external", l[i].external);
		json_bool(&j, "memory", l[i].memory);
		json_object_end(&j);
	}
	json_array_end(&j);
	json_object_end(&j);
	putchar('\n');
}

static void print_tree_json(const struct driver_domain *d, const struct vm_catalog *c)
{
	struct json j;

	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	cli_vm_json_head(&j, d, c);
	json_array_begin(&j, "snapshots");
	for (unsigned i = 0; i < c->count; i++) {
		json_object_begin(&j, NULL);
		cli_vm_json_point(&j, c, &c->points[i]);
		json_object_end(&j);
	}
	json_array_end(&j);
	json_object_end(&j);
	putchar('\n');
}

static int list_tree(struct cli_vm *v, struct error *e)
{
	struct vm_catalog c;
	int failed = 0;

	if (vm_points(v->vm, &c, e) < 0)
		return -1;
	if (v->json)
		print_tree_json(vm_domain(v->vm), &c);
	else
		failed = cli_vm_print_tree(&c, e);
	vm_catalog_free(&c);
	return failed;
}

static int list(struct cli_vm *v, const char *domain, bool tree, struct error *e)
{
	struct vm_listed *l;
	unsigned count;

	if (cli_vm_begin(v, e) < 0 || cli_vm_open(v, domain, true, e) < 0)
		return -1;
	if (tree)
		return list_tree(v, e);
	if (vm_list(v->vm, &l, &count, e) < 0)
		return -1;
	if (v->json)
		print_json(vm_domain(v->vm), l, count);
	else
		print_human(l, count);
	vm_listed_free(l, count);
	return 0;
}

static int list_run(struct cli *c, int argc, char **argv)
{
	struct cli_vm v = {.cli = c};
	struct error e;
	bool tree = false;
	const char *arg;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1)
		tree |= !cli_vm_option(&v, id, arg) && id == OPT_TREE;
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting the name of a domain");
	const int failed = list(&v, argv[optind], tree, &e);
	return cli_vm_end(&v, cli_vm_close(&v, failed, &e));
}

static const struct cli_option list_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_CONNECT,
	{OPT_TREE, "tree", NULL, "which was taken of which, as the catalog of kept snapshots tells"},
	CLI_ROW_STATE,
	CLI_ROW_JSON,
	CLI_ROW_VERBOSE,
	CLI_ROW_END,
};

const struct cli_command cli_vm_list = {
	.name = "list",
	.summary = "List the snapshots in a domain's disks, and libvirt's own",
	.arguments = "DOMAIN",
	.options = list_options,
	.run = list_run,
};
