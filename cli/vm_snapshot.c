/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm snapshot`: all disks of a machine at one instant, as images that stand alone or as internal snapshots that stay. Parses
 * and checks; the work is vm_take's.
 */
#include "cli/vm_taken.h"

#include <errno.h>
#include <getopt.h>
#include <unistd.h>

enum {
	OPT_MODE = CLI_OWN,
	OPT_VIA,
	OPT_DISKS,
	OPT_QUIESCE,
	OPT_TO,
	OPT_FORMAT,
	OPT_COMPRESS,
	OPT_KEEP,
	OPT_SINCE,
	OPT_MEMORY,
	OPT_EXTRACT,
	OPT_SYNCHRONOUS,
	OPT_THREADS,
	OPT_CLOUD,
	OPT_INSECURE,
};

struct snapshot_args {
	struct cli_vm vm;
	struct vm_take take;
	struct vm_glance glance;
	struct cli_option_list list; /* what --compress means to the format */
	const char *domain, *format, *compress;
	char *disks;          /* of --disks, cut at its commas */
	const char **targets; /* the pieces */
};

/* ---- options ---- */

/* The index of `text` among `words`; others are refused with all that there are. */
static unsigned parse_word(const struct cli *c, const char *option, const char *text, const char *const *words,
	unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	char all[80] = "";
	for (unsigned i = 0; i < count; i++) {
		const char *between = i == 0 ? "" : i + 1 < count ? ", " : " or ";
		size_t len = strlen(all);
		snprintf(all + len, sizeof all - len, "%s%s", between, words[i]);
	}
	cli_usage_error(c, "%s expects %s, not '%s'", option, all, text);
}

static enum vm_mode parse_mode(const struct cli *c, const char *text)
{
	const char *words[VM_INSTANT + 1];

	for (enum vm_mode m = VM_AUTO; m <= VM_INSTANT; m++)
		words[m] = vm_mode_name(m);
	return parse_word(c, "--mode", text, words, VM_INSTANT + 1);
}

static enum vm_via parse_via(const struct cli *c, const char *text)
{
	const char *const words[] = {vm_via_name(VM_VIA_INTERNAL), vm_via_name(VM_VIA_OVERLAY)};

	return VM_VIA_INTERNAL + parse_word(c, "--via", text, words, 2);
}

static int parse_disks(struct snapshot_args *a, const char *text, struct error *e)
{
	unsigned count = 1;

	for (const char *p = text; *p; p++)
		count += *p == ',';
	free(a->disks);
	free(a->targets);
	a->targets = NULL;
	a->disks = mem_strdup(text, e);
	if (a->disks)
		a->targets = mem_calloc(count, sizeof *a->targets, "disks", e);
	if (!a->targets)
		return -1;
	char *rest = a->disks;
	for (unsigned i = 0; i < count; i++) {
		a->targets[i] = strsep(&rest, ",");
		if (!*a->targets[i])
			return err_set(e, ERR_USAGE, "--disks expects targets with commas between them, not '%s'",
				text);
	}
	a->take.disks = a->targets;
	a->take.disk_count = count;
	return 0;
}

static void parse_how(struct snapshot_args *a, int id, const char *arg)
{
	const struct cli *c = a->vm.cli;
	struct error e;

	switch (id) {
	case OPT_MODE:
		a->take.mode = parse_mode(c, arg);
		break;
	case OPT_VIA:
		a->take.via = parse_via(c, arg);
		break;
	case OPT_DISKS:
		if (parse_disks(a, arg, &e) < 0)
			cli_usage_error(c, "%s", e.msg);
		break;
	case OPT_QUIESCE:
		if (arg && strcmp(arg, "required") != 0)
			cli_usage_error(c, "--quiesce takes 'required' or nothing, not '%s'", arg);
		a->take.quiesce = arg ? VM_QUIESCE_REQUIRED : VM_QUIESCE_TRY;
		break;
	case OPT_EXTRACT:
		if (strcmp(arg, "stopped") != 0)
			cli_usage_error(c, "--extract expects 'stopped' not '%s'", arg);
		a->take.extract_stopped = true;
		break;
	case OPT_SYNCHRONOUS:
		a->take.synchronous = true;
		break;
	}
}

static void parse_where(struct snapshot_args *a, int id, const char *arg)
{
	switch (id) {
	case OPT_TO:
		a->take.to = arg;
		break;
	case OPT_FORMAT:
		a->format = arg;
		break;
	case OPT_COMPRESS:
		a->compress = arg;
		break;
	case OPT_KEEP:
		a->take.keep = true;
		break;
	case OPT_SINCE:
		a->take.since = arg;
		break;
	case OPT_MEMORY:
		a->take.memory = true;
		break;
	case OPT_THREADS:
		a->take.threads = cli_parse_number(a->vm.cli, "number of threads", arg, 0, 1024);
		break;
	case OPT_CLOUD:
		a->glance.opts.cloud = arg;
		break;
	case OPT_INSECURE:
		a->glance.opts.insecure = true;
		break;
	}
}

static bool ends_in(const char *text, const char *ending)
{
	size_t len = strlen(text), most = strlen(ending);

	return len > most && strcmp(text + len - most, ending) == 0;
}

/* The format is what --format says. A name that says another one is most likely a mistake. */
static void check_name(const struct snapshot_args *a)
{
	const char *format = a->format ? a->format : "qcow2", *to = a->take.to;
	const char *named = !to ? NULL : ends_in(to, ".raw") ? "raw" : ends_in(to, ".qcow2") ? "qcow2" : NULL;

	if (!named || strcmp(named, format) == 0 || (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0))
		return;
	if (!a->format)
		cli_usage_error(a->vm.cli,
			"'%s' looks like a %s image, and images are %s: say --format %s, or another name", to, named,
			format, named);
	cli_error(a->vm.cli, "'%s' will be a %s image, as --format says", to, format);
}

static void check(const struct snapshot_args *a)
{
	const struct cli *c = a->vm.cli;
	const struct vm_take *t = &a->take;

	if (t->via && t->mode == VM_LIVE)
		cli_usage_error(c, "--via is for --mode instant and cold");
	if (t->via == VM_VIA_OVERLAY && t->extract_stopped)
		cli_usage_error(c, "--extract stopped needs no overlay");
	if (t->extract_stopped && t->mode != VM_COLD)
		cli_usage_error(c, "--extract is for --mode cold");
	if (t->synchronous && t->mode != VM_LIVE)
		cli_usage_error(c, "--synchronous-writes is for --mode live");
	const bool live = t->mode == VM_LIVE && !t->memory; /* with memory it is instant */
	if (t->keep && (live || t->via == VM_VIA_OVERLAY))
		cli_usage_error(c, "--keep is for internal snapshots");
	if (!t->to && (live || t->via == VM_VIA_OVERLAY))
		cli_usage_error(c, "Without --to there is nothing that would stay: say where the images go");
	if (t->since && (!t->keep || !t->to))
		cli_usage_error(c, "--since takes --keep and --to");
	if (t->memory && t->synchronous)
		cli_usage_error(c, "--synchronous-writes is for copies of disks, which --memory has none of");
	if (!t->to && (a->format || a->compress))
		cli_usage_error(c, "--format and --compress are for the images of --to");
	if (!vm_glance_wanted(t->to) && (a->glance.opts.cloud || a->glance.opts.insecure))
		cli_usage_error(c, "--os-cloud and --insecure are for --to glance:");
	if (t->to && !*t->to)
		cli_usage_error(c, "--to needs the name of a folder or a file");
	check_name(a);
}

static void parse(struct snapshot_args *a, int argc, char **argv)
{
	const struct cli *c = a->vm.cli;
	const char *arg;
	struct error e;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		if (cli_vm_option(&a->vm, id, arg))
			continue;
		parse_how(a, id, arg);
		parse_where(a, id, arg);
	}
	if (argc - optind != 1 && argc - optind != 2)
		cli_usage_error(c, "Expecting the name of a domain, and perhaps of the snapshot");
	a->domain = argv[optind];
	a->take.name = argv[optind + 1];
	check(a);
	if (cli_image_format(a->format, a->compress, &a->list, &a->take.create, &e) < 0)
		cli_usage_error(c, "%s", e.msg);
	a->take.compress = a->compress != NULL;
	a->take.keep |= !a->take.to;
}

/* ---- the verb ---- */

/* The image service's own way to be a stream; opened before a guest is touched. */
static int begin_glance(struct snapshot_args *a, struct error *e)
{
	if (!vm_glance_wanted(a->take.to))
		return 0;
	a->glance.vm = &a->vm;
	a->glance.to = a->take.to;
	a->glance.format = image_format_name(a->take.create.format);
	a->take.to = "-";
	a->take.sink = &a->glance.sink;
	return vm_glance_begin(&a->glance, e);
}

static int take(struct snapshot_args *a, struct error *e)
{
	struct vm_taken taken = {0};

	if (a->take.to && strcmp(a->take.to, "-") == 0 && cli_take_stdout(&a->take.stream_fd, e) < 0)
		return -1;
	if (cli_vm_begin(&a->vm, e) < 0 || begin_glance(a, e) < 0 || cli_vm_open(&a->vm, a->domain, false, e) < 0 ||
		vm_take(a->vm.vm, &a->take, &taken, e) < 0)
		return -1;
	cli_progress_break(&a->vm.progress);
	if (a->vm.json)
		cli_vm_taken_json(&a->take, &a->glance, vm_domain(a->vm.vm), &taken);
	else if (!a->vm.quiet)
		cli_vm_taken_print(&a->take, vm_domain(a->vm.vm), &taken);
	vm_taken_free(&taken);
	return 0;
}

static int snapshot_run(struct cli *c, int argc, char **argv)
{
	struct snapshot_args a = {.vm = {.cli = c}};
	struct error e;

	vm_take_defaults(&a.take);
	a.glance.opts =
		(struct store_opts){.timeout_seconds = CLI_STORE_TIMEOUT_SECONDS, .retries = CLI_STORE_RETRIES_DEFAULT};
	parse(&a, argc, argv);
	int failed = take(&a, &e);
	vm_glance_end(&a.glance, !failed);
	if (a.take.stream_fd >= 0 && close(a.take.stream_fd) < 0 && !failed)
		failed = err_sys(&e, errno, "standard output");
	const int status = cli_vm_end(&a.vm, cli_vm_close(&a.vm, failed, &e));
	free(a.disks);
	free(a.targets);
	cli_option_list_free(&a.list);
	return status;
}

static const struct cli_option snapshot_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_CONNECT,
	{OPT_MODE, "mode", "MODE", "auto (default: instant, else live, else cold), cold, live or instant"},
	{OPT_VIA, "via", "VIA",
		"instant, cold: by internal snapshots or by an overlay (default: what holds the guest less)"},
	{OPT_DISKS, "disks", "LIST", "targets of the disks, vda,vdb (default: every writable local disk)"},
	{OPT_QUIESCE, "quiesce", "[required]",
		"freeze the guest's file systems for the instant; =required: fail when that fails"},
	{OPT_TO, "to", "WHERE",
		"folder for one image a disk, a file or - for one disk's, or glance:[NAME] for OpenStack's image "
		"service "
		"(default: --keep)"},
	{OPT_CLOUD, "os-cloud", "NAME",
		"with glance: cloud of clouds.yaml (default: OS_CLOUD, or the variables OS_...)"},
	{OPT_INSECURE, "insecure", NULL, "with glance: do not verify the service's certificate"},
	{OPT_FORMAT, "format", "FMT", "format of the images: qcow2 (default) or raw"},
	{OPT_COMPRESS, "compress", "HOW", "compress the images: zlib or zstd, with a level after a colon"},
	{OPT_KEEP, "keep", NULL, "the internal snapshots stay in the disks"},
	{OPT_SINCE, "since", "NAME", "with --keep: images of what changed since this snapshot, over those made of it"},
	{OPT_MEMORY, "memory", NULL, "the guest's memory and NVRAM of the same instant, too"},
	CLI_ROW_MAX_PAUSE,
	CLI_ROW_WAIT,
	{OPT_EXTRACT, "extract", "stopped", "cold: make the images before the guest starts again"},
	{OPT_SYNCHRONOUS, "synchronous-writes", NULL, "live: the guest's writes wait until they are in the copy"},
	{OPT_THREADS, "threads", "N", "number of threads; 0: do all on one (default: the processors)"},
	CLI_ROW_STATE,
	CLI_ROW_JSON,
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	CLI_ROW_VERBOSE,
	CLI_ROW_END,
};

const struct cli_command cli_vm_snapshot = {
	.name = "snapshot",
	.summary = "Take a snapshot of a domain's disks, as images or kept inside of them",
	.arguments = "DOMAIN [NAME]",
	.options = snapshot_options,
	.run = snapshot_run,
};
