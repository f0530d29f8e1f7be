/* SPDX-License-Identifier: Apache-2.0
 *
 * Deleting a snapshot that was kept: from every disk that has it, beside a running guest by QEMU, else by our own engine.
 *
 * order: all its traces in one line of the journal; then disks, memory, catalog, record. Before that line it is whole, and from there on
 * it goes, by recovery if a crash leaves it in some disks.
 */
#include "snapshot/memory.h"

static const struct vm_listed *find(const struct vm_listed *all, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(all[i].name, name) == 0)
			return &all[i];
	return NULL;
}

/* Of two with one name in one disk nobody could say which is meant. */
static int refuse_twins(const struct vm_listed *s, struct error *e)
{
	for (unsigned i = 1; i < s->target_count; i++)
		if (strcmp(s->targets[i], s->targets[i - 1]) == 0)
			return err_set(e, ERR_UNSUPPORTED, "disk %s has more than one snapshot '%s'", s->targets[i],
				s->name);
	return 0;
}

/* Beside a running guest QEMU does it, disk by disk. */
static int refuse_long_stall(const struct vm *vm, const struct vm_listed *s, struct error *e)
{
	for (unsigned i = 0; i < s->target_count && vm_active(vm); i++)
		if (stall_of_deletion(vm, s->targets[i], vm_disk(vm, s->targets[i])->images[0].path, e))
			return -1;
	return 0;
}

/* The catalog's point goes last, after its memory: until then it can be seen that it is there in part. */
static int put_point(struct vm *vm, const char *name, struct error *e)
{
	struct vm_catalog c;

	if (catalog_read(vm, &c, e))
		return -1;
	const struct vm_point *p = vm_catalog_find(&c, name);
	int failed = p && (trace_put(vm, &(struct trace){.kind = TRACE_POINT, .name = p->name, .date = p->created},
				   NULL, e) ||
				  memory_put_away(vm, p, e));

	vm_catalog_free(&c);
	return failed ? -1 : 0;
}

static int put_all(struct vm *vm, const struct vm_listed *s, struct error *e)
{
	AUTO_FREE char *id = NULL;

	if (s->recorded && trace_put(vm, &(struct trace){.kind = TRACE_RECORD, .name = s->name}, NULL, e))
		return -1;
	if (put_point(vm, s->name, e))
		return -1;
	for (unsigned i = 0; i < s->target_count; i++) {
		const struct driver_disk *d = vm_disk(vm, s->targets[i]);
		struct trace t = {
			.kind = TRACE_INTERNAL, .target = d->target, .path = d->images[0].path, .name = s->name};

		free(STEAL(id));
		int there = disk_snapshot_find(t.path, s->name, &id, &t.date, e);

		if (there <= 0)
			return there < 0 ? -1 : err_set(e, ERR_CHANGED, "disk %s has lost it meanwhile", t.target);
		t.snapshot = id;
		if (disk_identity(t.path, &t.dev, &t.ino, e) || trace_put(vm, &t, NULL, e))
			return -1;
	}
	return 0;
}

/* What is to go becomes a trace: from here on it is taken back, whatever happens. */
static int put(struct vm *vm, const struct vm_listed *s, struct error *e)
{
	struct error later;

	if (journal_together(vm->journal, e))
		return -1;
	int failed = put_all(vm, s, e);

	return journal_together_end(vm->journal, failed, failed ? &later : e) || failed ? -1 : 0;
}

/* No disk has it, but perhaps the catalog and the hypervisor's list. */
static int delete_lost(struct vm *vm, const struct vm_listed *s, const char *name, struct error *e)
{
	struct vm_catalog c;

	if (catalog_read(vm, &c, e))
		return -1;
	bool there = vm_catalog_find(&c, name) != NULL;

	vm_catalog_free(&c);
	if (!there && !s)
		return err_set(e, ERR_NOT_FOUND, "domain '%s' has no snapshot '%s'", vm->domain.name, name);
	if (!there || (s && s->external))
		return err_set(e, ERR_UNSUPPORTED,
			"snapshot '%s' is one of the hypervisor's own outside the disks; it is for its own tools to "
			"delete",
			name);
	vm_note(vm, "no disk has the snapshot '%s' any more; it goes from the catalog", name);
	return put(vm, s ? s : &(struct vm_listed){.name = (char *)name}, e) || trace_take_back(vm, e) ? -1 : 0;
}

int vm_delete(struct vm *vm, const char *name, struct error *e)
{
	struct vm_listed *all;
	unsigned count;
	int failed;

	if (vm_list(vm, &all, &count, e))
		return -1;
	const struct vm_listed *s = find(all, count, name);

	if (!s || s->external || !s->target_count)
		failed = delete_lost(vm, s, name, e);
	else
		failed = refuse_twins(s, e) || refuse_long_stall(vm, s, e) || put(vm, s, e) || trace_take_back(vm, e);
	vm_listed_free(all, count);
	return failed ? -1 : 0;
}
