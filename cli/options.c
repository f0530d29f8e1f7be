/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of options to getopt_long's tables and to help text. getopt_long gives what qemu-img's users are used to: options
 * after operands, abbreviated long names, "--" as the end.
 */
#include "cli/cli.h"

#include <getopt.h>

enum { MAX_OPTIONS = 64, HELP_COLUMN = 30, HELP_WIDTH = 96 };

static bool is_optional(const struct cli_option *row)
{
	return row->arg && row->arg[0] == '[';
}

static void build_tables(const struct cli_option *rows, char *letters, struct option *longs)
{
	for (const struct cli_option *r = rows; r->id; r++) {
		if (r->id == CLI_HEADING)
			continue;
		if (r->id < CLI_OUTPUT) {
			*letters++ = (char)r->id;
			if (r->arg && !is_optional(r))
				*letters++ = ':';
		}
		if (r->name)
			*longs++ = (struct option){
				.name = r->name,
				.has_arg = !r->arg          ? no_argument
					   : is_optional(r) ? optional_argument
							    : required_argument,
				.val = r->id,
			};
	}
	*letters = 0;
	*longs = (struct option){0};
}

/* `--progress json`: the argument of an optional one may also be the next word, where that is one of the two it can be. */
static const char *detached_argument(const struct cli *c, int argc, char **argv)
{
	if (c->drop_in || optind >= argc || strncmp(argv[optind - 1], "--", 2) != 0)
		return NULL;
	const char *next = argv[optind];
	if (strcmp(next, "json") != 0 && strcmp(next, "bar") != 0)
		return NULL;
	optind++;
	return next;
}

static _Noreturn void refuse(const struct cli *c, const char *option)
{
	cli_error(c, "%s is not supported", option);
	exit(c->usage_status);
}

int cli_next_option(const struct cli *c, int argc, char **argv, const char **arg)
{
	char letters[2 * MAX_OPTIONS + 2];
	struct option longs[MAX_OPTIONS + 1];

	letters[0] = '+'; /* options end at a verb: what follows is its own */
	build_tables(c->command->options, letters + (c->command->verbs != NULL), longs);
	int id = getopt_long(argc, argv, letters, longs, NULL);
	*arg = optarg;
	switch (id) {
	case '?':
		fprintf(stderr, "Try '%s --help' for more information\n", c->called);
		exit(c->usage_status);
	case 'h':
		cli_print_help(c, stdout);
		exit(cli_finish_output(c, 0));
	case 'p':
		if (!*arg)
			*arg = detached_argument(c, argc, argv);
		return id;
	case CLI_IMAGE_OPTS:
		refuse(c, "--image-opts");
	case CLI_OBJECT:
		refuse(c, "--object");
	default:
		return id;
	}
}

/* Prints `text` from column `column` on, broken between words. */
static void print_wrapped(FILE *out, const char *text, int column)
{
	int at = column;
	while (*text) {
		int word = (int)strcspn(text, " ");
		if (at > column && at + 1 + word > HELP_WIDTH) {
			fprintf(out, "\n%*s", column, "");
			at = column;
		} else if (at > column) {
			fputc(' ', out);
			at++;
		}
		fprintf(out, "%.*s", word, text);
		at += word;
		text += word + (text[word] == ' ');
	}
	fputc('\n', out);
}

static void print_row(FILE *out, const struct cli_option *r)
{
	if (!r->help)
		return;
	if (r->id == CLI_HEADING) {
		fprintf(out, "\n%s:\n", r->help);
		return;
	}
	char left[80];
	int n = r->id < CLI_OUTPUT ? snprintf(left, sizeof left, "  -%c", r->id) : snprintf(left, sizeof left, "     ");
	if (r->name)
		n += snprintf(left + n, sizeof left - (size_t)n, "%s--%s", r->id < CLI_OUTPUT ? ", " : " ", r->name);
	if (is_optional(r))
		n += snprintf(left + n, sizeof left - (size_t)n, "[=%.*s]", (int)strlen(r->arg) - 2, r->arg + 1);
	else if (r->arg)
		n += snprintf(left + n, sizeof left - (size_t)n, " %s", r->arg);
	fputs(left, out);
	if (n + 2 > HELP_COLUMN)
		fprintf(out, "\n%*s", HELP_COLUMN, "");
	else
		fprintf(out, "%*s", HELP_COLUMN - n, "");
	print_wrapped(out, r->help, HELP_COLUMN);
}

void cli_print_help(const struct cli *c, FILE *out)
{
	const struct cli_command *cmd = c->command;

	fprintf(out, "Usage: %s [OPTIONS] %s\n%s.\n\nOptions:\n", c->called, cmd->arguments, cmd->summary);
	for (const struct cli_option *r = cmd->options; r->id; r++)
		print_row(out, r);
	if (cmd->verbs)
		fprintf(out, "\nCommands (%s COMMAND --help tells more):\n", c->called);
	for (const struct cli_command *const *p = cmd->verbs; p && *p; p++)
		if (!c->drop_in || !(*p)->own_name)
			fprintf(out, "  %-12s%s\n", (*p)->name, (*p)->summary);
	if (cmd->more)
		fprintf(out, "\n%s\n", cmd->more);
}
