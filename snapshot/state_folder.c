/* SPDX-License-Identifier: Apache-2.0
 *
 * The folder that journals and locks are in, and the lock that commands on one domain take turns by.
 */
#include "snapshot/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int folder_make(const char *path, struct error *e)
{
	AUTO_FREE char *copy = mem_strdup(path, e);

	if (!copy)
		return -1;
	for (char *p = copy + 1;; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = 0;
		if (mkdir(copy, 0711) && errno != EEXIST)
			return err_sys(e, errno, "%s", copy);
		if (!c)
			return 0;
		*p = '/';
	}
}

int folder_sync(const char *path, struct error *e)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), failed;

	if (fd < 0)
		return err_sys(e, errno, "%s", path);
	failed = fsync(fd) ? err_sys(e, errno, "%s", path) : 0;
	close(fd);
	return failed;
}

int folder_let_through(const char *path, struct error *e)
{
	enum { THROUGH = 0111 };
	struct stat st;

	if (stat(path, &st))
		return err_sys(e, errno, "%s", path);
	if ((st.st_mode & THROUGH) == THROUGH || !chmod(path, (st.st_mode & 07777) | THROUGH))
		return 0;
	return err_sys(e, errno, "%s: letting others through", path);
}

int lock_wait(int *fd, const char *path, unsigned seconds, const atomic_bool *cancel, struct error *e)
{
	const struct timespec tick = {.tv_nsec = 50000000};

	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*fd < 0)
		return err_sys(e, errno, "%s", path);
	for (uint64_t ticks = 0; flock(*fd, LOCK_EX | LOCK_NB); ticks++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(e, errno, "%s", path);
		if (ticks >= seconds * 20ull)
			return err_set(e, ERR_BUSY, "another qsnap works on it");
		if (cancel && atomic_load(cancel))
			return err_set(e, ERR_CANCELLED, "cancelled");
		nanosleep(&tick, NULL);
	}
	return 0;
}
