/* SPDX-License-Identifier: Apache-2.0
 *
 * Loaded before a program's own libraries, this ends or stops it at the k-th change of a journal (a file *.journal): a line
 * written or the file removed. So each step is found that is ever written there, and the program knows nothing of it.
 *   STEP_LOG=FILE    each change is appended to it as a line: what is written, or "unlink"
 *   STEP_AT=K        at the K-th change, counted from 1 ...
 *   STEP_WHEN=before | torn | after     ... before it, when half of the line is in the file, or when it is durable ...
 *   STEP_DO=kill | stop                 ... the process kills itself, or stops until somebody lets it go on
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned steps;

static bool is_journal(const char *path)
{
	static const char ending[] = ".journal";
	size_t len = strlen(path);

	return len >= sizeof ending - 1 && strcmp(path + len - (sizeof ending - 1), ending) == 0;
}

static bool is_journal_fd(int fd)
{
	char link[40], path[4096];

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	if (n < 0)
		return false;
	path[n] = 0;
	return is_journal(path);
}

static void note(const char *text, size_t len)
{
	const char *name = getenv("STEP_LOG");
	int fd = name ? open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;

	steps++;
	if (fd < 0)
		return;
	if (write(fd, text, len) < 0)
		abort();
	close(fd);
}

static bool is_now(const char *when)
{
	const char *at = getenv("STEP_AT"), *wanted = getenv("STEP_WHEN");

	return at && wanted && strtoul(at, NULL, 10) == steps && strcmp(when, wanted) == 0;
}

static void reach(const char *when)
{
	const char *deed = getenv("STEP_DO");

	if (is_now(when))
		raise(deed && strcmp(deed, "stop") == 0 ? SIGSTOP : SIGKILL);
}

/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): the system's own names are not for us */
ssize_t pwrite(int fd, const void *buffer, size_t len, off_t at)
{
	static ssize_t (*next)(int, const void *, size_t, off_t);

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "pwrite");
	if (!is_journal_fd(fd))
		return next(fd, buffer, len, at);
	note(buffer, len);
	reach("before");
	if (is_now("torn")) {
		next(fd, buffer, len / 2, at);
		reach("torn");
	}
	return next(fd, buffer, len, at);
}

ssize_t pwrite64(int fd, const void *buffer, size_t len, off_t at)
{
	return pwrite(fd, buffer, len, at);
}

int fdatasync(int fd)
{
	static int (*next)(int);

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
	int rc = next(fd);
	if (is_journal_fd(fd))
		reach("after");
	return rc;
}

int unlink(const char *path)
{
	static int (*next)(const char *);

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "unlink");
	if (!is_journal(path))
		return next(path);
	note("unlink\n", 7);
	reach("before");
	int rc = next(path);
	reach("after");
	return rc;
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
