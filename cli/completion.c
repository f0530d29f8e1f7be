/* SPDX-License-Identifier: Apache-2.0
 *
 * `completion bash`: a completion script made from the option rows; the build installs what it prints.
 */
#include "cli/cli.h"

#include <getopt.h>

/* What an argument of this name can be. */
static const struct {
	const char *arg, *words;
} values[] = {
	{"FMT", "raw qcow2"},
	{"CACHE", "none writeback unsafe writethrough directsync"},
	{"OFMT", "human json"},
	{"MODE", "auto cold live instant"},
	{"VIA", "internal overlay"},
	{"WAY", "put import"},
	{"VISIBILITY", "private shared community public"},
};

static void print_names(const struct cli_option *r, const char **space)
{
	if (r->id < CLI_OUTPUT) {
		printf("%s-%c", *space, r->id);
		*space = " ";
	}
	if (r->name) {
		printf("%s--%s", *space, r->name);
		*space = " ";
	}
}

/* Prints NAME="-x --long ...": the options of `rows`; those whose next word is an argument; those whose argument is `arg`. */
enum which { ALL, WITH_ARGUMENT, WITH_THIS };
static void print_options(const char *name, const struct cli_option *rows, enum which which, const char *arg)
{
	const char *space = "";
	printf(" %s=\"", name);
	for (const struct cli_option *r = rows; r->id; r++) {
		if (r->id == CLI_HEADING || !r->help)
			continue;
		if (which != ALL && (!r->arg || r->arg[0] == '['))
			continue;
		if (which != WITH_THIS || strcmp(r->arg, arg) == 0)
			print_names(r, &space);
	}
	putchar('"');
}

/* A case for each command: `path` is what was typed up to here, " vm list". */
static void print_cases(const struct cli_command *cmd, const char *path)
{
	printf("\t'%s')", path);
	print_options("opts", cmd->options, ALL, NULL);
	print_options("takes", cmd->options, WITH_ARGUMENT, NULL);
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		print_options(values[i].arg, cmd->options, WITH_THIS, values[i].arg);
	printf(" verbs=\"");
	for (const struct cli_command *const *p = cmd->verbs; p && *p; p++)
		printf("%s%s", p == cmd->verbs ? "" : " ", (*p)->name);
	printf("\" ;;\n");

	for (const struct cli_command *const *p = cmd->verbs; p && *p; p++) {
		char longer[96];
		snprintf(longer, sizeof longer, "%s %s", path, (*p)->name);
		print_cases(*p, longer);
	}
}

static void print_bash(const char *program)
{
	printf("# bash completion for %s, made from its tables of options\n", program);
	printf("_%s_at()\n{\n\tcase $1 in\n", program);
	print_cases(&cli_program, "");
	printf("\tesac\n}\n_%s()\n{\n", program);
	printf("\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} at= i word words=\n"
	       "\tlocal opts takes verbs");
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		printf(" %s", values[i].arg);
	printf("\n\t_%s_at ''\n"
	       "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	       "\t\tword=${COMP_WORDS[i]}\n"
	       "\t\tif [[ -n $word && \" $takes \" == *\" $word \"* ]]; then\n"
	       "\t\t\ti=$((i + 1))\n"
	       "\t\telif [[ -n $word && \" $verbs \" == *\" $word \"* ]]; then\n"
	       "\t\t\tat+=\" $word\"\n\t\t\t_%s_at \"$at\"\n"
	       "\t\tfi\n"
	       "\tdone\n",
		program, program);
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		printf("\t%s [[ -n $prev && \" $%s \" == *\" $prev \"* ]]; then\n\t\twords='%s'\n", i ? "elif" : "if",
			values[i].arg, values[i].words);
	printf("\telif [[ $cur == -* ]]; then\n\t\twords=$opts\n"
	       "\telif [[ -n $verbs ]]; then\n\t\twords=\"$opts $verbs\"\n"
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
