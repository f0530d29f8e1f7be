/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm delete`: a snapshot deleted from every disk of a domain that has it, while the guest runs, too.
 */
#include "cli/vm.h"

#include <getopt.h>

enum { OPT_CHILDREN = CLI_OWN };

/* Of those below it nothing goes when one is not what the catalog says. */
static int refuse_foreign(const struct vm_catalog *c, const unsigned *order, unsigned count, struct error *e)
{
	for (unsigned i = 0; i < count; i++) {
		const struct vm_point *p = &c->points[order[i]];

		if (p->state == VM_POINT_FOREIGN)
			return err_set(e, ERR_CHANGED,
				"snapshot '%s' is not the one that was taken here: %s; nothing is deleted", p->name,
				p->why);
	}
	return 0;
}

static int delete_each(struct cli_vm *v, const struct vm_catalog *c, const unsigned *order, unsigned count,
	struct error *e)
{
	for (unsigned i = 0; i < count; i++) {
		const char *name = c->points[order[i]].name;

		if (vm_delete(v->vm, name, e) < 0)
			return err_prefix(e, "snapshot '%s'", name);
		if (v->quiet)
			continue;
		cli_progress_break(&v->progress);
		printf("deleted %s\n", name);
		fflush(stdout); /* the next one may take long */
	}
	return 0;
}

/* The deepest first, so that what is left is a whole tree whenever it ends. */
static int delete_below(struct cli_vm *v, const char *name, struct error *e)
{
	AUTO_FREE unsigned *order = NULL;
	struct vm_catalog c;
	unsigned count;

	if (vm_points(v->vm, &c, e) < 0)
		return -1;
	int failed = vm_catalog_below(&c, name, &order, &count, e) < 0 || refuse_foreign(&c, order, count, e) < 0 ||
				     delete_each(v, &c, order, count, e) < 0
			     ? -1
			     : 0;
	vm_catalog_free(&c);
	return failed;
}

static int delete_run(struct cli *c, int argc, char **argv)
{
	struct cli_vm v = {.cli = c};
	struct error e;
	bool children = false;
	const char *arg;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1)
		children |= !cli_vm_option(&v, id, arg) && id == OPT_CHILDREN;
	if (argc - optind != 2)
		cli_usage_error(c, "Expecting the name of a domain and of a snapshot");
	int failed = cli_vm_begin(&v, &e) < 0 || cli_vm_open(&v, argv[optind], false, &e) < 0 ||
				     (children ? delete_below(&v, argv[optind + 1], &e)
					       : vm_delete(v.vm, argv[optind + 1], &e)) < 0
			     ? -1
			     : 0;
	return cli_vm_end(&v, cli_vm_close(&v, failed, &e));
}

static const struct cli_option delete_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_CONNECT,
	{OPT_CHILDREN, "children", NULL, "and all that were taken below it, the deepest first"},
	CLI_ROW_STATE,
	CLI_ROW_MAX_PAUSE,
	CLI_ROW_WAIT,
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	CLI_ROW_VERBOSE,
	CLI_ROW_END,
};

const struct cli_command cli_vm_delete = {
	.name = "delete",
	.summary = "Delete a snapshot from all disks of a domain",
	.arguments = "DOMAIN NAME",
	.options = delete_options,
	.run = delete_run,
};
