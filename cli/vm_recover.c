/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm recover`: what commands that died left in the world is taken back, of one domain or of all that have a journal. Each
 * thing that is done is a line on standard output.
 */
#include "cli/vm.h"

#include <getopt.h>

/* What a step is for somebody who reads it. */
static const char *sentence(const char *step)
{
	static const struct {
		const char *step, *text;
	} sentences[] = {
		{"attach", "attaching the host's device again"},
		{"commit", "committing the overlay back into the disk"},
		{"define", "defining the domain as it was before"},
		{"delete", "deleting the internal snapshot"},
		{"end", "ending the block copy"},
		{"forget", "removing libvirt's record of the snapshot"},
		{"nvram", "putting the NVRAM of before in its place"},
		{"remove", "removing a file that was half made or for the time being"},
		{"restore", "letting the guest go on from the snapshot's memory"},
		{"resume", "letting the guest run on"},
		{"revert", "going back to the state that the disk had before"},
		{"start", "starting the guest again"},
		{"thaw", "thawing the guest's file systems"},
		{"unsave", "removing the saved state, which belongs to other disks"},
	};
	for (size_t i = 0; i < sizeof sentences / sizeof *sentences; i++)
		if (strcmp(step, sentences[i].step) == 0)
			return sentences[i].text;
	return step;
}

static void print_step(struct cli_vm *v, const char *step, const char *disk, const char *note)
{
	if (v->quiet)
		return;
	if (note)
		printf("%s: %s\n", v->domain, note);
	else
		printf("%s: %s%s%s\n", v->domain, sentence(step), disk ? ", disk " : "", disk ? disk : "");
	fflush(stdout); /* the next step may take long */
}

enum { OPT_UNDEFINED = CLI_OWN, OPT_WITHOUT_MEMORY };

/* Opening a domain takes back what is there. */
static int recover(struct cli_vm *v, const char *domain, bool undefined)
{
	struct driver_domain d = {0};
	struct error e;
	int failed = v->driver->ops->look(v->driver, domain, &d, &e);

	v->domain = domain;
	if (!failed)
		failed = cli_vm_open(v, d.name, false, &e) < 0 || vm_recover(v->vm, &e) < 0 ? -1 : 0;
	else if (e.code == ERR_NOT_FOUND && (undefined || vm_needs_no_domain(v->state_dir, domain)))
		failed = cli_vm_recover_undefined(v, domain, &e);
	if (!failed && !v->quiet)
		printf("%s: nothing is left to take back\n", d.name ? d.name : domain);
	const int status = cli_vm_close(v, failed, &e);
	driver_domain_free(&d);
	return status;
}

/* The status is that of the worst, in which what needs help most comes first. */
static int worse(int a, int b)
{
	static const int order[] = {CLI_VM_RECOVER, CLI_VM_CHANGED, CLI_VM_BUSY};
	for (size_t i = 0; i < sizeof order / sizeof *order; i++)
		if (a == order[i] || b == order[i])
			return order[i];
	return a > b ? a : b;
}

static int recover_all(struct cli_vm *v, bool undefined)
{
	struct error e;
	char **uuids;
	unsigned count;
	int status = 0;

	if (vm_journals(v->state_dir, &uuids, &count, &e) < 0)
		return cli_vm_close(v, -1, &e);
	for (unsigned i = 0; i < count; i++) {
		status = worse(status, recover(v, uuids[i], undefined));
		free(uuids[i]);
	}
	free(uuids);
	if (!count && !v->quiet)
		puts("nothing is left to take back");
	return status;
}

static int recover_run(struct cli *c, int argc, char **argv)
{
	struct cli_vm v = {.cli = c, .on_step = print_step};
	struct error e;
	const char *arg;
	bool undefined = false;
	int id, status;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1)
		if (cli_vm_option(&v, id, arg))
			continue;
		else if (id == OPT_UNDEFINED)
			undefined = true;
		else
			v.without_memory = true;
	if (argc - optind > 1)
		cli_usage_error(c, "Expecting the name of a domain, or none");
	if (cli_vm_begin(&v, &e) < 0)
		status = cli_vm_close(&v, -1, &e);
	else
		status = optind < argc ? recover(&v, argv[optind], undefined) : recover_all(&v, undefined);
	return cli_vm_end(&v, status);
}

static const struct cli_option recover_options[] = {
	CLI_ROW_HELP,
	{OPT_UNDEFINED, "undefined", NULL,
		"also of a domain that is not defined any more, by its UUID or with all: what is left in files"},
	{OPT_WITHOUT_MEMORY, "without-memory", NULL,
		"a guest that did not go on from a snapshot's memory boots from the disks"},
	CLI_ROW_CONNECT,
	CLI_ROW_STATE,
	CLI_ROW_MAX_PAUSE,
	CLI_ROW_WAIT,
	CLI_ROW_PROGRESS,
	CLI_ROW_QUIET,
	CLI_ROW_VERBOSE,
	CLI_ROW_END,
};

const struct cli_command cli_vm_recover = {
	.name = "recover",
	.summary = "Take back what a command that died left: of one domain, or of all",
	.arguments = "[DOMAIN]",
	.options = recover_options,
	.run = recover_run,
};
