/* SPDX-License-Identifier: Apache-2.0
 *
 * `snapshot`: the internal snapshots of an image (FORMAT.md §8), listed, taken, gone back to, deleted.
 */
#include "cli/cli.h"
#include "qcow2/edit.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <time.h>

enum { SNAPSHOT_JSON = CLI_OWN, SNAPSHOT_WIDEN, SNAPSHOT_THREADS };

/* ---- the list ---- */

static void print_snapshot(const struct qcow2_snapshot *s, const struct snapshot_usage *usage)
{
	char size[32], date[64], clock[64], icount[32] = "", exclusive[32], shared[32];
	const struct snapshot_entry *n = &s->entry;
	time_t when = n->date_sec;
	struct tm tm;
	uint64_t seconds = n->vm_clock_nsec / 1000000000u;

	if (!localtime_r(&when, &tm) || !strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &tm))
		date[0] = 0;
	snprintf(clock, sizeof clock, "%04" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ".%03" PRIu64, seconds / 3600,
		seconds / 60 % 60, seconds % 60, n->vm_clock_nsec / 1000000u % 1000u);
	if (n->has_icount && n->icount != UINT64_MAX)
		snprintf(icount, sizeof icount, "%" PRIu64, n->icount);
	printf("%-7s %-16s %8s %19s %15s %10s", s->id, s->name, size_format(n->vm_state_bytes, size), date, clock,
		icount);
	if (usage)
		printf(" %10s %10s", size_format(usage->exclusive, exclusive), size_format(usage->shared, shared));
	putchar('\n');
}

void cli_print_snapshots(const struct qcow2 *q, const struct snapshot_usage *usage)
{
	printf("Snapshot list:\n%-7s %-16s %8s %19s %15s %10s", "ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT");
	puts(usage ? "  EXCLUSIVE     SHARED" : "");
	for (uint32_t i = 0; i < q->snapshot_count; i++)
		print_snapshot(&q->snapshots[i], usage ? &usage[i] : NULL);
}

void cli_json_snapshots(struct json *j, const char *key, const struct qcow2 *q, const struct snapshot_usage *usage)
{
	json_array_begin(j, key);
	for (uint32_t i = 0; i < q->snapshot_count; i++) {
		const struct snapshot_entry *s = &q->snapshots[i].entry;
		json_object_begin(j, NULL);
		if (s->has_icount && s->icount != UINT64_MAX)
			json_uint(j, "icount", s->icount);
		json_uint(j, "vm-clock-nsec", s->vm_clock_nsec % 1000000000u);
		json_string(j, "name", q->snapshots[i].name);
		json_uint(j, "date-sec", s->date_sec);
		json_uint(j, "date-nsec", s->date_nsec);
		json_uint(j, "vm-clock-sec", s->vm_clock_nsec / 1000000000u);
		json_string(j, "id", q->snapshots[i].id);
		json_uint(j, "vm-state-size", s->vm_state_bytes);
		if (usage) {
			json_uint(j, "virtual-size", q->snapshots[i].disk_size);
			json_uint(j, "exclusive-bytes", usage[i].exclusive);
			json_uint(j, "shared-bytes", usage[i].shared);
		}
		json_object_end(j);
	}
	json_array_end(j);
}

struct snapshot_usage *cli_snapshots_usage(const struct cli *c, struct layer *l, uint64_t most_bytes)
{
	struct error e;
	uint64_t tables = 0;

	if (c->drop_in || c->untrusted || !l->q || !l->q->snapshot_count)
		return NULL;
	for (uint32_t i = 0; i < l->q->snapshot_count; i++)
		tables += l->q->snapshots[i].entry.l1_entries;
	if (tables > most_bytes >> l->q->g.cluster_bits)
		return NULL;
	struct snapshot_usage *usage = mem_calloc(l->q->snapshot_count, sizeof *usage, "snapshots", &e);
	if (!usage || qcow2_snapshots_usage(l, pool_cpu_count(), usage, &e) < 0) {
		cli_verbose(c, "what snapshots take is not known: %s", e.msg);
		free(usage);
		return NULL;
	}
	return usage;
}

/* ---- the verb ---- */

struct snapshot_args {
	struct cli_source source;
	int action; /* 'l', 'c', 'a', 'd'; 0: not said */
	const char *snapshot;
	unsigned threads;
	bool quiet, json, widen;
};

static int list(const struct cli *c, const struct snapshot_args *a, const char *name)
{
	struct chain_opts opts;
	AUTO_CHAIN struct chain *image = NULL;

	if (cli_source_opts(c, &a->source, name, NULL, &opts) < 0)
		return 1;
	opts.no_backing = opts.inspect = true;
	if (cli_open(c, name, &opts, &image) < 0)
		return 1;
	struct layer *l = &image->layers[0];
	static const struct qcow2 none;
	AUTO_FREE struct snapshot_usage *usage = a->json ? cli_snapshots_usage(c, l, UINT64_MAX) : NULL;
	if (a->json && !a->quiet) {
		struct json j;
		json_init(&j, stdout, false);
		cli_json_snapshots(&j, NULL, l->q ? l->q : &none, usage);
		putchar('\n');
	} else if (l->q && l->q->snapshot_count && !a->quiet) {
		cli_print_snapshots(l->q, NULL);
	}
	return 0;
}

