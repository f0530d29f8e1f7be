/* SPDX-License-Identifier: Apache-2.0
 *
 * Cold: the guest is stopped by a managed save, our own engine makes an internal snapshot in each disk under QEMU's write
 * locks, and the guest starts before anything is extracted. A raw disk is cloned where the file system can, else its image is
 * made while the guest is stopped. Where QEMU would take long to delete internal snapshots again, the guest is started on overlays
 * instead. Also what is done with a guest that does not run.
 */
#include "qcow2/edit.h"
#include "snapshot/memory.h"

static int detach_devices(struct take *t, struct error *e)
{
	for (unsigned i = 0; i < t->domain.host_device_count; i++) {
		const struct trace trace = {.kind = TRACE_DEVICE, .name = t->domain.host_devices[i]};

		if (trace_put(t->vm, &trace, NULL, e))
			return -1;
		vm_step(t->vm, "detach", NULL);
		if (t->vm->driver->ops->device(t->vm->driver, t->domain.uuid, trace.name, false, e))
			return -1;
	}
	return 0;
}

/* Said before the guest is stopped, as far as it can be known. */
static int tell_what_waits(struct take *t, struct error *e)
{
	for (unsigned i = 0; i < t->part_count; i++) {
		struct part *p = &t->parts[i];
		AUTO_IO struct io *file = NULL;

		if (p->format == DRIVER_QCOW2)
			continue;
		if (io_file_open(&file, p->path, 0, e))
			return -1;
		p->waits = !(file->caps & IO_CAN_CLONE);
		if (p->waits)
			vm_note(t->vm,
				"disk %s is raw and cannot be cloned: its image is made while the guest is stopped",
				p->disk->target);
	}
	return 0;
}

static int save(struct take *t, struct error *e)
{
	struct vm *vm = t->vm;

	if (detach_devices(t, e) || take_freeze(t, e) || take_deadline(t, e) ||
		trace_put(vm, &(struct trace){.kind = TRACE_SAVED}, NULL, e))
		return -1;
	vm_step(vm, "save", NULL);
	take_pause_begins(t);
	return vm->driver->ops->save(vm->driver, t->domain.uuid, e);
}

/* ---- the disks, all locked at once, so that nothing starts the guest between two of them ---- */

static int lock_disk(const struct part *p, struct chain **out, struct error *e)
{
	const struct chain_opts opts = {.format = p->format == DRIVER_RAW ? IMAGE_RAW : IMAGE_QCOW2,
		.no_backing = true,
		.write = true,
		.lock = IO_LOCK_WRITE};

	return chain_open(out, p->path, &opts, e);
}

/* One that somebody else made since we looked must not get into the journal, or it would be taken back. */
static int refuse_name(const struct chain *c, const char *name, struct error *e)
{
	if (qcow2_snapshot_find(c->layers[0].q, &(struct snapshot_query){.name = name}, e) >= 0)
		return err_set(e, ERR_USAGE, "it has a snapshot '%s' already", name);
	return e->code == ERR_NOT_FOUND ? 0 : -1;
}

static int snapshot_qcow2(struct take *t, struct part *p, struct chain *c, struct error *e)
{
	struct trace trace = {.kind = TRACE_INTERNAL, .target = p->disk->target, .path = p->path, .name = t->out->name};

	if (refuse_name(c, t->out->name, e) || disk_identity(p->path, &trace.dev, &trace.ino, e) ||
		trace_put(t->vm, &trace, &p->trace, e) ||
		disk_snapshot_create(&c->layers[0], t->out->name, t->out->created, 0, e) ||
		take_know_internal(t, p, p->path, e))
		return err_prefix(e, "disk %s", p->disk->target);
	p->snapshot = t->out->name;
	return 0;
}

/* 1: not possible here. */
static int clone_to(struct take *t, const char *path, struct io *disk, struct error *e)
{
	struct target *target;
	struct made made;

	if (disk->caps & IO_IS_DEVICE)
		return 1;
	if (made_open(&made, t->vm, path, disk, &target, e))
		return -1;
	struct io *clone = target_io(target);
	int rc = io_truncate(clone, disk->size, e) ? -1 : io_clone(clone, 0, disk, 0, disk->size, e);

	if (!rc)
		rc = target_commit(target, e);
	target_close(target);
	return rc > 0 && trace_undo(t->vm, made.trace, e) ? -1 : rc;
}

