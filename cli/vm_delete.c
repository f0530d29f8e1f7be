/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm delete`: a snapshot deleted from every disk of a domain that has it, while the guest runs, too.
 */
#include "cli/vm.h"

#include <getopt.h>

static int delete_run(struct cli *c, int argc, char **argv)
{
	struct cli_vm v = {.cli = c};
	struct error e;
	const char *arg;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1)
		cli_vm_option(&v, id, arg);
	if (argc - optind != 2)
		cli_usage_error(c, "Expecting the name of a domain and of a snapshot");
	int failed = cli_vm_begin(&v, &e) < 0 || cli_vm_open(&v, argv[optind], false, &e) < 0 ||
				     vm_delete(v.vm, argv[optind + 1], &e) < 0
			     ? -1
			     : 0;
	return cli_vm_end(&v, cli_vm_close(&v, failed, &e));
}

static const struct cli_option delete_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_CONNECT,
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
