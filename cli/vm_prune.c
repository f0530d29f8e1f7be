/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm prune`: snapshots that no rule keeps are told, and deleted when --yes says so. The rules are restic's.
 */
#include "cli/vm_points.h"

#include <getopt.h>

enum { OPT_KEEP = CLI_OWN, OPT_WITHIN = OPT_KEEP + VM_PERIODS, OPT_NAME, OPT_YES };

struct prune_args {
	struct cli_vm vm;
	struct vm_keep keep;
	const char **names;
	bool yes, dry;
	const char *domain;
	struct vm_catalog c;
	unsigned *why; /* for each point, as vm_prune_plan says */
	bool *gone;
};

static void parse_option(struct prune_args *a, int id, const char *arg)
{
	const struct cli *c = a->vm.cli;
	struct error e;

	if (id >= OPT_KEEP && id < OPT_KEEP + VM_PERIODS) {
		char what[40];
		snprintf(what, sizeof what, "number for --keep-%s", vm_period_name((enum vm_period)(id - OPT_KEEP)));
		a->keep.count[id - OPT_KEEP] = cli_parse_number(c, what, arg, 1, 1000000);
	} else if (id == OPT_WITHIN) {
		if (vm_span_parse(arg, &a->keep.within, &e) < 0)
			cli_usage_error(c, "--keep-within: %s", e.msg);
	} else if (id == OPT_NAME) {
		a->names[a->keep.name_count++] = arg;
	} else if (id == OPT_YES) {
		a->yes = true;
	} else if (id == 'n') {
		a->dry = true;
	}
}

static void parse(struct prune_args *a, int argc, char **argv)
{
	const struct cli *c = a->vm.cli;
	bool any = false;
	const char *arg;
	struct error e;
	int id;

	a->names = mem_calloc((size_t)argc, sizeof *a->names, "patterns", &e);
	if (!a->names)
		cli_usage_error(c, "%s", e.msg);
	a->keep.names = a->names;
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		any |= id >= OPT_KEEP && id <= OPT_NAME;
		if (!cli_vm_option(&a->vm, id, arg))
			parse_option(a, id, arg);
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting the name of a domain");
	if (!any)
		cli_usage_error(c, "Nothing says what is to be kept: at least one --keep-... is needed");
	if (a->yes && a->dry)
		cli_usage_error(c, "--yes and --dry-run exclude each other");
	a->domain = argv[optind];
}

/* ---- what is told ---- */

/* The next reason's word; NULL: that was all. *bit: where to look. */
static const char *next_reason(unsigned why, unsigned *bit)
{
	for (; 1u << *bit <= VM_REASON_STATE; ++*bit) {
		if (!(why & 1u << *bit))
			continue;
		const unsigned found = 1u << (*bit)++;

		return found == VM_REASON_WITHIN  ? "within"
		       : found == VM_REASON_NAME  ? "name"
		       : found == VM_REASON_STATE ? "not whole"
						  : vm_period_name((enum vm_period)(*bit - 1));
	}
	return NULL;
}

static void print_plan(const struct prune_args *a)
{
	unsigned going = 0;
	int width = 0;
	char when[32];

	for (unsigned i = 0; i < a->c.count; i++)
		width = (int)max_u64((uint64_t)width, min_u64(strlen(a->c.points[i].name), 60));
	for (unsigned i = 0; i < a->c.count; i++) {
		const struct vm_point *p = &a->c.points[i];
		const char *reason, *between = "";
		unsigned bit = 0;

		printf("%s  %-*s  %s  ", a->why[i] ? "keep  " : "delete", width, p->name,
			cli_vm_time(p->created, when));
		for (; (reason = next_reason(a->why[i], &bit)); between = ", ")
			printf("%s%s", between, reason);
		if (a->why[i] & VM_REASON_STATE)
			printf(" (%s)", vm_point_state_name(p->state));
		putchar('\n');
		going += !a->why[i];
	}
	printf("%u kept, %u %s%s\n", a->c.count - going, going, a->yes ? "to be deleted" : "would be deleted",
		!a->yes && going ? "; --yes does it" : "");
	fflush(stdout); /* what follows may take long */
}

static void json_plan_point(const struct prune_args *a, struct json *j, unsigned i)
{
	const char *reason;
	unsigned bit = 0;

	json_object_begin(j, NULL);
	json_string(j, "name", a->c.points[i].name);
	json_int(j, "created", a->c.points[i].created);
	json_string(j, "state", vm_point_state_name(a->c.points[i].state));
	json_bool(j, "keep", a->why[i] != 0);
	json_array_begin(j, "reasons");
	while ((reason = next_reason(a->why[i], &bit)))
		json_string(j, NULL, reason);
	json_array_end(j);
	json_bool(j, "deleted", a->gone[i]);
	json_object_end(j);
}

static void print_json(const struct prune_args *a)
{
	struct json j;

	json_init(&j, stdout, false);
	json_object_begin(&j, NULL);
	json_string(&j, "domain", vm_domain(a->vm.vm)->name);
	json_string(&j, "uuid", vm_domain(a->vm.vm)->uuid);
	json_bool(&j, "dry-run", !a->yes);
	json_array_begin(&j, "snapshots");
	for (unsigned i = 0; i < a->c.count; i++)
		json_plan_point(a, &j, i);
	json_array_end(&j);
	json_object_end(&j);
	putchar('\n');
}

/* ---- the verb ---- */

static int delete_all(struct prune_args *a, struct error *e)
{
	const bool tell = !a->vm.json && !a->vm.quiet;

	for (unsigned i = 0; i < a->c.count; i++) {
		const char *name = a->c.points[i].name;

		if (a->why[i])
			continue;
		if (vm_delete(a->vm.vm, name, e) < 0)
			return err_prefix(e, "snapshot '%s'", name);
		a->gone[i] = true;
		if (tell) {
			cli_progress_break(&a->vm.progress);
			printf("deleted %s\n", name);
			fflush(stdout);
		}
	}
	return 0;
}

static int prune(struct prune_args *a, struct error *e)
{
	/* a dry run is a look */
	if (cli_vm_begin(&a->vm, e) < 0 || cli_vm_open(&a->vm, a->domain, !a->yes, e) < 0 ||
		vm_points(a->vm.vm, &a->c, e) < 0)
		return -1;
	a->why = mem_calloc(a->c.count + 1, sizeof *a->why, "snapshots", e);
	a->gone = mem_calloc(a->c.count + 1, sizeof *a->gone, "snapshots", e);
	if (!a->why || !a->gone || vm_prune_plan(&a->c, &a->keep, a->why, e) < 0)
		return -1;
	if (!a->vm.json && !a->vm.quiet)
		print_plan(a);
	const int failed = a->yes ? delete_all(a, e) : 0;
	if (a->vm.json)
		print_json(a);
	return failed;
}

static int prune_run(struct cli *c, int argc, char **argv)
{
	struct prune_args a = {.vm = {.cli = c}};
	struct error e;

	parse(&a, argc, argv);
	const int failed = prune(&a, &e);
	const int status = cli_vm_end(&a.vm, cli_vm_close(&a.vm, failed, &e));
	vm_catalog_free(&a.c);
	free(a.why);
	free(a.gone);
	free(a.names);
	return status;
}

static const struct cli_option prune_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_CONNECT,
	{OPT_KEEP + VM_LAST, "keep-last", "N", "keep the N newest"},
	{OPT_KEEP + VM_HOURLY, "keep-hourly", "N", "keep the newest of each of the last N hours that have any"},
	{OPT_KEEP + VM_DAILY, "keep-daily", "N", "... of the last N days"},
	{OPT_KEEP + VM_WEEKLY, "keep-weekly", "N", "... of the last N weeks, which begin on Monday"},
	{OPT_KEEP + VM_MONTHLY, "keep-monthly", "N", "... of the last N months"},
	{OPT_KEEP + VM_YEARLY, "keep-yearly", "N", "... of the last N years"},
	{OPT_WITHIN, "keep-within", "SPAN", "keep what is younger than SPAN before the newest: 7d12h, 1y6m"},
	{OPT_NAME, "keep-name", "PATTERN", "keep those of such names, as the shell matches them; may be repeated"},
	{'n', "dry-run", NULL, "only tell what would be deleted (the default)"},
	{OPT_YES, "yes", NULL, "delete"},
	CLI_ROW_MAX_PAUSE,
	CLI_ROW_WAIT,
	CLI_ROW_STATE,
	CLI_ROW_JSON,
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	CLI_ROW_VERBOSE,
	CLI_ROW_END,
};

const struct cli_command cli_vm_prune = {
	.name = "prune",
	.summary = "Delete the kept snapshots of a domain that no rule keeps",
	.arguments = "DOMAIN",
	.options = prune_options,
	.run = prune_run,
};