/* Called as qemu-img: going back looks for the id first, then for the name; deleting looks for the name alone. */
static int find_as_qemu_img(const struct qcow2 *q, const struct snapshot_args *a, struct error *e)
{
	const struct snapshot_query id = {.id = a->snapshot}, name = {.name = a->snapshot};
	int index = a->action == 'a' ? qcow2_snapshot_find(q, &id, e) : -1;
	return index >= 0 ? index : qcow2_snapshot_find(q, &name, e);
}

static int find(const struct cli *c, const struct qcow2 *q, const struct snapshot_args *a, struct error *e)
{
	struct snapshot_query query;
	if (c->drop_in)
		return find_as_qemu_img(q, a, e);
	cli_snapshot_name(c, a->snapshot, &query);
	return qcow2_snapshot_find(q, &query, e);
}

static int create(struct edit *ed, const struct snapshot_args *a, struct error *e)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	const struct snapshot_new n = {.name = a->snapshot,
		.date_sec = (uint32_t)now.tv_sec,
		.date_nsec = (uint32_t)now.tv_nsec,
		.icount = UINT64_MAX,
		.widen = a->widen,
		.threads = a->threads};
	return edit_snapshot_create(ed, &n, e);
}

static int act(const struct cli *c, struct edit *ed, struct layer *l, const struct snapshot_args *a, struct error *e)
{
	if (a->action == 'c')
		return create(ed, a, e);
	int index = find(c, l->q, a, e);
	if (index < 0)
		return -1;
	return a->action == 'a' ? edit_snapshot_apply(ed, (uint32_t)index, a->widen, a->threads, e)
				: edit_snapshot_delete(ed, (uint32_t)index, a->threads, e);
}

static int change_image(const struct cli *c, struct layer *l, const struct snapshot_args *a, struct error *e)
{
	/* Bulk work does without them; these are for the few tables that are allocated. */
	const struct edit_opts opts = {.cache_bytes = 4 << 20};
	struct error unsaid;
	struct edit *ed;

	if (!l->q)
		return err_set(e, ERR_UNSUPPORTED, "%s", strerror(ENOTSUP));
	if (edit_open(&ed, l, &opts, e) < 0)
		return -1;
	if (act(c, ed, l, a, e) == 0)
		return edit_close(ed, e);
	(void)edit_close(ed, &unsaid);
	return -1;
}

static int change(const struct cli *c, const struct snapshot_args *a, const char *name)
{
	const char *verb = a->action == 'c' ? "create" : a->action == 'a' ? "apply" : "delete";
	struct chain_opts opts;
	struct error e;
	AUTO_CHAIN struct chain *image = NULL;

	if (a->source.force_share)
		return cli_error(c, "Could not open '%s': force-share=on can only be used with read-only images", name);
	if (cli_write_opts(c, &a->source, name, &opts) < 0)
		return 1;
	opts.no_backing = true;
	if (cli_open(c, name, &opts, &image) < 0)
		return 1;
	cli_warn_probed(image);
	if (change_image(c, &image->layers[0], a, &e) == 0)
		return 0;
	if (a->action == 'd' && e.code == ERR_NOT_FOUND)
		return cli_error(c, "Could not delete snapshot '%s': snapshot not found", a->snapshot);
	return cli_error(c, "Could not %s snapshot '%s': %s", verb, a->snapshot, e.msg);
}

static void set_action(const struct cli *c, struct snapshot_args *a, int action, const char *snapshot)
{
	if (a->action)
		cli_usage_error(c, "Cannot mix '-l', '-a', '-c', '-d'");
	a->action = action;
	a->snapshot = snapshot;
}

static void parse(struct cli *c, int argc, char **argv, struct snapshot_args *a)
{
	const char *arg;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'l':
		case 'a':
		case 'c':
		case 'd':
			set_action(c, a, id, arg);
			break;
		case 'q':
			a->quiet = true;
			break;
		case CLI_OUTPUT:
			a->json = cli_parse_output(c, arg);
			break;
		case SNAPSHOT_JSON:
			a->json = true;
			break;
		case SNAPSHOT_WIDEN:
			a->widen = true;
			break;
		case SNAPSHOT_THREADS:
			a->threads = cli_parse_number(c, "number of threads", arg, 0, 1024);
			break;
		default:
			cli_source_option(&a->source, id, arg);
		}
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name");
}

static int snapshot_run(struct cli *c, int argc, char **argv)
{
	struct snapshot_args a = {.threads = pool_cpu_count()};

	parse(c, argc, argv, &a);
	if (!a.action || a.action == 'l')
		return list(c, &a, argv[optind]);
	return change(c, &a, argv[optind]);
}

static const struct cli_option snapshot_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{'l', "list", NULL, "list the snapshots (the default)"},
	{'c', "create", "SNAPSHOT", "take a snapshot of this name"},
	{'a', "apply", "SNAPSHOT", "make the disk what it was then; name or id, id=ID, name=NAME"},
	{'d', "delete", "SNAPSHOT", "delete it"},
	CLI_ROW_OUTPUT,
	{SNAPSHOT_JSON, "json", NULL, "the same as --output=json"},
	{SNAPSHOT_WIDEN, "widen", NULL, "-c, -a: make refcounts wider when they cannot count one more"},
	{SNAPSHOT_THREADS, "threads", "N", "number of threads; 0: do all on one (default: the processors)"},
	CLI_ROW_FORCE_SHARE,
	CLI_ROW_QUIET,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_snapshot = {
	.name = "snapshot",
	.summary = "List, take, go back to and delete snapshots inside an image",
	.arguments = "FILENAME",
	.options = snapshot_options,
	.run = snapshot_run,
};
