/* SPDX-License-Identifier: Apache-2.0
 *
 * The snapshot that all disks of a domain have: what each is to go back to, by what the disks themselves say, and the definition of
 * then, as the catalog has it.
 */
#include "snapshot/revert.h"

void revert_point_free(struct revert_point *p)
{
	for (unsigned i = 0; i < p->disk_count; i++) {
		free(p->disks[i].target);
		free(p->disks[i].path);
		free(p->disks[i].id);
		free(p->disks[i].present_id);
	}
	free(p->disks);
	free(p->name);
	free(p->xml);
	free(p->memory);
	free(p->nvram);
	*p = (struct revert_point){0};
}

static int find_in(struct revert_disk *out, const struct driver_disk *d, const char *name, struct error *e)
{
	*out = (struct revert_disk){.target = mem_strdup(d->target, e), .path = vm_absolute(d->images[0].path, e)};
	if (!out->target || !out->path)
		return -1;
	if (d->images[0].format != DRIVER_QCOW2)
		return err_set(e, ERR_UNSUPPORTED, "it is raw, and has no snapshots inside");
	if (disk_identity(out->path, &out->dev, &out->ino, e))
		return -1;
	int there = disk_snapshot_find(out->path, name, &out->id, &out->date, e);

	return there > 0 ? 0 : there < 0 ? -1 : err_set(e, ERR_NOT_FOUND, "it has no snapshot '%s'", name);
}

static int take_over(struct revert_point *out, const struct vm_point *p, struct error *e)
{
	out->created = p->created;
	out->was = p->was;
	memcpy(out->memory_digest, p->memory_digest, sizeof out->memory_digest);
	memcpy(out->nvram_digest, p->nvram_digest, sizeof out->nvram_digest);
	return mem_copy_text(&out->xml, p->xml, e) || mem_copy_text(&out->memory, p->memory, e) ||
			       mem_copy_text(&out->nvram, p->nvram, e)
		       ? -1
		       : 0;
}

/* What the catalog does not list has only its disks. */
static int ask_catalog(struct vm *vm, bool without_memory, struct revert_point *out, struct error *e)
{
	struct vm_catalog c;

	if (vm_points(vm, &c, e))
		return -1;
	const struct vm_point *p = vm_catalog_find(&c, out->name);
	int failed = 0;

	out->listed = p && (p->state == VM_POINT_WHOLE || (without_memory && p->disks_whole));
	if (out->listed)
		failed = take_over(out, p, e);
	else if (p && p->state != VM_POINT_UNLISTED)
		failed = point_refuse(p,
			p->disks_whole ? "; its disks are: without the memory it can be gone back to" : "", e);
	vm_catalog_free(&c);
	return failed ? -1 : 0;
}

int revert_find(struct vm *vm, const struct vm_revert *opts, struct revert_point *out, struct error *e)
{
	*out = (struct revert_point){.name = mem_strdup(opts->name, e),
		.disks = mem_calloc(vm->domain.disk_count + 1, sizeof *out->disks, "disks", e)};
	if (!out->name || !out->disks)
		return -1;
	for (unsigned i = 0; i < vm->domain.disk_count; i++) {
		const struct driver_disk *d = &vm->domain.disks[i];

		if (vm_disk_obstacle(d) == VM_TAKEN && find_in(&out->disks[out->disk_count++], d, opts->name, e))
			return err_prefix(e, "disk %s", d->target);
	}
	if (!out->disk_count)
		return err_set(e, ERR_NOT_FOUND, "domain '%s' has no disk with snapshots", vm->domain.name);
	out->created = out->disks[0].date;
	return ask_catalog(vm, opts->without_memory, out, e);
}
