/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking back a way back to a snapshot that was not gone to its end: every disk, then the definition of before, then the guest runs
 * again. And what comes after one that was: the saved state goes, the guest starts. Which of the two it is the journal says:
 * while it has a disk that goes back, or a changed definition or NVRAM, nothing is decided.
 */
#include "snapshot/revert.h"

bool revert_undecided(const struct vm *vm)
{
	return trace_is_there(vm, TRACE_REVERTED) || trace_is_there(vm, TRACE_DEFINED) ||
	       trace_is_there(vm, TRACE_NVRAM);
}

/* ---- before it is decided ---- */

/* With the last disk gone back, START, UNSAVED and DEVICE would mean what they must not. */
int revert_refuse_early(const struct vm *vm, struct error *e)
{
	if (!trace_is_there(vm, TRACE_START) && !trace_is_there(vm, TRACE_UNSAVED) && !trace_is_there(vm, TRACE_DEVICE))
		return 0;
	return err_set(e, ERR_IO, "domain '%s': the journal could not be changed: its disks wait for that",
		vm->domain.name);
}

/* `memory` NULL: it boots. order: the locks of our own engine are released before; the guest takes them when it starts. */
static int start(struct vm *vm, bool paused, const char *memory, struct error *e)
{
	vm_let_go(vm);
	if (guest_settle(vm, e))
		return -1;
	if (vm_active(vm))
		return 0;
	vm_step(vm, memory ? "restore" : "start", NULL);
	return memory ? vm->driver->ops->restore(vm->driver, vm->domain.uuid, memory, paused, e)
		      : vm->driver->ops->start(vm->driver, vm->domain.uuid, paused, e);
}

int undo_ended(struct vm *vm, const struct trace *t, struct error *e)
{
	(void)t;
	if (revert_undecided(vm))
		return err_set(e, ERR_BUSY, "domain '%s' is not started: its disks are not all as before",
			vm->domain.name);
	if (vm_active(vm))
		return 0;
	vm_note(vm, "the guest was ended: it is started again, and boots as after a power failure");
	return start(vm, journal_was(vm->journal) == DRIVER_PAUSED, NULL, e);
}

/* Somebody started the guest, or wrote in another way, between a crash and now: which state is wanted is not ours to say. */
static int refuse_used(const struct trace *t, struct error *e)
{
	int unused = disk_is_at(t->path, t->to, NULL, e);

	if (unused)
		return unused < 0 ? -1 : 0;
	return err_set(e, ERR_CHANGED,
		"disk %s: %s was written to while it was on its way back to snapshot '%s'; nothing is done: its state "
		"of before is snapshot '%s' (go back to that to have it, or delete it to keep what is there), then "
		"recover",
		t->target, t->path, t->to, t->name);
}

/* It did not go back yet; or it did, and somebody took its state of before away. */
static int tell_lost(const struct vm *vm, const struct trace *t, struct error *e)
{
	int back = disk_is_at(t->path, t->to, NULL, e);

	if (back > 0)
		vm_note(vm,
			"disk %s: %s is at snapshot '%s' and has no snapshot '%s' of another state before; it is left "
			"as "
			"it is",
			t->target, t->path, t->to, t->name);
	return back < 0 ? -1 : 0;
}

int undo_reverted(struct vm *vm, const struct trace *t, struct error *e)
{
	AUTO_FREE char *id = NULL;
	int64_t date;

	if (revert_refuse_early(vm, e) || refuse_other_file(t->path, t, e))
		return -1;
	int there = disk_snapshot_find(t->path, t->name, &id, &date, e);

	if (there < 0)
		return -1;
	if (!there || strcmp(id, t->snapshot) != 0 || date != t->date)
		return tell_lost(vm, t, e);
	int as_before = disk_is_at(t->path, t->name, t->snapshot, e);

	if (as_before)
		return as_before < 0 ? -1 : 0;
	if (refuse_used(t, e))
		return -1;
	vm_step(vm, "revert", t->target);
	return disk_snapshot_apply(t->path, vm_lock_for(vm, t->path), t->name, t->snapshot, e);
}

int undo_defined(struct vm *vm, const struct trace *t, struct error *e)
{
	if (revert_refuse_early(vm, e))
		return -1;
	if (strcmp(vm->domain.xml, t->name) == 0)
		return 0;
	vm_step(vm, "define", NULL);
	return vm->driver->ops->define(vm->driver, vm->domain.uuid, t->name, e);
}

/* ---- after it was ---- */

int undo_unsaved(struct vm *vm, const struct trace *t, struct error *e)
{
	(void)t;
	if (revert_undecided(vm))
		return 0;
	if (vm_active(vm))
		return guest_forget_stale_save(vm, e);
	if (!vm->domain.saved)
		return 0;
	vm_note(vm, "the saved state of domain '%s' does not belong to its disks any more: it is removed",
		vm->domain.name);
	vm_step(vm, "unsave", NULL);
	return vm->driver->ops->forget_save(vm->driver, vm->domain.uuid, false, e);
}

/* Snapshots of the state before are deleted first, if that can be: beside a running guest it would hold the guest. */
int undo_start(struct vm *vm, const struct trace *t, struct error *e)
{
	struct error later;

	if (revert_undecided(vm))
		return 0;
	if (trace_is_there(vm, TRACE_UNSAVED))
		return err_set(e, ERR_BUSY, "domain '%s' is not started: it would start from its saved state",
			vm->domain.name);
	if (!vm_active(vm) && trace_undo_kind(vm, TRACE_INTERNAL, &later))
		vm_note(vm, "%s", later.msg);
	const char *memory = vm->opts.without_memory ? NULL : t->path;

	if (!start(vm, strcmp(t->name, "paused") == 0, memory, e))
		return 0;
	if (!memory)
		return err_prefix(e, "the disks are back, and starting domain '%s' failed", vm->domain.name);
	return err_prefix(e,
		"the disks are back, and domain '%s' did not go on from its memory (recover tries that again, or, "
		"--without-memory, boots it)",
		vm->domain.name);
}
