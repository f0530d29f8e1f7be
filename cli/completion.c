/* SPDX-License-Identifier: Apache-2.0
 *
 * `completion bash`: a completion script made from the option rows; the build installs what it prints.
 */
#include "cli/cli.h"

#include <getopt.h>

/* Prints NAME="-x --long ...": the options of `rows` whose argument is called `arg`; all of them for NULL. */
static void print_options(const char *name, const struct cli_option *rows, const char *arg)
{
	const char *space = "";
	printf(" %s=\"", name);
	for (const struct cli_option *r = rows; r->id; r++) {
		if (r->id == CLI_HEADING || !r->help || (arg && (!r->arg || strcmp(r->arg, arg) != 0)))
			continue;
		if (r->id < CLI_OUTPUT) {
			printf("%s-%c", space, r->id);
			space = " ";
		}
		if (r->name) {
			printf("%s--%s", space, r->name);
			space = " ";
		}
	}
	putchar('"');
}

static void print_case(const char *pattern, const struct cli_option *rows)
{
	printf("\t%s)", pattern);
	print_options("opts", rows, NULL);
	print_options("formats", rows, "FMT");
	print_options("caches", rows, "CACHE");
	print_options("outputs", rows, "OFMT");
	printf(" ;;\n");
}

static void print_bash(const char *program)
{
	printf("# bash completion for %s, made from its tables of options\n_%s()\n{\n", program, program);
	printf("\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} sub= i\n"
	       "\tlocal opts= formats= caches= outputs= words=\n"
	       "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	       "\t\tcase ${COMP_WORDS[i]} in -*) ;; *) sub=${COMP_WORDS[i]} && break ;; esac\n"
	       "\tdone\n"
	       "\tcase $sub in\n");
	print_case("\"\"", cli_global_options);
	for (const struct cli_command *const *p = cli_commands; *p; p++)
		print_case((*p)->name, (*p)->options);
	printf("\tesac\n\tif [ -z \"$sub\" ]; then\n\t\twords=\"$opts");
	for (const struct cli_command *const *p = cli_commands; *p; p++)
		printf(" %s", (*p)->name);
	printf("\"\n"
	       "\telif [[ \" $formats \" == *\" $prev \"* ]]; then\n\t\twords=\"raw qcow2\"\n"
	       "\telif [[ \" $caches \" == *\" $prev \"* ]]; then\n"
	       "\t\twords=\"none writeback unsafe writethrough directsync\"\n"
	       "\telif [[ \" $outputs \" == *\" $prev \"* ]]; then\n\t\twords=\"human json\"\n"
	       "\telif [[ $cur == -* ]]; then\n\t\twords=$opts\n"
	       "\telse\n"
	       "\t\tcompopt -o filenames 2>/dev/null\n"
	       "\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	       "\t\treturn\n"
	       "\tfi\n"
	       "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
	       "}\ncomplete -F _%s %s\n",
		program, program);
}

static int completion_run(struct cli *c, int argc, char **argv)
{
	const char *arg;
	while (cli_next_option(c, argc, argv, &arg) != -1)
		;
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting the name of a shell");
	if (strcmp(argv[optind], "bash") != 0)
		return cli_error(c, "There is no completion for '%s', only for bash", argv[optind]);
	print_bash("qsnap");
	return 0;
}

static const struct cli_option completion_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_END,
};

const struct cli_command cli_completion = {
	.name = "completion",
	.summary = "Print the completion script for a shell",
	.arguments = "bash",
	.options = completion_options,
	.run = completion_run,
};
