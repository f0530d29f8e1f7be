/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking back what was done to disks: internal snapshots, overlays, copies, files. A disk's file that is another one than the
 * journal says is not touched.
 */
#include "snapshot/internal.h"

#include <errno.h>
#include <unistd.h>

enum { POLL_MS = 20, UNUSED_TRIES = 100 };

static int refuse_other_file(const char *path, const struct trace *t, struct error *e)
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

/* The hypervisor is told a disk, not a file. */
static bool is_top(const struct vm *vm, const struct trace *t)
{
	const struct driver_disk *d = vm_disk(vm, t->target);

	return d && d->image_count && d->images[0].path && disk_same_file(d->images[0].path, t->path);
}

int undo_internal(struct vm *vm, const struct trace *t, struct error *e)
{
	int there;

	if (refuse_other_file(t->path, t, e))
		return -1;
	there = disk_snapshot_exists(t->path, t->name, e);
	if (there <= 0)
		return there;
	if (vm_active(vm) && !is_top(vm, t))
		return err_set(e, ERR_CHANGED,
			"disk %s is not on %s any more; the snapshot '%s' in that file is left alone", t->target,
			t->path, t->name);
	vm_step(vm, "delete", t->target);
	return vm_active(vm) ? vm->driver->ops->internal_delete(vm->driver, vm->domain.uuid, t->target, t->name, e)
			     : disk_snapshot_delete(t->path, t->name, e);
}

/* A file of ours that no disk of the domain is made of. */
static int remove_file(const struct vm *vm, const char *path, struct error *e)
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

int undo_file(struct vm *vm, const struct trace *t, struct error *e)
{
	return remove_file(vm, t->path, e);
}

int undo_copy(struct vm *vm, const struct trace *t, struct error *e)
{
	const struct driver_disk *d = vm_disk(vm, t->target);

	if (!d || !d->copy_to || !disk_same_file(d->copy_to, t->path))
		return 0;
	vm_step(vm, "end", t->target);
	return vm->driver->ops->end_job(vm->driver, vm->domain.uuid, t->target, false, e);
}

static int wait_until_ready(struct vm *vm, const char *target, struct error *e)
{
	struct driver_job job;

	for (;;) {
		if (vm->driver->ops->job(vm->driver, vm->domain.uuid, target, &job, e))
			return -1;
		if (job.kind != DRIVER_COMMIT)
			return err_set(e, ERR_IO, "disk %s: committing the overlay stopped", target);
		progress_report(vm->opts.voice.progress, job.done, job.total);
		if (job.ready)
			return 0;
		vm_sleep(vm, POLL_MS);
	}
}

/* The guest stands still until the definition names the base, too: whenever all dies, what the definition names has the last
 * writes. Else, after the definition's overlay was found, nobody could tell whether the base has newer ones. */
static int pivot(struct vm *vm, const char *target, struct error *e)
{
	unsigned id = 0;
	struct error later;

	if (vm_look(vm, e) ||
		(vm->domain.state == DRIVER_RUNNING && trace_put(vm, &(struct trace){.kind = TRACE_PAUSED}, &id, e)))
		return -1;
	vm_step(vm, "pivot", target);
	int failed = (id && vm->driver->ops->suspend(vm->driver, vm->domain.uuid, e)) ||
		     vm->driver->ops->end_job(vm->driver, vm->domain.uuid, target, true, e);

	return (id && trace_undo(vm, id, failed ? &later : e)) || failed ? -1 : 0;
}

