/* SPDX-License-Identifier: Apache-2.0
 *
 * Errors as values: a code, the errno of a failed system call, a text. The text is built aside first, so that its arguments
 * may point into the error that is being filled.
 */
#include "base/base.h"

#include <errno.h>
#include <stdarg.h>

static void fill(struct error *e, enum err_code code, int sys_errno, const char *text, const char *tail)
{
	char msg[sizeof e->msg];
	size_t n = min_u64(strlen(text), sizeof msg - 1);
	memcpy(msg, text, n);
	size_t rest = min_u64(strlen(tail), sizeof msg - 1 - n);
	memcpy(msg + n, tail, rest);
	msg[n + rest] = 0;
	e->code = code;
	e->sys_errno = sys_errno;
	memcpy(e->msg, msg, n + rest + 1);
}

void err_fill(struct error *e, enum err_code code, const char *fmt, ...)
{
	char text[sizeof e->msg];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	fill(e, code, 0, text, "");
}

void err_fill_sys(struct error *e, int sys_errno, const char *fmt, ...)
{
	char text[sizeof e->msg - 100], reason[96], tail[100];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	snprintf(tail, sizeof tail, ": %s", strerror_r(sys_errno, reason, sizeof reason));
	fill(e, sys_errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, sys_errno, text, tail);
}

void err_fill_prefix(struct error *e, const char *fmt, ...)
{
	char text[sizeof e->msg / 2], tail[sizeof e->msg + 2];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	snprintf(tail, sizeof tail, ": %s", e->msg);
	fill(e, e->code, e->sys_errno, text, tail);
}
