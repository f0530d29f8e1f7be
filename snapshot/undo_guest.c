/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking back what was done to the guest itself: stopped, suspended, its file systems frozen, a device detached. Each looks
 * first: after a crash somebody else may have done it, or it was never done.
 */
#include "snapshot/revert.h"

enum { THAW_SECONDS = 10, SETTLE_MS = 50, SETTLE_TRIES = 12000 };

int guest_settle(struct vm *vm, struct error *e)
{
	for (unsigned i = 0; i < SETTLE_TRIES; i++) {
		if (vm_look(vm, e))
			return -1;
		if (!vm->domain.job && vm->domain.state != DRIVER_BETWEEN)
			return 0;
		vm_sleep(vm, SETTLE_MS);
	}
	return err_set(e, ERR_BUSY, "domain '%s': a job (%s) does not end", vm->domain.name,
		vm->domain.job ? vm->domain.job : "of the hypervisor");
}

int guest_forget_stale_save(struct vm *vm, struct error *e)
{
	if (!vm->domain.stale_save)
		return 0;
	vm_note(vm, "the guest runs, and a saved state of before is there: it is removed");
	return vm->driver->ops->forget_save(vm->driver, vm->domain.uuid, true, e);
}

/* order: the locks of our own engine are released before; the guest takes them when it starts. */
int undo_saved(struct vm *vm, const struct trace *t, struct error *e)
{
	bool was_paused = journal_was(vm->journal) == DRIVER_PAUSED;

	(void)t;
	if (guest_settle(vm, e))
		return -1;
	if (guest_forget_stale_save(vm, e))
		return -1;
	switch (vm->domain.state) {
	case DRIVER_RUNNING:
		return 0;
	case DRIVER_PAUSED: /* the save failed half-way */
		return was_paused || vm->domain.paused_by_user
			       ? 0
			       : vm->driver->ops->resume(vm->driver, vm->domain.uuid, e);
	default:
		break;
	}
	if (!vm->domain.saved) {
		vm_note(vm, "the saved state is gone: somebody else started the guest and it is shut off now, or "
			    "removed it; it is left so");
		return 0;
	}
	vm_step(vm, "start", NULL);
	if (vm->driver->ops->start(vm->driver, vm->domain.uuid, was_paused, e))
		return err_prefix(e, "domain '%s' is saved, and starting it failed", vm->domain.name);
	return 0;
}

/* order: what the definition names has the last writes, then the guest writes on. */
int undo_paused(struct vm *vm, const struct trace *t, struct error *e)
{
	unsigned count;
	const struct trace *all = journal_traces(vm->journal, &count);
	struct error later;

	(void)t;
	if (vm->domain.state != DRIVER_PAUSED)
		return 0;
	for (unsigned i = 0; i < count; i++)
		if (all[i].kind == TRACE_OVERLAY && overlay_defined_home(vm, &all[i], &later))
			vm_note(vm, "%s", later.msg);
	vm_step(vm, "resume", NULL);
	return vm->driver->ops->resume(vm->driver, vm->domain.uuid, e);
}

/* A guest that is off is written by nobody; one with a job is migrated or saved by somebody else, which is waited for. All others may be
 * held for it, or have suspended themselves: there is no time to lose. */
int undo_memory(struct vm *vm, const struct trace *t, struct error *e)
{
	(void)t;
	if (vm->domain.job && guest_settle(vm, e))
		return -1;
	if (!vm_active(vm))
		return 0;
	vm_step(vm, "resume", NULL);
	return vm->driver->ops->memory_end(vm->driver, vm->domain.uuid, e);
}

int guest_wake(struct vm *vm, struct error *e)
{
	if (journal_was(vm->journal) != DRIVER_RUNNING)
		return 0;
	if (vm_look(vm, e))
		return -1;
	if (vm->domain.state != DRIVER_PAUSED || vm->domain.paused_by_user || vm->domain.job)
		return 0;
	vm_note(vm, "the guest had stopped because of an error, most likely without room to write: it goes on");
	vm_step(vm, "resume", NULL);
	return vm->driver->ops->resume(vm->driver, vm->domain.uuid, e) || vm_look(vm, e) ? -1 : 0;
}

/* The agent thaws what is not frozen, too. A guest that is off has nothing to thaw; a saved one comes back frozen. */
int undo_frozen(struct vm *vm, const struct trace *t, struct error *e)
{
	(void)t;
	if (!vm_active(vm) && !vm->domain.saved)
		return 0;
	if (guest_wake(vm, e))
		return -1;
	if (vm->domain.state != DRIVER_RUNNING)
		return err_set(e, ERR_BUSY, "domain '%s' is %s: its file systems cannot be thawed now", vm->domain.name,
			vm_active(vm) ? "paused" : "saved");
	vm_step(vm, "thaw", NULL);
	return vm->driver->ops->thaw(vm->driver, vm->domain.uuid, THAW_SECONDS, e);
}

/* A guest that is off has its devices by its definition: unless it is to go on from what was saved without them. One that may not go
 * back has nothing to come. */
int undo_device(struct vm *vm, const struct trace *t, struct error *e)
{
	bool off = !vm_active(vm);

	if (revert_undecided(vm))
		return 0;
	if (off && (vm->domain.saved || trace_is_there(vm, TRACE_START)))
		return err_set(e, ERR_BUSY, "domain '%s' is saved: its device can come back when it runs",
			vm->domain.name);
	if (off)
		return 0;
	for (unsigned i = 0; i < vm->domain.host_device_count; i++)
		if (driver_same_host_device(vm->domain.host_devices[i], t->name))
			return 0;
	vm_step(vm, "attach", NULL);
	return vm->driver->ops->device(vm->driver, vm->domain.uuid, t->name, true, e);
}

int undo_record(struct vm *vm, const struct trace *t, struct error *e)
{
	struct driver_record *records;
	unsigned count;
	bool there = false;

	if (vm->driver->ops->records(vm->driver, vm->domain.uuid, &records, &count, e))
		return -1;
	for (unsigned i = 0; i < count; i++)
		there = there || strcmp(records[i].name, t->name) == 0;
	driver_records_free(records, count);
	if (!there)
		return 0;
	vm_step(vm, "forget", NULL);
	return vm->driver->ops->forget_record(vm->driver, vm->domain.uuid, t->name, e);
}
