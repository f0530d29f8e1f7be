/* SPDX-License-Identifier: Apache-2.0
 *
 * `snapshot -l`: the internal snapshots of an image (FORMAT.md §8), as a table.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <time.h>

static void print_snapshot(const struct qcow2_snapshot *s)
{
	char size[32], date[64], clock[64], icount[32] = "";
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
	printf("%-7s %-16s %8s %19s %15s %10s\n", s->id, s->name, size_format(n->vm_state_bytes, size), date, clock,
		icount);
}

void cli_print_snapshots(const struct qcow2 *q)
{
	printf("Snapshot list:\n%-7s %-16s %8s %19s %15s %10s\n", "ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT");
	for (uint32_t i = 0; i < q->snapshot_count; i++)
		print_snapshot(&q->snapshots[i]);
}

static int snapshot_run(struct cli *c, int argc, char **argv)
{
	struct cli_source source = {0};
	const char *arg;
	int id;
	bool quiet = false;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'f':
			source.format = arg;
			break;
		case 'U':
			source.force_share = true;
			break;
		case 'q':
			quiet = true;
			break;
		case 'a':
		case 'c':
		case 'd':
			return cli_error(c, "snapshot -%c is not supported", id);
		}
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name");

	struct chain_opts opts;
	AUTO_CHAIN struct chain *image = NULL;
	if (cli_source_opts(c, &source, argv[optind], NULL, &opts) < 0)
		return 1;
	opts.no_backing = opts.inspect = true;
	if (cli_open(c, argv[optind], &opts, &image) < 0)
		return 1;
	const struct qcow2 *q = image->layers[0].q;
	if (q && q->snapshot_count && !quiet)
		cli_print_snapshots(q);
	return 0;
}

static const struct cli_option snapshot_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{'l', "list", NULL, "list the snapshots (the default)"},
	{'c', "create", "SNAPSHOT", "not supported"},
	{'a', "apply", "SNAPSHOT", "not supported"},
	{'d', "delete", "SNAPSHOT", "not supported"},
	CLI_ROW_FORCE_SHARE,
	CLI_ROW_QUIET,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_snapshot = {
	.name = "snapshot",
	.summary = "List the snapshots inside an image",
	.arguments = "FILENAME",
	.options = snapshot_options,
	.run = snapshot_run,
};
