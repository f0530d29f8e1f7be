/* SPDX-License-Identifier: Apache-2.0
 *
 * The target of a conversion: nobody ever sees half of it. A new file gets its name when it is whole, an existing one is
 * replaced in one step; until then the old file stays open and locked, so that nobody takes it into use (FORMAT.md §13).
 * order: data, mode and owner, fsync, name, fsync of the folder.
 */
#include "io/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_SYMLINKS = 40, LINK_MAX_BYTES = 4096 };

struct target {
	struct io *io;
	struct io *old; /* the file that will be replaced, locked */
	char *path;     /* as given, for messages */
	char *name;     /* in `temporary.dir_fd`, no symlink */
	struct temporary temporary;
	bool is_new, sync;
};

/* Where a path leads: a folder and a name in it that is no symlink (and need not exist). */
struct place {
	int dir_fd;
	char *name;
	struct stat st;
	bool exists;
};

/* Splits `path` and opens its folder, relative to `*dir_fd`, which is replaced. */
static int open_folder(int *dir_fd, const char *path, char **name, struct error *e)
{
	const char *slash = strrchr(path, '/');
	AUTO_FREE char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	*name = mem_strdup(slash ? slash + 1 : path, e);
	if (!folder || !*name)
		return *name ? err_set(e, ERR_NO_MEMORY, "no memory for a path") : -1;
	/* O_PATH does for a folder that may be entered but not listed. It cannot be synced, then. */
	int fd = openat(*dir_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == EACCES)
		fd = openat(*dir_fd, folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "Could not create '%s'", path);
	if (*dir_fd >= 0)
		close(*dir_fd);
	*dir_fd = fd;
	return 0;
}

/* One step: `*path` is replaced by what the symlink says. 1: there is no symlink (any more). */
static int follow(struct place *p, char **path, struct error *e)
{
	free(STEAL(p->name));
	if (open_folder(&p->dir_fd, *path, &p->name, e) < 0)
		return -1;
	if (!*p->name)
		return err_sys(e, EISDIR, "Could not create '%s'", *path);
	p->exists = fstatat(p->dir_fd, p->name, &p->st, AT_SYMLINK_NOFOLLOW) == 0;
	if (!p->exists && errno != ENOENT)
		return err_sys(e, errno, "Could not create '%s'", *path);
	if (!p->exists || !S_ISLNK(p->st.st_mode))
		return 1;
	char *link = mem_calloc(1, LINK_MAX_BYTES + 1, "a symlink", e);
	if (!link)
		return -1;
	free(*path);
	*path = link;
	if (readlinkat(p->dir_fd, p->name, link, LINK_MAX_BYTES) < 0)
		return err_sys(e, errno, "Could not follow symlink '%s'", p->name);
	return 0;
}

static int find_place(struct place *p, const char *path, struct error *e)
{
	AUTO_FREE char *at = mem_strdup(path, e);
	*p = (struct place){.dir_fd = AT_FDCWD};
	int rc = at ? 0 : -1;
	for (unsigned i = 0; !rc && i < MAX_SYMLINKS; i++)
		rc = follow(p, &at, e);
	if (rc == 0)
		return err_sys(e, ELOOP, "Could not create '%s'", path);
	return rc < 0 ? -1 : 0;
}

static unsigned open_flags(const struct target_opts *opts)
{
	return IO_OPEN_WRITE | (opts->direct ? IO_OPEN_DIRECT : 0) | (opts->dsync ? IO_OPEN_SYNC : 0);
}

static int open_in_place(struct target *t, const struct target_opts *opts, struct error *e)
{
	if (io_file_open(&t->io, t->path, open_flags(opts), e) < 0)
		return -1;
	return io_lock(t->io, opts->locked ? IO_LOCK_NONE : IO_LOCK_WRITE, e);
}

/* The old file must be one that could be written to, and that nobody uses. */
static int hold_old(struct target *t, const struct target_opts *opts, struct error *e)
{
	if (io_file_open(&t->old, t->path, IO_OPEN_WRITE | IO_OPEN_REGULAR, e) < 0)
		return -1;
	return io_lock(t->old, opts->locked ? IO_LOCK_NONE : IO_LOCK_WRITE, e);
}

