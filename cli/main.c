/* SPDX-License-Identifier: Apache-2.0
 *
 * The program: global options, then the verb from the table. Called through a link named qemu-img it takes that name in
 * messages and in --version.
 */
#include "cli/cli.h"

#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <unistd.h>

static const struct cli_command *const verbs[] = {
	&cli_amend,
	&cli_bitmap,
	&cli_check,
	&cli_commit,
	&cli_compare,
	&cli_completion,
	&cli_convert,
	&cli_create,
	&cli_dd,
	&cli_diff,
	&cli_download,
	&cli_images,
	&cli_info,
	&cli_io,
	&cli_map,
	&cli_measure,
	&cli_rebase,
	&cli_resize,
	&cli_snapshot,
	&cli_trim,
	&cli_upload,
	&cli_vm,
	NULL,
};

enum {
	GLOBAL_UNTRUSTED = CLI_OWN,
	GLOBAL_MAX_VIRTUAL_SIZE,
	GLOBAL_MAX_MEMORY,
	GLOBAL_MAX_SECONDS,
	GLOBAL_MAX_EXPANSION,
};

static const struct cli_option global_options[] = {
	CLI_ROW_HELP,
	{'V', "version", NULL, "show the version and exit"},
	{'v', "verbose", NULL, "tell more on standard error"},
	{'c', "connect", "URI", "vm: URI of the hypervisor (default: libvirt's own)"},
	{CLI_STATE, "state", "DIR", "vm: where locks and journals are (default: QSNAP_STATE_DIR, or see the manual)"},
	{GLOBAL_UNTRUSTED, "untrusted", NULL,
		"the image is a stranger's: follow no backing or data file, accept no unknown feature, demand its "
		"format, keep "
		"limits, run confined"},
	{GLOBAL_MAX_VIRTUAL_SIZE, "max-virtual-size", "SIZE", "with --untrusted: no larger disk (default 16T)"},
	{GLOBAL_MAX_EXPANSION, "max-expansion", "N",
		"with --untrusted: no more than N times as much data as the image is long (default 256)"},
	{GLOBAL_MAX_MEMORY, "max-memory", "SIZE", "with --untrusted: address space (default 1G)"},
	{GLOBAL_MAX_SECONDS, "max-seconds", "N", "with --untrusted: time (default 3600)"},
	{'T', "trace", "TRACE", "not supported"},
	CLI_ROW_END,
};

static void print_version(const struct cli *c)
{
	/* Programs read "qemu-img version X.Y.Z" from the first line. */
	if (c->drop_in)
		printf("qemu-img version 10.0.0 (qsnap %s)\n", QSNAP_VERSION);
	else
		printf("qsnap %s\n", QSNAP_VERSION);
}

/* Handles what stands before the verb; returns -1 to go on, else an exit status. */
static int take_global_options(struct cli *c, int argc, char **argv)
{
	const char *arg;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'V':
			print_version(c);
			return 0;
		case 'v':
			c->verbose++;
			break;
		case 'c':
			c->connect = arg;
			break;
		case CLI_STATE:
			c->state_dir = arg;
			break;
		case 'T':
			return cli_error(c, "-T, --trace is not supported");
		case GLOBAL_UNTRUSTED:
			c->untrusted = true;
			break;
		case GLOBAL_MAX_VIRTUAL_SIZE:
			c->limits.virtual_size = cli_parse_size(c, "virtual size", arg);
			break;
		case GLOBAL_MAX_EXPANSION:
			c->limits.expansion = cli_parse_number(c, "expansion", arg, 1, 1000000000);
			break;
		case GLOBAL_MAX_MEMORY:
			c->limits.memory = cli_parse_size(c, "memory", arg);
			break;
		case GLOBAL_MAX_SECONDS:
			c->limits.seconds = cli_parse_number(c, "number of seconds", arg, 1, 10000000);
			break;
		}
	}
	return -1;
}

/* Commands that only qemu-img has. */
static bool is_foreign(const char *name)
{
	static const char *const names[] = {"bench"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static int program_run(struct cli *c, int argc, char **argv)
{
	int status = take_global_options(c, argc, argv);
	if (status >= 0)
		return status;
	if (optind < argc && is_foreign(argv[optind]))
		return cli_error(c, "%s is not supported", argv[optind]);
	return cli_run_verb(c, argc, argv);
}

const struct cli_command cli_program = {
	.summary = "Reads, checks and writes disk images: qcow2 and raw",
	.arguments = "COMMAND [--help | ...]",
	.options = global_options,
	.run = program_run,
	.verbs = verbs,
	.more = "Supported image formats:\n\n  qcow2 raw",
};

static const struct cli_command *find_verb(const struct cli *c, const char *name)
{
	for (const struct cli_command *const *p = c->command->verbs; *p; p++)
		if (strcmp((*p)->name, name) == 0 && !(c->drop_in && (*p)->own_name))
			return *p;
	return NULL;
}

int cli_run_verb(struct cli *c, int argc, char **argv)
{
	if (optind >= argc)
		cli_usage_error(c, "Not enough arguments");
	const struct cli_command *verb = find_verb(c, argv[optind]);
	if (!verb)
		cli_usage_error(c, "Command not found: %s", argv[optind]);
	size_t used = strlen(c->called);
	snprintf(c->called + used, sizeof c->called - used, " %s", verb->name);
	c->command = verb;
	if (verb->usage_status)
		c->usage_status = verb->usage_status;

	argc -= optind;
	argv += optind;
	argv[0] = c->called; /* getopt's messages begin with it: "qsnap info: invalid option" */
	optind = 0;
	return verb->run(c, argc, argv);
}

/* An image opened as descriptor 1 or 2 would get what is printed. Where one is missing comes one that cannot be written. */
static void hold_standard_descriptors(void)
{
	int fd = open("/dev/null", O_RDONLY);
	while (fd >= 0 && fd <= STDERR_FILENO)
		fd = dup(fd);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	hold_standard_descriptors();
	static char unnamed[] = "qsnap", *no_args[] = {unnamed, NULL};
	if (argc < 1) {
		argc = 1;
		argv = no_args;
	}
	struct cli c = {
		.program = basename(argv[0]),
		.limits = {.virtual_size = 16ull << 40, .memory = 1ull << 30, .seconds = 3600, .expansion = 256},
		.command = &cli_program,
		.usage_status = 1,
	};
	snprintf(c.called, sizeof c.called, "%s", c.program);
	c.drop_in = strcmp(c.program, "qemu-img") == 0;
	return cli_finish_output(&c, program_run(&c, argc, argv));
}
