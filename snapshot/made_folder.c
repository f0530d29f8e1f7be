/* SPDX-License-Identifier: Apache-2.0
 *
 * A folder of ours, for things that get their names when they are whole. A folder has its name from the start: until the journal
 * knows which one it is, there is nothing in it, and it goes only if that is still so.
 */
#include "snapshot/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int made_folder(struct vm *vm, const char *path, unsigned *trace, struct error *e)
{
	struct trace t = {.kind = TRACE_FOLDER, .path = (char *)path};
	struct stat st;

	if (!lstat(path, &st))
		return err_set(e, ERR_USAGE, "%s exists already", path);
	if (trace_put(vm, &t, trace, e))
		return -1;
	if (mkdir(path, 0700))
		return err_sys(e, errno, "%s", path);
	return disk_identity(path, &t.dev, &t.ino, e) || journal_know(vm->journal, *trace, &t, e) ? -1 : 0;
}

static int empty(const char *path, struct error *e)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), failed = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;

	if (!dir) {
		err_fill_sys(e, errno, "%s", path);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while (!failed && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && unlinkat(fd, d->d_name, 0) &&
			errno != ENOENT)
			failed = err_sys(e, errno, "%s/%s", path, d->d_name);
	closedir(dir);
	return failed;
}

int undo_folder(struct vm *vm, const struct trace *t, struct error *e)
{
	const bool known = t->dev || t->ino;
	struct stat st;

	if (lstat(t->path, &st))
		return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(e, errno, "%s", t->path);
	if (!S_ISDIR(st.st_mode) || (known && (st.st_dev != t->dev || st.st_ino != t->ino))) {
		vm_note(vm, "%s was not made here; it is left alone", t->path);
		return 0;
	}
	vm_step(vm, "remove", NULL);
	if (known && empty(t->path, e))
		return -1;
	if (!rmdir(t->path) || errno == ENOENT)
		return 0;
	if (known || errno != ENOTEMPTY)
		return err_sys(e, errno, "%s", t->path);
	vm_note(vm, "%s has something in it that was not made here; it is left alone", t->path);
	return 0;
}
