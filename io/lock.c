/* SPDX-License-Identifier: Apache-2.0
 *
 * QEMU's image locks, FORMAT.md §13. One byte of the file stands for each permission: 100 + i says "I use it", 200 + i says
 * "I let nobody else use it"; both are only ever held as shared locks, and what others hold is found by asking whether an
 * exclusive lock would be granted. First take, then ask: of two that come at once at least one sees the other.
 */
#include "io/internal.h"

#include <errno.h>
#include <fcntl.h>

enum permission { CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE, PERMISSIONS };

static const char *const permission_names[PERMISSIONS] = {"consistent read", "write", "write unchanged", "resize"};

enum { USED_BASE = 100, UNSHARED_BASE = 200 };

static const struct {
	unsigned used, unshared; /* bit i: permission i */
} modes[] = {
	[IO_LOCK_READ] = {1 << CONSISTENT_READ, 1 << WRITE | 1 << RESIZE},
	[IO_LOCK_WRITE] = {1 << CONSISTENT_READ | 1 << WRITE | 1 << RESIZE, 1 << WRITE | 1 << RESIZE},
	[IO_LOCK_WRITE_RAW] = {1 << CONSISTENT_READ | 1 << WRITE, 0},
	[IO_LOCK_SHARED] = {1 << CONSISTENT_READ, 0},
	[IO_LOCK_NONE] = {0, 0},
};

/* 1: this file system has no such locks, and so nobody can hold one. */
static int lock_call(int fd, int command, struct flock *lock)
{
	for (;;) {
		if (fcntl(fd, command, lock) == 0)
			return 0;
		if (errno == ENOLCK || errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS)
			return 1;
		if (errno != EINTR)
			return -1;
	}
}

static int busy(struct io *io, const char *kind, unsigned permission, struct error *e)
{
	return err_set(e, ERR_BUSY, "Failed to get %s\"%s\" lock\nIs another process using the image [%s]?", kind,
		permission_names[permission], io->name);
}

static int take(struct io *io, unsigned base, unsigned permissions, const char *kind, struct error *e)
{
	for (unsigned i = 0; i < PERMISSIONS; i++) {
		if (!(permissions & 1u << i))
			continue;
		struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = base + i, .l_len = 1};
		int rc = lock_call(io_file_fd(io), F_OFD_SETLK, &lock);
		if (rc < 0 && (errno == EAGAIN || errno == EACCES))
			return busy(io, kind, i, e);
		if (rc)
			return rc < 0 ? err_sys(e, errno, "%s: locking", io->name) : 1;
	}
	return 0;
}

static int ask(struct io *io, unsigned base, unsigned permissions, const char *kind, struct error *e)
{
	for (unsigned i = 0; i < PERMISSIONS; i++) {
		if (!(permissions & 1u << i))
			continue;
		struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = base + i, .l_len = 1};
		int rc = lock_call(io_file_fd(io), F_OFD_GETLK, &lock);
		if (rc)
			return rc < 0 ? err_sys(e, errno, "%s: asking for locks", io->name) : 1;
		if (lock.l_type != F_UNLCK)
			return busy(io, kind, i, e);
	}
	return 0;
}

int io_lock(struct io *io, enum io_lock_mode mode, struct error *e)
{
	if (!io_is_file(io))
		return 0;
	unsigned used = modes[mode].used, unshared = modes[mode].unshared;
	int rc = take(io, USED_BASE, used, "", e);
	if (!rc)
		rc = take(io, UNSHARED_BASE, unshared, "shared ", e);
	if (!rc)
		rc = ask(io, UNSHARED_BASE, used, "", e);
	if (!rc)
		rc = ask(io, USED_BASE, unshared, "shared ", e);
	return rc < 0 ? -1 : 0;
}

int io_lock_lower(struct io *io, struct error *e)
{
	unsigned gone = modes[IO_LOCK_WRITE].used & ~modes[IO_LOCK_READ].used;
	if (!io_is_file(io))
		return 0;
	for (unsigned i = 0; i < PERMISSIONS; i++) {
		struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = USED_BASE + i, .l_len = 1};
		if ((gone & 1u << i) && lock_call(io_file_fd(io), F_OFD_SETLK, &lock) < 0)
			return err_sys(e, errno, "%s: letting go of a lock", io->name);
	}
	return 0;
}
