/* SPDX-License-Identifier: Apache-2.0
 *
 * Instant: the hypervisor freezes the state of all disks in one step while the guest runs. Internal: QEMU makes an internal
 * snapshot in each, which is read beside the guest. Overlay: each disk gets a new top, and what is below is read.
 */
#include "snapshot/memory.h"

static int instant(struct take *t, int (*deed)(struct take *t, struct error *e), struct error *e)
{
	struct error thaw;

	if (t->opts->memory)
		return take_with_memory(t, deed, e);
	if (take_freeze(t, e) || take_deadline(t, e))
		return -1;
	vm_step(t->vm, "snapshot", NULL);
	take_pause_begins(t);
	int failed = deed(t, e);

	failed |= trace_undo_kind(t->vm, TRACE_FROZEN, failed ? &thaw : e);
	take_pause_ends(t);
	return failed ? -1 : 0;
}

/* ---- internal ---- */

static int internal_deed(struct take *t, struct error *e)
{
	AUTO_FREE const char **targets = mem_calloc(t->part_count, sizeof *targets, "targets", e);

	if (!targets)
		return -1;
	for (unsigned i = 0; i < t->part_count; i++)
		targets[i] = t->parts[i].disk->target;
	return t->vm->driver->ops->internal_create(t->vm->driver, t->domain.uuid, targets, t->part_count, t->out->name,
		e);
}

/* All of them or none are there, and one of that name is somebody else's. */
static int forget_internal(struct take *t, struct error *e)
{
	AUTO_FREE unsigned *ids = mem_calloc(t->part_count, sizeof *ids, "traces", e);

	for (unsigned i = 0; ids && i < t->part_count; i++)
		ids[i] = t->parts[i].trace;
	return ids ? journal_drop_all(t->vm->journal, ids, t->part_count, e) : -1;
}

/* Which one it is, so that another one of that name is not taken for it later. */
int take_know_internal(struct take *t, const struct part *p, const char *path, struct error *e)
{
	AUTO_FREE char *id = NULL;
	struct trace known = {0};
	int there = disk_snapshot_find(path, t->out->name, &id, &known.date, e);

	if (there <= 0)
		return there < 0 ? -1
				 : err_set(e, ERR_CHANGED, "disk %s: the snapshot is not there any more",
					   p->disk->target);
	known.snapshot = id;
	if (disk_identity(path, &known.dev, &known.ino, e))
		return -1;
	return journal_know(t->vm->journal, p->trace, &known, e);
}

int take_internal(struct take *t, struct error *e)
{
	struct error later;

	if (take_memory_part(t, e))
		return -1;
	for (unsigned i = 0; i < t->part_count; i++) {
		struct part *p = &t->parts[i];
		struct trace trace = {
			.kind = TRACE_INTERNAL, .target = p->disk->target, .path = p->path, .name = t->out->name};

		if (disk_identity(p->path, &trace.dev, &trace.ino, e) || trace_put(t->vm, &trace, &p->trace, e))
			return -1;
	}
	if (instant(t, internal_deed, e)) {
		if (e->code == ERR_USAGE && forget_internal(t, &later))
			vm_note(t->vm, "%s", later.msg);
		return -1;
	}
	for (unsigned i = 0; i < t->part_count; i++) {
		t->parts[i].snapshot = t->out->name;
		if (take_know_internal(t, &t->parts[i], t->parts[i].path, e))
			return -1;
	}
	return 0;
}

/* ---- overlay ---- */

int take_make_overlays(struct take *t, struct error *e)
{
	AUTO_FREE struct driver_new_file *files = mem_calloc(t->part_count, sizeof *files, "overlays", e);
	int failed = !files;

	for (unsigned i = 0; i < t->part_count && !failed; i++) {
		files[i] = (struct driver_new_file){.target = t->parts[i].disk->target, .format = DRIVER_QCOW2};
		files[i].path = take_beside(t, &t->parts[i], e);
		failed = !files[i].path;
	}
	if (!failed)
		failed = t->vm->driver->ops->overlay(t->vm->driver, t->domain.uuid, files, t->part_count, e);
	for (unsigned i = 0; files && i < t->part_count; i++)
		free((char *)files[i].path);
	return failed ? -1 : 0;
}

static int put_overlay(struct take *t, struct part *p, struct error *e)
{
	AUTO_FREE char *path = take_beside(t, p, e);
	struct trace trace = {.kind = TRACE_OVERLAY,
		.target = p->disk->target,
		.path = path,
		.name = p->path,
		.images = p->disk->images,
		.image_count = p->disk->image_count};

	if (!path)
		return -1;
	return disk_identity(p->path, &trace.dev, &trace.ino, e) || trace_put(t->vm, &trace, NULL, e) ? -1 : 0;
}

int take_put_overlays(struct take *t, struct error *e)
{
	for (unsigned i = 0; i < t->part_count; i++)
		if (put_overlay(t, &t->parts[i], e))
			return -1;
	return 0;
}

int take_overlay(struct take *t, struct error *e)
{
	return take_memory_part(t, e) || take_put_overlays(t, e) || instant(t, take_make_overlays, e) ? -1 : 0;
}