static int open_temporary(struct target *t, const struct target_opts *opts, struct error *e)
{
	struct temporary *tmp = &t->temporary;
	if (temporary_open(tmp, tmp->dir_fd, t->name, opts->dsync ? O_DSYNC : 0, t->old ? 0600 : 0666) < 0) {
		err_sys(e, errno,
			t->old ? "Could not create a new file beside '%s' to replace it" : "Could not create '%s'",
			t->path);
		return -1;
	}
	if (io_file_from_fd(&t->io, tmp->fd, t->path, open_flags(opts), e) < 0) {
		close(tmp->fd);
		return -1;
	}
	t->io->caps |= IO_READS_ZERO;
	file_fills_open(t->io);
	t->is_new = true;
	struct io_identity id;
	return opts->made && io_file_identity(t->io, &id) ? opts->made(opts->made_ctx, &id, e) : 0;
}

static int open_by_kind(struct target *t, const struct target_opts *opts, struct error *e)
{
	if (opts->in_place)
		return open_in_place(t, opts, e);
	struct place place;
	int rc = find_place(&place, t->path, e);
	t->name = place.name;
	t->temporary.dir_fd = place.dir_fd;
	if (rc < 0)
		return -1;
	if (place.exists && opts->fresh)
		return err_set(e, ERR_USAGE, "%s exists already", t->path);
	if (place.exists && S_ISBLK(place.st.st_mode))
		return open_in_place(t, opts, e);
	if (place.exists && S_ISDIR(place.st.st_mode))
		return err_sys(e, EISDIR, "Could not create '%s'", t->path);
	if (place.exists && !S_ISREG(place.st.st_mode))
		return err_set(e, ERR_UNSUPPORTED,
			"Could not create '%s': it exists and is no regular file or block device", t->path);
	if (place.exists && hold_old(t, opts, e) < 0)
		return -1;
	return open_temporary(t, opts, e);
}

int target_open(struct target **out, const char *path, const struct target_opts *opts, struct error *e)
{
	struct target *t = mem_calloc(1, sizeof *t, "a target", e);
	if (!t)
		return -1;
	t->temporary.dir_fd = -1;
	t->sync = opts->sync_at_end;
	t->path = mem_strdup(path, e);
	if (!t->path || open_by_kind(t, opts, e) < 0) {
		target_close(t);
		return -1;
	}
	*out = t;
	return 0;
}

struct io *target_io(struct target *t)
{
	return t->io;
}

bool target_same(const struct target *a, const struct target *b)
{
	struct stat sa, sb;
	if (!a->is_new || !b->is_new)
		return a->is_new == b->is_new && fstat(io_file_fd(a->io), &sa) == 0 &&
		       fstat(io_file_fd(b->io), &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
	return strcmp(a->name, b->name) == 0 && fstat(a->temporary.dir_fd, &sa) == 0 &&
	       fstat(b->temporary.dir_fd, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

bool target_is_new(const struct target *t)
{
	return t->is_new;
}

/* Owner first: a change of owner takes the set-user bits away. Whoever may not give files away keeps what he can. */
int io_file_own_as(struct io *io, const struct io *other, struct error *e)
{
	struct stat st;
	int fd = io_file_fd(io);
	if (fstat(io_file_fd(other), &st) < 0)
		return err_sys(e, errno, "%s: asking for its mode", other->name);
	mode_t mode = st.st_mode & 07777;
	if (fchown(fd, st.st_uid, st.st_gid) < 0 && fchown(fd, (uid_t)-1, st.st_gid) < 0)
		mode &= 0777;
	if (fchmod(fd, mode) < 0)
		return err_sys(e, errno, "%s: setting its mode", io->name);
	return 0;
}

int target_commit(struct target *t, struct error *e)
{
	if (t->is_new && t->old && io_file_own_as(t->io, t->old, e) < 0)
		return -1;
	if (t->sync && fsync(io_file_fd(t->io)) < 0)
		return err_sys(e, errno, "%s: flushing to disk", t->path);
	if (!t->is_new)
		return 0;
	if (temporary_name(&t->temporary, t->name, t->old != NULL) < 0)
		return err_sys(e, errno, "Could not give the finished file its name '%s'", t->path);
	if (t->sync && fsync(t->temporary.dir_fd) < 0 && errno != EBADF && errno != EINVAL)
		return err_sys(e, errno, "%s: flushing its folder to disk", t->path);
	return 0;
}

void target_close(struct target *t)
{
	if (!t)
		return;
	io_close(t->io);
	io_close(t->old);
	temporary_forget(&t->temporary);
	if (t->temporary.dir_fd >= 0)
		close(t->temporary.dir_fd);
	free(t->name);
	free(t->path);
	free(t);
}
