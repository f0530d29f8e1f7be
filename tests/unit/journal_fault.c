/* SPDX-License-Identifier: Apache-2.0
 *
 * Journals that cannot be written (tests/unit/journal_fault.h); the Makefile wraps the calls for the unit tests only.
 */
#include "tests/unit/journal_fault.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static unsigned calls, at;
static enum journal_fault planned;
static bool every;
static unsigned images_left; /* until there is no space; 0: never */

void journal_fault_at(unsigned k, enum journal_fault fault, bool sticky)
{
	calls = 0;
	at = k;
	planned = fault;
	every = sticky;
}

void image_fault_at(unsigned k)
{
	images_left = k;
}

unsigned journal_fault_calls(void)
{
	return calls;
}

static void path_of(int fd, char path[4096])
{
	const int saved = errno;
	char link[64];

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, 4095);

	path[n < 0 ? 0 : n] = 0;
	errno = saved;
}

static bool is_journal(int fd)
{
	char path[4096];

	path_of(fd, path);
	const char *dot = strrchr(path, '.');

	return dot &&
	       (strcmp(dot, ".journal") == 0 || strcmp(dot, ".new") == 0); /* the catalog before it has its name */
}

static bool is_full(int fd)
{
	char path[4096];

	path_of(fd, path);
	return strstr(path, "/out/") && (images_left == 1 || !--images_left);
}

/* What is to happen at this call. */
static enum journal_fault now(int fd)
{
	if (!is_journal(fd) || ++calls < at || (calls > at && !every))
		return JOURNAL_FAULT_NONE;
	if (planned == JOURNAL_FAULT_DIE_BEFORE)
		_exit(DIED);
	return planned;
}

ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t off)
{
	enum journal_fault fault = at ? now(fd) : JOURNAL_FAULT_NONE;

	if (fault == JOURNAL_FAULT_FAILS || (images_left && is_full(fd))) {
		errno = ENOSPC;
		return -1;
	}
	if (fault == JOURNAL_FAULT_HALF || fault == JOURNAL_FAULT_DIE_HALF)
		len /= 2;
	ssize_t n = __real_pwrite64(fd, buf, len, off);

	if (fault == JOURNAL_FAULT_DIE_HALF || fault == JOURNAL_FAULT_DIE_AFTER)
		_exit(DIED);
	return n;
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	enum journal_fault fault = at ? now(fd) : JOURNAL_FAULT_NONE;

	if (fault == JOURNAL_FAULT_FAILS || fault == JOURNAL_FAULT_HALF) {
		errno = EIO;
		return -1;
	}
	int failed = __real_fdatasync(fd);

	if (fault != JOURNAL_FAULT_NONE)
		_exit(DIED);
	return failed;
}
