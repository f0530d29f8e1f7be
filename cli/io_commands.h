/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands of `io` (cli/io_commands.c) as its reader (cli/io.c) sees them. Texts are qemu-io's where there are any.
 */
#ifndef QSNAP_CLI_IO_COMMANDS_H
#define QSNAP_CLI_IO_COMMANDS_H

#include "cli/cli.h"

enum { IO_OPERANDS = 2 };

struct io_session {
	const struct cli *c;
	const char *name;
	struct cli_source source;
	bool read_only, quiet, quit;
	struct cli_edited d;
	uint8_t *buf;
	size_t buf_bytes;
};
/* -1 after a message. */
int io_session_open(struct io_session *s);
int io_session_close(struct io_session *s);

struct io_words {
	const char *operands[IO_OPERANDS];
	unsigned count;
	const char *pattern; /* of -P */
	bool set[128];       /* options, by letter */
};

struct io_command {
	const char *name;
	char letter;         /* a short name; 0: none */
	unsigned min, max;   /* operands */
	const char *options; /* letters; one with an argument is followed by a colon */
	bool writes;
	const char *usage, *help;
	int (*run)(struct io_session *s, const struct io_words *w); /* 0, or 1 after a message */
};
extern const struct io_command io_commands[]; /* ends with a row without a name */

#endif
