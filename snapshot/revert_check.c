/* SPDX-License-Identifier: Apache-2.0
 *
 * Going back to a snapshot: whether it can be, asked before a guest is ended for it.
 */
#include "snapshot/revert.h"

#include <time.h>

/* A guest that is started again has the files that its definition names. */
static int refuse_disk(const struct vm *vm, const struct driver_disk *d, struct error *e)
{
	if (d->busy)
		return err_set(e, ERR_BUSY, "disk %s: a block job runs on it", d->target);
	if (!vm_active(vm))
		return 0;
	if (!d->defined)
		return err_set(e, ERR_UNSUPPORTED, "disk %s is not in the definition of domain '%s'", d->target,
			vm->domain.name);
	return disk_same_file(d->defined, d->images[0].path)
		       ? 0
		       : err_set(e, ERR_UNSUPPORTED, "disk %s is on %s, and defined to be on %s", d->target,
				 d->images[0].path, d->defined);
}

static int refuse_domain(const struct vm *vm, struct error *e)
{
	const struct driver_domain *d = &vm->domain;

	if (d->state == DRIVER_BETWEEN)
		return err_set(e, ERR_UNSUPPORTED, "domain '%s' is neither running, paused nor shut off", d->name);
	if (d->job)
		return err_set(e, ERR_BUSY, "domain '%s': a job runs on it (%s)", d->name, d->job);
	if (vm_active(vm) && !d->persistent)
		return err_set(e, ERR_UNSUPPORTED, "domain '%s' is transient: it would be gone when it is ended",
			d->name);
	if (d->snapshots)
		return err_set(e, ERR_UNSUPPORTED,
			"domain '%s' has external snapshots of libvirt's own, whose records would be wrong then",
			d->name);
	for (unsigned i = 0; i < d->disk_count; i++) {
		enum vm_obstacle why = vm_disk_obstacle(&d->disks[i]);

		if (why != VM_TAKEN && why != VM_NO_DISK)
			vm_note(vm, "disk %s is left as it is: %s", d->disks[i].target, vm_obstacle_text(why));
		if (why == VM_TAKEN && refuse_disk(vm, &d->disks[i], e))
			return -1;
	}
	return 0;
}

static int name_present(struct revert *r, struct error *e)
{
	AUTO_FREE char *given = r->opts->first ? take_name(r->opts->present, e) : NULL;

	if (r->opts->first && !given)
		return -1;
	r->present = given ? STEAL(given) : mem_printf(e, "qsnap-before-%s-%lld", r->opts->name, (long long)time(NULL));
	return r->present ? 0 : -1;
}

static int try_disks(struct revert *r, struct error *e)
{
	for (unsigned i = 0; i < r->point.disk_count; i++) {
		const struct revert_disk *d = &r->point.disks[i];
		AUTO_FREE char *id = NULL;
		int64_t date;
		int there = disk_snapshot_find(d->path, r->present, &id, &date, e);

		if (there > 0)
			err_fill(e, ERR_USAGE, "it has a snapshot '%s' already", r->present);
		if (there || disk_snapshot_try(d->path, r->point.name, e))
			return err_prefix(e, "disk %s", d->target);
	}
	return 0;
}

int revert_check(struct revert *r, struct error *e)
{
	struct vm *vm = r->vm;

	if (vm_look(vm, e) || refuse_domain(vm, e) || revert_find(vm, r->opts, &r->point, e) || name_present(r, e) ||
		try_disks(r, e) || revert_check_memory(r, e))
		return -1;
	r->xml_before = mem_strdup(vm->domain.xml, e);
	if (!r->xml_before)
		return -1;
	r->was = vm->domain.state;
	r->out->created = r->point.created;
	r->out->disk_count = r->point.disk_count;
	r->out->ended = vm_active(vm);
	return 0;
}