/* A clone beside the disk. Where there is none the image must be made before the guest starts. */
static int clone_raw(struct take *t, struct part *p, struct chain *c, struct error *e)
{
	AUTO_FREE char *path = take_beside(t, p, e);
	int rc = path ? clone_to(t, path, c->layers[0].file, e) : -1;

	if (rc < 0)
		return -1;
	if (rc > 0) {
		t->extract_stopped = true;
		if (!p->waits)
			vm_note(t->vm, "disk %s could not be cloned: its image is made while the guest is stopped",
				p->disk->target);
		return 0;
	}
	free(p->path);
	p->path = STEAL(path);
	return 0;
}

static int snapshot_disks(struct take *t, struct chain **locked, struct error *e)
{
	for (unsigned i = 0; i < t->part_count; i++)
		if (lock_disk(&t->parts[i], &locked[i], e))
			return -1;
	if (!t->out->created)
		take_pause_begins(t);
	if (take_memory_saved(t, e))
		return -1;
	vm_step(t->vm, "snapshot", NULL);
	for (unsigned i = 0; i < t->part_count; i++) {
		struct part *p = &t->parts[i];

		if (p->format == DRIVER_QCOW2 ? snapshot_qcow2(t, p, locked[i], e) : clone_raw(t, p, locked[i], e))
			return -1;
	}
	return 0;
}

/* A raw disk is its own frozen state, as long as it is locked; it can be read meanwhile. */
static int hold_raw(struct take *t, struct chain **locked, struct error *e)
{
	t->held = mem_calloc(t->part_count, sizeof *t->held, "disks", e);
	if (!t->held)
		return -1;
	for (unsigned i = 0; i < t->part_count; i++) {
		const struct part *p = &t->parts[i];

		if (p->format != DRIVER_RAW || strcmp(p->path, p->disk->images[0].path) != 0)
			continue;
		if (io_lock_lower(locked[i]->layers[0].file, e))
			return -1;
		t->held[i] = STEAL(locked[i]);
	}
	return 0;
}

void take_let_go(struct take *t)
{
	for (unsigned i = 0; t->held && i < t->part_count; i++)
		chain_close(t->held[i]);
	free(STEAL(t->held));
}

/* order: journal, save, locks, the memory's second name, snapshots, locks released (of raw disks that are extracted next: for writing
 * only), start. */
int take_cold(struct take *t, struct error *e)
{
	AUTO_FREE struct chain **locked = mem_calloc(t->part_count, sizeof *locked, "disks", e);
	bool active = vm_active(t->vm);

	if (!locked)
		return -1;
	t->extract_stopped = t->opts->extract_stopped;
	int failed = (active && (tell_what_waits(t, e) || save(t, e))) || snapshot_disks(t, locked, e) ||
		     (t->extract_stopped && hold_raw(t, locked, e));

	for (unsigned i = 0; i < t->part_count; i++)
		chain_close(locked[i]);
	if (failed || t->extract_stopped)
		return failed ? -1 : 0;
	return take_cold_start(t, e);
}

/* order: journal, save, the memory's second name, start without letting it go on, overlays, resume. What the disks held when it was
 * saved is below the overlays then. The pause stands in the journal before the save: taken back, the guest is started first and resumed then. */
int take_cold_overlay(struct take *t, struct error *e)
{
	struct vm *vm = t->vm;

	if ((t->domain.state == DRIVER_RUNNING && trace_put(vm, &(struct trace){.kind = TRACE_PAUSED}, NULL, e)) ||
		save(t, e) || take_memory_saved(t, e))
		return -1;
	vm_step(vm, "start", NULL);
	if (vm->driver->ops->start(vm->driver, t->domain.uuid, true, e) || take_put_overlays(t, e))
		return -1;
	vm_step(vm, "snapshot", NULL);
	if (take_make_overlays(t, e) || trace_undo_kind(vm, TRACE_PAUSED, e))
		return -1;
	return take_cold_start(t, e);
}

/* A guest that was saved does not know for how long. It is not worth a failure. */
void take_set_clock(const struct take *t)
{
	struct vm *vm = t->vm;
	struct error e;

	if (t->domain.state == DRIVER_RUNNING && t->domain.agent &&
		vm->driver->ops->set_time(vm->driver, t->domain.uuid, &e))
		vm_note(vm, "the guest's clock could not be set: %s", e.msg);
}

int take_cold_start(struct take *t, struct error *e)
{
	struct vm *vm = t->vm;

	if (trace_undo_kind(vm, TRACE_SAVED, e) || trace_undo_kind(vm, TRACE_FROZEN, e) ||
		trace_undo_kind(vm, TRACE_DEVICE, e))
		return -1;
	take_pause_ends(t);
	take_set_clock(t);
	return 0;
}
