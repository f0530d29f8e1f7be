/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm show`: all that is known of a domain's snapshots, or of one.
 */
#include "cli/vm_points.h"

#include <getopt.h>

enum { MOST_TABLE_BYTES = 64 << 20 }; /* what may be read to tell what a snapshot takes */

/* True: it is known. It is not where the guest runs or where too much would have to be read. */
static bool usage_of(struct cli_vm *v, const struct vm_point *p, unsigned disk, struct snapshot_usage *out)
{
	struct error e;

	if (p->state != VM_POINT_WHOLE && p->state != VM_POINT_UNLISTED)
		return false;
	if (vm_point_usage(v->vm, p, disk, MOST_TABLE_BYTES, out, &e) == 0)
		return true;
	cli_verbose(v->cli, "what snapshot %s takes is not known: %s", p->name, e.msg);
	return false;
}

/* ---- for people ---- */

static void print_disk(struct cli_vm *v, const struct vm_point *p, unsigned disk)
{
	const struct vm_point_disk *d = &p->disks[disk];
	struct snapshot_usage usage;
	char size[32], alone[32];

	printf("  disk %s: %s, snapshot id %s, %s", d->target, d->path, d->id, size_format(d->size, size));
	if (usage_of(v, p, disk, &usage))
		printf(", %s of its own", size_format(usage.exclusive, alone));
	putchar('\n');
}

static void print_exports(const struct vm_point *p)
{
	char when[32], bytes[32];

	for (unsigned i = 0; i < p->export_count; i++) {
		const struct vm_point_export *x = &p->exports[i];

		printf("  %s%s: %s, %s, %s", x->target ? "image of " : "bundle", x->target ? x->target : "", x->to,
			size_format(x->bytes, bytes), cli_vm_time(x->when, when));
		if (x->since)
			printf(", what changed since %s", x->since);
		putchar('\n');
		if (x->digest[0])
			printf("    sha256 %s\n", x->digest);
	}
}

static void print_point(struct cli_vm *v, const struct vm_catalog *c, const struct vm_point *p)
{
	static const char *const was[] = {
		[DRIVER_RUNNING] = "running", [DRIVER_PAUSED] = "paused", [DRIVER_SHUT_OFF] = "shut off"};
	const bool current = c->current && strcmp(c->current, p->name) == 0;
	char when[32], bytes[32];

	printf("%s%s\n", p->name, current ? "  (current)" : "");
	printf("  state: %s%s%s\n", vm_point_state_name(p->state), p->why ? ": " : "", p->why ? p->why : "");
	printf("  taken: %s", cli_vm_time(p->created, when));
	if (p->state != VM_POINT_UNLISTED)
		printf(", %s, the guest was %s%s", cli_vm_how(p), was[p->was],
			p->quiesced ? ", its file systems frozen" : "");
	putchar('\n');
	if (p->state != VM_POINT_UNLISTED)
		printf("  parent: %s\n", p->parent ? p->parent : "none known");
	if (p->memory)
		printf("  memory: %s, %s\n    sha256 %s\n", p->memory, size_format(p->memory_bytes, bytes),
			p->memory_digest);
	if (p->nvram)
		printf("  NVRAM: %s\n    sha256 %s\n", p->nvram, p->nvram_digest);
	for (unsigned i = 0; i < p->disk_count; i++)
		print_disk(v, p, i);
	print_exports(p);
}

/* ---- for programs ---- */

static void json_disk(struct cli_vm *v, struct json *j, const struct vm_point *p, unsigned disk)
{
	const struct vm_point_disk *d = &p->disks[disk];
	struct snapshot_usage usage;

	json_object_begin(j, NULL);
	json_string(j, "target", d->target);
	json_string(j, "path", d->path);
	json_string(j, "id", d->id);
	json_uint(j, "virtual-size", d->size);
	json_int(j, "date", d->date_sec);
	json_uint(j, "date-nsec", d->date_nsec);
	if (usage_of(v, p, disk, &usage)) {
		json_uint(j, "exclusive-bytes", usage.exclusive);
		json_uint(j, "shared-bytes", usage.shared);
	}
	json_object_end(j);
}

static void json_export(struct json *j, const struct vm_point_export *x)
{
	json_object_begin(j, NULL);
	if (x->target)
		json_string(j, "target", x->target);
	json_string(j, "to", x->to);
	json_int(j, "when", x->when);
	json_uint(j, "bytes", x->bytes);
	if (x->since)
		json_string(j, "since", x->since);
	if (x->digest[0])
		json_string(j, "sha256", x->digest);
	json_object_end(j);
}

static void json_point(struct cli_vm *v, struct json *j, const struct vm_catalog *c, const struct vm_point *p)
{
	json_object_begin(j, NULL);
	cli_vm_json_point(j, c, p);
	if (p->xml)
		json_string(j, "xml", p->xml);
	json_array_begin(j, "disks");
	for (unsigned i = 0; i < p->disk_count; i++)
		json_disk(v, j, p, i);
	json_array_end(j);
	json_array_begin(j, "exports");
	for (unsigned i = 0; i < p->export_count; i++)
		json_export(j, &p->exports[i]);
	json_array_end(j);
	json_object_end(j);
}

/* ---- the verb ---- */

/* `only` NULL: all. */
static void print(struct cli_vm *v, const struct vm_catalog *c, const struct vm_point *only)
{
	struct json j;

	if (v->json) {
		json_init(&j, stdout, false);
		json_object_begin(&j, NULL);
		cli_vm_json_head(&j, vm_domain(v->vm), c);
		json_array_begin(&j, "snapshots");
	}
	for (unsigned i = 0; i < c->count; i++) {
		if (only && only != &c->points[i])
			continue;
		if (v->json)
			json_point(v, &j, c, &c->points[i]);
		else
			print_point(v, c, &c->points[i]);
	}
	if (v->json) {
		json_array_end(&j);
		json_object_end(&j);
		putchar('\n');
	}
}

static int show(struct cli_vm *v, const char *domain, const char *name, struct error *e)
{
	struct vm_catalog c;

	if (cli_vm_begin(v, e) < 0 || cli_vm_open(v, domain, true, e) < 0 || vm_points(v->vm, &c, e) < 0)
		return -1;
	const struct vm_point *only = vm_catalog_find(&c, name);
	int failed = 0;

	if (name && !only)
		failed = err_set(e, ERR_NOT_FOUND, "domain '%s' has no snapshot '%s'", vm_domain(v->vm)->name, name);
	else
		print(v, &c, only);
	vm_catalog_free(&c);
	return failed;
}

static int show_run(struct cli *c, int argc, char **argv)
{
	struct cli_vm v = {.cli = c};
	struct error e;
	const char *arg;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1)
		cli_vm_option(&v, id, arg);
	if (argc - optind != 1 && argc - optind != 2)
		cli_usage_error(c, "Expecting the name of a domain, and perhaps of a snapshot");
	const int failed = show(&v, argv[optind], argv[optind + 1], &e);
	return cli_vm_end(&v, cli_vm_close(&v, failed, &e));
}

static const struct cli_option show_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_CONNECT,
	CLI_ROW_STATE,
	CLI_ROW_JSON,
	CLI_ROW_VERBOSE,
	CLI_ROW_END,
};

const struct cli_command cli_vm_show = {
	.name = "show",
	.summary = "Show all that is known of a domain's kept snapshots",
	.arguments = "DOMAIN [NAME]",
	.options = show_options,
	.run = show_run,
};
