/* SPDX-License-Identifier: Apache-2.0
 *
 * Files without a name yet: O_TMPFILE where the file system and /proc allow it, so that a killed process leaves nothing;
 * elsewhere a hidden name beside the final one. A name is given once, at the end.
 */
#include "io/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_TRIES = 100 };

/* ".disk.qcow2.0123456789abcdef.tmp"; a long name is cut so that the whole stays under 255 bytes. */
static void hidden_name(char out[256], const char *name)
{
	uint64_t random = 0;
	if (getrandom(&random, sizeof random, 0) != sizeof random)
		random = (uint64_t)getpid();
	snprintf(out, 256, ".%.200s.%016llx.tmp", name, (unsigned long long)random);
}

static bool fd_has_path(int fd, char path[40])
{
	snprintf(path, 40, "/proc/self/fd/%d", fd);
	struct stat st;
	return stat(path, &st) == 0;
}

int temporary_open(struct temporary *t, int dir_fd, const char *near_name, int flags, unsigned mode)
{
	char path[40];
	t->dir_fd = dir_fd;
	t->name[0] = 0;
	t->fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC | flags, mode);
	if (t->fd >= 0 && fd_has_path(t->fd, path))
		return 0;
	if (t->fd >= 0)
		close(t->fd);
	else if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT)
		return -1;
	for (unsigned i = 0; i < NAME_TRIES; i++) {
		hidden_name(t->name, near_name);
		t->fd = openat(dir_fd, t->name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, mode);
		if (t->fd >= 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	t->name[0] = 0;
	return -1;
}

static int link_as(struct temporary *t, const char *name)
{
	char path[40];
	snprintf(path, sizeof path, "/proc/self/fd/%d", t->fd);
	return linkat(AT_FDCWD, path, t->dir_fd, name, AT_SYMLINK_FOLLOW);
}

/* rename() has no form without a name before it. */
static int give_hidden_name(struct temporary *t, const char *near_name)
{
	for (unsigned i = 0; i < NAME_TRIES; i++) {
		hidden_name(t->name, near_name);
		if (link_as(t, t->name) == 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	t->name[0] = 0;
	return -1;
}

/* From the hidden name to a final one that must not exist yet: it may have come into being meanwhile. Some file systems lack
 * the flag, some lack links; where both are missing a look before must do. */
static int rename_to_new(struct temporary *t, const char *name)
{
	struct stat st;
	if (renameat2(t->dir_fd, t->name, t->dir_fd, name, RENAME_NOREPLACE) == 0) {
		t->name[0] = 0;
		return 0;
	}
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	if (linkat(t->dir_fd, t->name, t->dir_fd, name, 0) == 0) {
		temporary_forget(t);
		return 0;
	}
	if (errno != EPERM && errno != EOPNOTSUPP)
		return -1;
	if (fstatat(t->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	if (renameat(t->dir_fd, t->name, t->dir_fd, name) < 0)
		return -1;
	t->name[0] = 0;
	return 0;
}

int temporary_name(struct temporary *t, const char *name, bool replace)
{
	if (!replace)
		return t->name[0] ? rename_to_new(t, name) : link_as(t, name);
	if (!t->name[0] && give_hidden_name(t, name) < 0)
		return -1;
	if (renameat(t->dir_fd, t->name, t->dir_fd, name) < 0)
		return -1;
	t->name[0] = 0;
	return 0;
}

void temporary_forget(struct temporary *t)
{
	if (t->name[0])
		unlinkat(t->dir_fd, t->name, 0);
	t->name[0] = 0;
}

int io_spool_new(struct io **out, const char *dir, struct error *e)
{
	const char *from_env = getenv("TMPDIR");
	if (!dir)
		dir = from_env && *from_env ? from_env : "/var/tmp";
	int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct temporary t;
	if (dir_fd < 0)
		return err_sys(e, errno, "Could not open folder '%s' for a temporary file", dir);
	int rc = temporary_open(&t, dir_fd, "qsnap", 0, 0600);
	if (rc < 0)
		err_sys(e, errno, "Could not create a temporary file in '%s'", dir);
	else
		temporary_forget(&t);
	close(dir_fd);
	if (rc < 0)
		return -1;
	if (io_file_from_fd(out, t.fd, "temporary file", IO_OPEN_WRITE, e) < 0) {
		close(t.fd);
		return -1;
	}
	(*out)->caps |= IO_READS_ZERO;
	return 0;
}
