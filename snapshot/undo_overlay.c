/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking an overlay back: what the guest wrote to it goes into its base, the disk and the definition go back to that, and the file
 * goes. At every moment the file that the definition names leads to the last writes, or the journal tells that they are all in the
 * base, or the overlay stays until somebody decides.
 */
#include "snapshot/internal.h"

enum { POLL_MS = 20, UNUSED_TRIES = 100 };

/* ---- beside a running guest ---- */

/* The guest goes on, on its overlay. */
static int give_up(struct vm *vm, const struct trace *t, struct error *e)
{
	struct error later;

	vm_step(vm, "end", t->target);
	if (vm->driver->ops->end_job(vm->driver, vm->domain.uuid, t->target, DRIVER_END_ANYHOW, &later))
		vm_note(vm, "%s", later.msg);
	return err_prefix(e, "disk %s is still on the overlay %s", t->target, t->path);
}

/* A cancel that was there before is what took us here; one that comes now is of this. */
static int wait_until_ready(struct vm *vm, const struct trace *t, struct error *e)
{
	bool cancelled_before = vm_cancelled(vm);
	struct driver_job job;
	struct catch_up c;

	catch_up_begin(&c, vm);
	for (;;) {
		if (vm->driver->ops->job(vm->driver, vm->domain.uuid, t->target, &job, e))
			return -1;
		if (job.kind != DRIVER_COMMIT)
			return err_set(e, ERR_IO, "disk %s: committing the overlay stopped", t->target);
		progress_report(vm->opts.voice.progress, job.done, job.total);
		if (job.ready)
			return 0;
		if (!vm_sleep(vm, POLL_MS) && !cancelled_before) {
			err_fill(e, ERR_CANCELLED, "cancelled while it was committed");
			return give_up(vm, t, e);
		}
		if (catch_up_fails(&c, job.done, job.total)) {
			err_fill(e, ERR_LIMIT,
				"the guest writes as fast as it can be committed: recover it when the guest writes "
				"less, or is "
				"shut off");
			return give_up(vm, t, e);
		}
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
		     vm->driver->ops->end_job(vm->driver, vm->domain.uuid, target, DRIVER_END_PIVOT, e);

	return (id && trace_undo(vm, id, failed ? &later : e)) || failed ? -1 : 0;
}

static int know_begun(struct vm *vm, const struct trace *t, struct error *e)
{
	struct trace known = *t;

	known.begun = true;
	return journal_know(vm->journal, t->id, &known, e);
}

/* From here on a disk that is on the base is there because the overlay was committed, and not because nobody had written down that
 * there is an overlay: a hypervisor that was killed may not have done so. */
static int begin_commit(struct vm *vm, const struct trace *t, const struct driver_disk *d, struct error *e)
{
	const struct driver_new_file overlay = {.target = t->target, .path = t->path, .format = DRIVER_QCOW2};

	if (t->begun)
		return 0;
	if (d->defined && !disk_same_file(d->defined, t->path) &&
		vm->driver->ops->set_source(vm->driver, vm->domain.uuid, &overlay, e))
		return -1;
	return know_begun(vm, t, e);
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
	if (begin_commit(vm, t, d, e))
		return -1;
	vm_step(vm, "commit", t->target);
	/* One that is left is begun again: whether it is ready is an event that a hypervisor which was killed may have missed. */
	if ((job.kind == DRIVER_COMMIT &&
		    vm->driver->ops->end_job(vm->driver, vm->domain.uuid, t->target, DRIVER_END_ANYHOW, e)) ||
		vm->driver->ops->commit(vm->driver, vm->domain.uuid, t->target, t->name, e))
		return -1;
	return wait_until_ready(vm, t, e) || pivot(vm, t->target, e) ? -1 : 0;
}

/* ---- of a guest that is off ---- */

static int refuse_saved(const struct vm *vm, const struct trace *t, struct error *e)
{
	if (!vm->domain.saved)
		return 0;
	return err_set(e, ERR_BUSY,
		"domain '%s' was saved while disk %s was on the overlay %s: start it, then recover it", vm->domain.name,
		t->target, t->path);
}

/* The definition names the overlay. */
static int commit_shut_off(struct vm *vm, const struct trace *t, struct error *e)
{
	struct driver_new_file file = {.target = t->target, .path = t->name};
	AUTO_CHAIN struct chain *held = NULL; /* so that nobody starts the guest before its definition has the base */

	if (refuse_saved(vm, t, e))
		return -1;
	vm_step(vm, "commit", t->target);
	if (disk_commit(t, &held, &file.format, e) || know_begun(vm, t, e))
		return -1;
	return vm->driver->ops->set_source(vm->driver, vm->domain.uuid, &file, e);
}

/* Nothing has used the base since the guest wrote to the overlay, or the two cannot be brought together. */
static int refuse_newer_base(const struct vm *vm, const struct trace *t, struct error *e)
{
	static const char way_out[] = "look at both, then move the overlay away or commit it, and recover once more";
	int newer = vm_active(vm) ? 1 : disk_is_newer(t->name, t->path, e);

	if (newer < 0 && e->code == ERR_UNSUPPORTED)
		return err_set(e, ERR_CHANGED,
			"disk %s is on the device %s, and what the guest wrote last is in the overlay %s: nobody can "
			"tell "
			"whether the device was used since; nothing is done; %s",
			t->target, t->name, t->path, way_out);
	if (newer <= 0)
		return newer;
	return err_set(e, ERR_CHANGED,
		"disk %s: what the guest wrote last before it was killed is in the overlay %s, and %s was used without "
		"it since; "
		"nothing is done; %s",
		t->target, t->path, t->name, way_out);
}

/* The hypervisor died with its guest before it wrote down that the disk is on the overlay. It is told, and the rest is as usual: so
 * that whoever starts the guest meanwhile starts it with all its writes. */
static int commit_unknown(struct vm *vm, const struct trace *t, struct error *e)
{
	const struct driver_new_file overlay = {.target = t->target, .path = t->path, .format = DRIVER_QCOW2};

	if (refuse_saved(vm, t, e))
		return -1;
	AUTO_IO struct io *base = NULL;

	if (io_file_open(&base, t->name, IO_OPEN_WRITE, e) || io_lock(base, IO_LOCK_WRITE, e) ||
		refuse_newer_base(vm, t, e))
		return -1;
	vm_note(vm,
		"the guest of domain '%s' wrote to the overlay %s, of which the hypervisor does not know: it is "
		"committed",
		vm->domain.name, t->path);
	if (vm->driver->ops->set_source(vm->driver, vm->domain.uuid, &overlay, e))
		return -1;
	io_close(STEAL(base));
	return vm_look(vm, e) || commit_shut_off(vm, t, e) ? -1 : 0;
}

/* ---- the end ---- */

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

/* The disk is on the base, and no commit was begun: most likely the overlay was never in use. 1: it is no overlay of ours. */
static int rescue(struct vm *vm, const struct trace *t, struct error *e)
{
	enum disk_overlay what;

	if (wait_until_unused(vm, t->path, e) || disk_overlay_holds(t->path, t->name, &what, e))
		return -1;
	if (what == OVERLAY_OTHER)
		vm_note(vm, "%s was not made here; it is left alone", t->path);
	if (what != OVERLAY_HOLDS)
		return what == OVERLAY_OTHER;
	return vm_active(vm) ? refuse_newer_base(vm, t, e) : commit_unknown(vm, t, e);
}

/* 1: there is nothing to remove. */
static int settle(struct vm *vm, const struct trace *t, struct error *e)
{
	const struct driver_disk *d = vm_disk(vm, t->target);

	if (!d || !d->image_count || !d->images[0].path)
		return err_set(e, ERR_CHANGED, "domain '%s' has no disk %s any more; its last writes may be in %s",
			vm->domain.name, t->target, t->path);
	if (refuse_other_file(t->name, t, e))
		return -1;
	if (disk_same_file(d->images[0].path, t->path))
		return vm_active(vm) ? commit_running(vm, t, d, e) : commit_shut_off(vm, t, e);
	if (!disk_same_file(d->images[0].path, t->name))
		return err_set(e, ERR_CHANGED, "disk %s is on %s, neither on the overlay %s nor on its base", t->target,
			d->images[0].path, t->path);
	return t->begun ? 0 : rescue(vm, t, e);
}

/* order: all of the overlay in its base, the disk on the base, the overlay goes. */
int undo_overlay(struct vm *vm, const struct trace *t, struct error *e)
{
	int rc = settle(vm, t, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (vm_look(vm, e) || overlay_defined_home(vm, t, e))
		return -1;
	return wait_until_unused(vm, t->path, e) || remove_file(vm, t->path, e) ? -1 : 0;
}
