/* SPDX-License-Identifier: Apache-2.0
 *
 * Which disks are part of a snapshot: every writable local one, or those that were asked for. What is left out is said.
 */
#include "snapshot/internal.h"

enum vm_obstacle vm_disk_obstacle(const struct driver_disk *d)
{
	if (d->no_disk || !d->image_count)
		return VM_NO_DISK;
	if (d->readonly)
		return VM_READ_ONLY;
	if (d->shareable)
		return VM_SHAREABLE;
	if (d->transient)
		return VM_TRANSIENT;
	if (d->encrypted)
		return VM_ENCRYPTED;
	if (!d->images[0].path)
		return VM_NOT_LOCAL;
	return d->images[0].format == DRIVER_FORMAT_OTHER ? VM_FORMAT : VM_TAKEN;
}

const char *vm_obstacle_text(enum vm_obstacle o)
{
	static const char *const texts[] = {
		[VM_TAKEN] = "part of snapshots",
		[VM_READ_ONLY] = "read-only",
		[VM_SHAREABLE] = "shared with other machines",
		[VM_TRANSIENT] = "transient: what is written to it is thrown away",
		[VM_NOT_LOCAL] = "not a local file or device",
		[VM_ENCRYPTED] = "encrypted",
		[VM_FORMAT] = "neither qcow2 nor raw",
		[VM_NO_DISK] = "no disk",
	};

	return texts[o];
}

static bool asked_for(const struct vm_take *o, const char *target)
{
	for (unsigned i = 0; i < o->disk_count; i++)
		if (strcmp(o->disks[i], target) == 0)
			return true;
	return !o->disks;
}

static int refuse_unknown(const struct take *t, struct error *e)
{
	for (unsigned i = 0; i < t->opts->disk_count; i++) {
		bool there = false;

		for (unsigned k = 0; k < t->domain.disk_count; k++)
			there = there || strcmp(t->domain.disks[k].target, t->opts->disks[i]) == 0;
		if (!there)
			return err_set(e, ERR_NOT_FOUND, "domain '%s' has no disk %s", t->domain.name,
				t->opts->disks[i]);
	}
	return 0;
}

static int add(struct take *t, const struct driver_disk *d, struct error *e)
{
	struct part *p = &t->parts[t->part_count];

	*p = (struct part){.disk = d,
		.path = mem_strdup(d->images[0].path, e),
		.format = d->images[0].format,
		.below = d->images + 1,
		.below_count = d->image_count - 1,
		.whole_chain = d->whole_chain};
	if (!p->path)
		return -1;
	t->part_count++;
	return 0;
}

int take_scope(struct take *t, struct error *e)
{
	struct vm *vm = t->vm;

	t->parts = mem_calloc(t->domain.disk_count + 1, sizeof *t->parts, "disks", e);
	if (!t->parts || refuse_unknown(t, e))
		return -1;
	for (unsigned i = 0; i < t->domain.disk_count; i++) {
		const struct driver_disk *d = &t->domain.disks[i];
		enum vm_obstacle why = vm_disk_obstacle(d);

		if (!asked_for(t->opts, d->target))
			continue;
		if (why == VM_TAKEN) {
			if (add(t, d, e))
				return -1;
		} else if (t->opts->disks) {
			return err_set(e, ERR_UNSUPPORTED, "disk %s: %s", d->target, vm_obstacle_text(why));
		} else if (why != VM_NO_DISK) {
			vm_note(vm, "disk %s is left out: %s", d->target, vm_obstacle_text(why));
		}
	}
	return t->part_count
		       ? 0
		       : err_set(e, ERR_UNSUPPORTED, "domain '%s' has no disk to take a snapshot of", t->domain.name);
}
