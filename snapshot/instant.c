/* SPDX-License-Identifier: Apache-2.0
 *
 * Instant: the hypervisor freezes the state of all disks in one step while the guest runs. Internal: QEMU makes an internal
 * snapshot in each, which is read beside the guest. Overlay: each disk gets a new top, and what is below is read.
 */
#include "snapshot/internal.h"

static int instant(struct take *t, int (*deed)(struct take *t, struct error *e), struct error *e)
{
	struct error thaw;

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

int take_internal(struct take *t, struct error *e)
{
	for (unsigned i = 0; i < t->part_count; i++) {
		struct part *p = &t->parts[i];
		struct trace trace = {
			.kind = TRACE_INTERNAL, .target = p->disk->target, .path = p->path, .name = t->out->name};

		if (disk_identity(p->path, &trace.dev, &trace.ino, e) || trace_put(t->vm, &trace, &p->trace, e))
			return -1;
	}
	if (instant(t, internal_deed, e))
		return -1;
	for (unsigned i = 0; i < t->part_count; i++)
		t->parts[i].snapshot = t->out->name;
	return 0;
}

/* ---- overlay ---- */

static int overlay_deed(struct take *t, struct error *e)
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
	struct trace trace = {.kind = TRACE_OVERLAY, .target = p->disk->target, .path = path, .name = p->path};

	if (!path)
		return -1;
	return disk_identity(p->path, &trace.dev, &trace.ino, e) || trace_put(t->vm, &trace, NULL, e) ? -1 : 0;
}

int take_overlay(struct take *t, struct error *e)
{
	for (unsigned i = 0; i < t->part_count; i++)
		if (put_overlay(t, &t->parts[i], e))
			return -1;
	return instant(t, overlay_deed, e);
}
