/* SPDX-License-Identifier: Apache-2.0
 *
 * Output of many short lines: no format string is looked at for each.
 */
#include "cli/cli.h"

enum { BUFFER_BYTES = 256 << 10, LINE_BYTES = 256, HEX_COLUMN = 16 };

static void flush(struct cli_lines *l)
{
	fwrite(l->buf, 1, l->used, stdout);
	l->used = 0;
}

int cli_lines_init(struct cli_lines *l, struct error *e)
{
	*l = (struct cli_lines){.buf = mem_calloc(BUFFER_BYTES, 1, "output", e)};
	return l->buf ? 0 : -1;
}

void cli_lines_next(struct cli_lines *l)
{
	if (l->used + LINE_BYTES > BUFFER_BYTES)
		flush(l);
}

void cli_lines_end(struct cli_lines *l)
{
	flush(l);
	free(STEAL(l->buf));
}

void cli_put(struct cli_lines *l, const char *text, size_t len)
{
	memcpy(l->buf + l->used, text, len);
	l->used += len;
}

void cli_put_number(struct cli_lines *l, uint64_t v)
{
	char digits[20];
	size_t n = 0;
	do
		digits[sizeof digits - ++n] = (char)('0' + v % 10);
	while (v /= 10);
	cli_put(l, digits + sizeof digits - n, n);
}

void cli_put_bool(struct cli_lines *l, bool v)
{
	if (v)
		CLI_PUT(l, "true");
	else
		CLI_PUT(l, "false");
}

void cli_put_hex(struct cli_lines *l, uint64_t v)
{
	char text[2 + 16 + HEX_COLUMN];
	size_t n = 0, len;
	memset(text, ' ', sizeof text);
	if (v) {
		text[n++] = '0';
		text[n++] = 'x';
	}
	len = v ? (67 - (size_t)__builtin_clzll(v)) / 4 : 1;
	for (size_t i = len; i-- > 0; v >>= 4)
		text[n + i] = "0123456789abcdef"[v & 15];
	n += len;
	cli_put(l, text, n < HEX_COLUMN ? HEX_COLUMN : n);
}
