/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking back what was done to disks: internal snapshots, copies, files. A disk's file that is another one than the journal says is
 * not touched, nor is a snapshot or a file that only has the name of ours.
 */
#include "snapshot/internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

int refuse_other_file(const char *path, const struct trace *t, struct error *e)
{
	uint64_t dev, ino;

	if (!t->dev && !t->ino)
		return 0;
	if (disk_identity(path, &dev, &ino, e))
		return -1;
	if (dev == t->dev && ino == t->ino)
		return 0;
	return err_set(e, ERR_CHANGED, "%s: this is another file than the one that disk %s had; nothing is done to it",
		path, t->target);
}

/* ---- internal snapshots ---- */

/* The hypervisor is told a disk, not a file. */
static bool is_top(const struct vm *vm, const struct trace *t)
{
	const struct driver_disk *d = vm_disk(vm, t->target);

	return d && d->image_count && d->images[0].path && disk_same_file(d->images[0].path, t->path);
}

static int delete_running(struct vm *vm, const struct trace *t, struct error *e)
{
	if (!is_top(vm, t))
		return err_set(e, ERR_CHANGED,
			"disk %s is not on %s any more; the snapshot '%s' in that file is left alone", t->target,
			t->path, t->name);
	if (stall_of_deletion(vm, t->target, t->path, e))
		return -1;
	vm_step(vm, "delete", t->target);
	return vm->driver->ops->internal_delete(vm->driver, vm->domain.uuid, t->target, t->name, t->snapshot, e);
}

/* It is what a disk has to go back to. */
static int refuse_needed(const struct vm *vm, const struct trace *t, struct error *e)
{
	unsigned count;
	const struct trace *all = journal_traces(vm->journal, &count);

	for (unsigned i = 0; i < count; i++)
		if (all[i].kind == TRACE_REVERTED && strcmp(all[i].path, t->path) == 0 &&
			strcmp(all[i].name, t->name) == 0)
			return err_set(e, ERR_BUSY, "disk %s: the snapshot '%s' is its state before, and still needed",
				t->target, t->name);
	return 0;
}

/* With the memory written the disks are closed until the guest goes on. */
static int refuse_closed(const struct vm *vm, struct error *e)
{
	if (!vm_active(vm) || !trace_is_there(vm, TRACE_MEMORY))
		return 0;
	return err_set(e, ERR_BUSY, "domain '%s' waits until its memory is written", vm->domain.name);
}

int undo_internal(struct vm *vm, const struct trace *t, struct error *e)
{
	AUTO_FREE char *id = NULL;
	int64_t date;
	int there;

	if (refuse_needed(vm, t, e) || refuse_closed(vm, e) || refuse_other_file(t->path, t, e))
		return -1;
	there = disk_snapshot_find(t->path, t->name, &id, &date, e);
	if (there <= 0)
		return there;
	if (t->snapshot && (strcmp(id, t->snapshot) != 0 || date != t->date)) {
		vm_note(vm, "disk %s: the snapshot '%s' in %s is not the one that was made here; it is left alone",
			t->target, t->name, t->path);
		return 0;
	}
	if (vm_active(vm))
		return delete_running(vm, t, e);
	vm_step(vm, "delete", t->target);
	return disk_snapshot_delete(t->path, vm_lock_for(vm, t->path), t->name, t->snapshot, e);
}

/* ---- files ---- */

int remove_file(const struct vm *vm, const char *path, struct error *e)
{
	for (unsigned i = 0; i < vm->domain.disk_count; i++) {
		const struct driver_disk *d = &vm->domain.disks[i];

		for (unsigned k = 0; k < d->image_count; k++)
			if (d->images[k].path && disk_same_file(d->images[k].path, path))
				return err_set(e, ERR_CHANGED, "%s: disk %s of domain '%s' uses it", path, d->target,
					vm->domain.name);
		if (d->copy_to && disk_same_file(d->copy_to, path))
			return err_set(e, ERR_BUSY, "%s: disk %s of domain '%s' is still copied to it", path, d->target,
				vm->domain.name);
	}
	if (access(path, F_OK) && errno == ENOENT)
		return 0;
	vm_step(vm, "remove", NULL);
	return unlink(path) && errno != ENOENT ? err_sys(e, errno, "%s", path) : 0;
}

/* What the NVRAM has to go back to. */
static int refuse_needed_file(const struct vm *vm, const char *path, struct error *e)
{
	unsigned count;
	const struct trace *all = journal_traces(vm->journal, &count);

	for (unsigned i = 0; i < count; i++)
		if (all[i].kind == TRACE_NVRAM && all[i].name && strcmp(all[i].name, path) == 0)
			return err_set(e, ERR_BUSY, "%s is the NVRAM of before, and still needed", path);
	return 0;
}

/* Which file it is was written down before it had its name. */
int undo_file(struct vm *vm, const struct trace *t, struct error *e)
{
	struct stat st;

	if (refuse_needed_file(vm, t->path, e))
		return -1;
	if (lstat(t->path, &st))
		return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(e, errno, "%s", t->path);
	if (st.st_dev == t->dev && st.st_ino == t->ino)
		return remove_file(vm, t->path, e);
	vm_note(vm, "%s was not made here; it is left alone", t->path);
	return 0;
}

int undo_copy(struct vm *vm, const struct trace *t, struct error *e)
{
	const struct driver_disk *d = vm_disk(vm, t->target);

	if (!d || !d->copy_to || !disk_same_file(d->copy_to, t->path))
		return 0;
	vm_step(vm, "end", t->target);
	return vm->driver->ops->end_job(vm->driver, vm->domain.uuid, t->target, DRIVER_END_ANYHOW, e);
}