static int commit_running(struct vm *vm, const struct trace *t, const struct driver_disk *d, struct error *e)
{
	struct driver_job job;

	if (d->image_count < 2 || !d->images[1].path || !disk_same_file(d->images[1].path, t->name))
		return err_set(e, ERR_CHANGED, "disk %s: below the overlay %s is another file than %s", t->target,
			t->path, t->name);
	if (vm->driver->ops->job(vm->driver, vm->domain.uuid, t->target, &job, e))
		return -1;
	if (job.kind != DRIVER_NO_JOB && job.kind != DRIVER_COMMIT)
		return err_set(e, ERR_BUSY, "disk %s: somebody else's block job runs on it", t->target);
	vm_step(vm, "commit", t->target);
	/* One that is left is begun again: whether it is ready is an event that a hypervisor which was killed may have missed. */
	if ((job.kind == DRIVER_COMMIT && vm->driver->ops->end_job(vm->driver, vm->domain.uuid, t->target, false, e)) ||
		vm->driver->ops->commit(vm->driver, vm->domain.uuid, t->target, t->name, e))
		return -1;
	return wait_until_ready(vm, t->target, e) || pivot(vm, t->target, e) ? -1 : 0;
}

static int commit_shut_off(struct vm *vm, const struct trace *t, struct error *e)
{
	struct driver_new_file file = {.target = t->target, .path = t->name};

	if (vm->domain.saved)
		return err_set(e, ERR_BUSY,
			"domain '%s' was saved while disk %s was on the overlay %s: start it, then recover it",
			vm->domain.name, t->target, t->path);
	AUTO_CHAIN struct chain *held = NULL; /* so that nobody starts the guest before its definition has the base */

	vm_step(vm, "commit", t->target);
	if (disk_commit(t->path, t->name, &held, &file.format, e))
		return -1;
	return vm->driver->ops->set_source(vm->driver, vm->domain.uuid, &file, e);
}

/* A hypervisor that was killed just after its deed may not know of an overlay that the guest writes to. */
static int wait_until_unused(const struct vm *vm, const char *path, struct error *e)
{
	for (unsigned i = 0; i < UNUSED_TRIES; i++) {
		AUTO_IO struct io *file = NULL;

		if (io_file_open(&file, path, IO_OPEN_WRITE, e))
			return e->code == ERR_NOT_FOUND ? 0 : -1;
		if (!io_lock(file, IO_LOCK_WRITE, e))
			return 0;
		if (e->code != ERR_BUSY)
			return -1;
		vm_sleep(vm, POLL_MS);
	}
	return err_prefix(e, "%s is still in use, though no disk of domain '%s' is on it", path, vm->domain.name);
}

int overlay_defined_home(struct vm *vm, const struct trace *t, struct error *e)
{
	const struct driver_disk *d = vm_disk(vm, t->target);

	if (!vm_active(vm) || !d || !d->defined || !d->image_count || !d->images[0].path ||
		!disk_same_file(d->defined, t->path) || !disk_same_file(d->images[0].path, t->name))
		return 0;
	const struct driver_new_file file = {.target = t->target, .path = t->name, .format = d->images[0].format};

	return vm->driver->ops->set_source(vm->driver, vm->domain.uuid, &file, e);
}

/* order: all of the overlay in its base, the disk on the base, the overlay goes. */
int undo_overlay(struct vm *vm, const struct trace *t, struct error *e)
{
	const struct driver_disk *d = vm_disk(vm, t->target);

	if (!d || !d->image_count || !d->images[0].path)
		return err_set(e, ERR_CHANGED, "domain '%s' has no disk %s any more; its last writes may be in %s",
			vm->domain.name, t->target, t->path);
	if (refuse_other_file(t->name, t, e))
		return -1;
	if (disk_same_file(d->images[0].path, t->path)) {
		if (vm_active(vm) ? commit_running(vm, t, d, e) : commit_shut_off(vm, t, e))
			return -1;
		if (vm_look(vm, e))
			return -1;
	} else if (!disk_same_file(d->images[0].path, t->name)) {
		return err_set(e, ERR_CHANGED, "disk %s is on %s, neither on the overlay %s nor on its base", t->target,
			d->images[0].path, t->path);
	}
	if (overlay_defined_home(vm, t, e))
		return -1;
	return wait_until_unused(vm, t->path, e) || remove_file(vm, t->path, e) ? -1 : 0;
}
