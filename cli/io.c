/* SPDX-License-Identifier: Apache-2.0
 *
 * `io`: reads and changes the disk in an image by commands, as qemu-io does: from -c, else from standard input, a line each. A
 * command that fails does not end the run; it makes the status 1.
 */
#include "cli/io_commands.h"

#include <getopt.h>
#include <unistd.h>

enum { MAX_COMMANDS = 4096, MAX_WORDS = 16 };

int io_session_open(struct io_session *s)
{
	return cli_edited_open(s->c, s->name, &s->source, !s->read_only, &s->d);
}

int io_session_close(struct io_session *s)
{
	return cli_edited_close(s->c, &s->d);
}

static int split(char *line, char **words, unsigned *count)
{
	char *rest = line, *word;

	for (*count = 0; (word = strtok_r(rest, " \t\r\n", &rest));) {
		if (*count == MAX_WORDS)
			return -1;
		words[(*count)++] = word;
	}
	return 0;
}

/* One option letter, its argument the rest of the word or the next one. How many words it took, 0: it makes no sense. */
static unsigned take_option(const struct io_command *cmd, struct io_words *w, char **words, unsigned left, char *letter)
{
	const char *known = strchr(cmd->options, *letter);

	if (!known || *letter == ':')
		return 0;
	w->set[(unsigned char)*letter] = true;
	if (known[1] != ':')
		return letter[1] ? take_option(cmd, w, words, left, letter + 1) : 1;
	if (letter[1]) {
		w->pattern = letter + 1;
		return 1;
	}
	if (left < 2)
		return 0;
	w->pattern = words[1];
	return 2;
}

static bool parse(const struct io_command *cmd, struct io_words *w, char **words, unsigned count)
{
	*w = (struct io_words){0};
	for (unsigned i = 1; i < count;) {
		unsigned n = 1;

		if (words[i][0] == '-' && words[i][1])
			n = take_option(cmd, w, words + i, count - i, words[i] + 1);
		else if (w->count < IO_OPERANDS)
			w->operands[w->count++] = words[i];
		else
			return false;
		if (!n)
			return false;
		i += n;
	}
	return w->count >= cmd->min && w->count <= cmd->max;
}

static const struct io_command *find(const char *name)
{
	for (const struct io_command *cmd = io_commands; cmd->name; cmd++)
		if (strcmp(cmd->name, name) == 0 || (cmd->letter && name[0] == cmd->letter && !name[1]))
			return cmd;
	return NULL;
}

/* Changes `line`. Returns the command's status. */
static int run_line(struct io_session *s, char *line)
{
	char *words[MAX_WORDS];
	unsigned count;
	const struct io_command *cmd;
	struct io_words w;

	if (split(line, words, &count))
		return cli_error(s->c, "more than %d words in one command", MAX_WORDS);
	if (!count || words[0][0] == '#')
		return 0;
	cmd = find(words[0]);
	if (!cmd)
		return cli_error(s->c, "command \"%s\" not found", words[0]);
	if (!parse(cmd, &w, words, count))
		return cli_error(s->c, "usage: %s %s", cmd->name, cmd->usage);
	if (cmd->writes && s->read_only)
		return cli_error(s->c, "%s: the image is open read-only", cmd->name);
	return cmd->run(s, &w);
}

static int run_given(struct io_session *s, const char *const *commands, unsigned n)
{
	int status = 0;

	for (unsigned i = 0; i < n && !s->quit; i++) {
		struct error e;
		AUTO_FREE char *line = mem_strdup(commands[i], &e);

		if (!line)
			return cli_fail(s->c, &e);
		status |= run_line(s, line);
	}
	return status;
}

static int run_input(struct io_session *s)
{
	bool terminal = isatty(STDIN_FILENO);
	char *line = NULL;
	size_t room = 0;
	int status = 0;

	while (!s->quit) {
		if (terminal)
			fputs("qsnap io> ", stdout);
		/* Whoever sends a command and waits for its answer gets it. */
		fflush(stdout);
		if (getline(&line, &room, stdin) < 0)
			break;
		status |= run_line(s, line);
	}
	if (ferror(stdin))
		status = cli_error(s->c, "Could not read the commands");
	free(line);
	return status;
}

static int run_session(struct io_session *s, const char *const *commands, unsigned n)
{
	int status;

	if (io_session_open(s))
		return 1;
	status = n ? run_given(s, commands, n) : run_input(s);
	if (io_session_close(s))
		status = 1;
	free(s->buf);
	return status;
}

static int io_run(struct cli *c, int argc, char **argv)
{
	struct io_session s = {.c = c};
	const char *commands[MAX_COMMANDS], *arg;
	unsigned n = 0;
	int id;

	while ((id = cli_next_option(c, argc, argv, &arg)) != -1) {
		switch (id) {
		case 'c':
			if (n < MAX_COMMANDS)
				commands[n++] = arg;
			else
				cli_usage_error(c, "More than %d commands; give them on standard input", MAX_COMMANDS);
			break;
		case 'f':
			s.source.format = arg;
			break;
		case 'r':
			s.read_only = true;
			break;
		case 'U':
			s.source.force_share = true;
			break;
		case 'q':
			s.quiet = true;
			break;
		}
	}
	if (argc - optind != 1)
		cli_usage_error(c, "Expecting one image file name");
	if (s.source.force_share && !s.read_only)
		cli_usage_error(c, "-U shares with a writer; that goes with -r only");
	s.name = argv[optind];
	return run_session(&s, commands, n);
}

static const struct cli_option io_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_FORMAT,
	{'c', "cmd", "COMMAND", "do this; several are done in turn (default: a line each from standard input)"},
	{'r', "read-only", NULL, "open the image for reading"},
	CLI_ROW_FORCE_SHARE,
	CLI_ROW_QUIET,
	CLI_ROW_IMAGE_OPTS,
	CLI_ROW_OBJECT,
	CLI_ROW_END,
};

const struct cli_command cli_io = {
	.name = "io",
	.summary = "Read and change the disk in an image by commands",
	.arguments = "FILENAME",
	.options = io_options,
	.run = io_run,
};
