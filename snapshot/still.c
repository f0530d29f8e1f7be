/* SPDX-License-Identifier: Apache-2.0
 *
 * What images are made of holds still: files below the guest's own top, and a top that the guest has left. All are locked until the
 * last image is made, those of the disks that wait for their turn, too; whoever writes without asking for locks is told by the
 * file's time of last change. (A snapshot inside the guest's top proves itself, FORMAT.md §8.)
 */
#include <errno.h>
#include <sys/stat.h>

#include "snapshot/internal.h"

static bool is_still(const struct take *t, const struct part *p, unsigned i)
{
	return i || (!p->snapshot && t->out->mode != VM_LIVE);
}

static int hold(const char *path, struct still *out, struct error *e)
{
	if (!path)
		return 0; /* the conversion says what it is */
	if (io_file_open(&out->file, path, 0, e) || io_lock(out->file, IO_LOCK_READ, e))
		return -1;
	return fstat(io_file_fd(out->file), &out->before) ? err_sys(e, errno, "%s", path) : 0;
}

int take_hold_still(struct take *t, struct error *e)
{
	for (unsigned k = 0; k < t->part_count; k++) {
		struct part *p = &t->parts[k];

		p->still = mem_calloc(p->below_count + 1, sizeof *p->still, "files", e);
		if (!p->still)
			return -1;
		for (unsigned i = 0; i <= p->below_count; i++)
			if (is_still(t, p, i) && hold(i ? p->below[i - 1].path : p->path, &p->still[i], e))
				return err_prefix(e, "disk %s", p->disk->target);
	}
	return 0;
}

int take_was_still(const struct part *p, struct error *e)
{
	for (unsigned i = 0; i <= p->below_count; i++) {
		const struct io *file = p->still[i].file;
		const struct stat *before = &p->still[i].before;
		struct stat now;

		if (!file || !S_ISREG(before->st_mode))
			continue;
		if (fstat(io_file_fd(file), &now))
			return err_sys(e, errno, "%s", file->name);
		if (now.st_size != before->st_size || now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
			now.st_mtim.tv_nsec != before->st_mtim.tv_nsec)
			return err_set(e, ERR_CHANGED, "%s: somebody wrote to it while it was read", file->name);
	}
	return 0;
}

void take_release_still(struct take *t)
{
	for (unsigned k = 0; k < t->part_count; k++) {
		struct part *p = &t->parts[k];

		for (unsigned i = 0; p->still && i <= p->below_count; i++)
			io_close(p->still[i].file);
		free(p->still);
		p->still = NULL;
	}
}
