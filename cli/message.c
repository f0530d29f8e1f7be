/* SPDX-License-Identifier: Apache-2.0
 *
 * What the program says on standard error, always after the name it was called by.
 */
#include "cli/cli.h"

#include <stdarg.h>

static void say(const struct cli *c, const char *fmt, va_list args)
{
	fflush(stdout); /* keeps the order of the two streams when both go to one file */
	fprintf(stderr, "%s: ", c->program);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
}

int cli_error(const struct cli *c, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	say(c, fmt, args);
	va_end(args);
	return 1;
}

int cli_fail(const struct cli *c, const struct error *e)
{
	return cli_error(c, "%s", e->msg);
}

void cli_verbose(const struct cli *c, const char *fmt, ...)
{
	if (!c->verbose)
		return;
	va_list args;
	va_start(args, fmt);
	say(c, fmt, args);
	va_end(args);
}

void cli_usage_error(const struct cli *c, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	say(c, fmt, args);
	va_end(args);
	fprintf(stderr, "Try '%s --help' for more information\n", c->called);
	exit(c->usage_status);
}
