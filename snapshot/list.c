/* SPDX-License-Identifier: Apache-2.0
 *
 * The snapshots of a domain: what its qcow2 disks hold, by name, and what the hypervisor keeps records of.
 */
#include "snapshot/internal.h"

struct listing {
	struct vm_listed *all;
	unsigned count;
};

void vm_listed_free(struct vm_listed *l, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		for (unsigned k = 0; k < l[i].target_count; k++)
			free(l[i].targets[k]);
		free(l[i].targets);
		free(l[i].name);
	}
	free(l);
}

/* The one with this name, made if there is none. */
static struct vm_listed *named(struct listing *l, const char *name, int64_t created, struct error *e)
{
	for (unsigned i = 0; i < l->count; i++)
		if (strcmp(l->all[i].name, name) == 0)
			return &l->all[i];
	struct vm_listed *more = realloc(l->all, (l->count + 1) * sizeof *more);

	if (!more) {
		err_fill(e, ERR_NO_MEMORY, "no memory for a list of snapshots");
		return NULL;
	}
	l->all = more;
	more[l->count] = (struct vm_listed){.name = mem_strdup(name, e), .created = created};
	return more[l->count].name ? &more[l->count++] : NULL;
}

static int add_target(struct vm_listed *s, const char *target, struct error *e)
{
	char **more = realloc(s->targets, (s->target_count + 1) * sizeof *more);

	if (!more)
		return err_set(e, ERR_NO_MEMORY, "no memory for a list of disks");
	s->targets = more;
	more[s->target_count] = mem_strdup(target, e);
	if (!more[s->target_count])
		return -1;
	s->target_count++;
	return 0;
}

static int list_disk(struct listing *l, const struct driver_disk *d, struct error *e)
{
	AUTO_CHAIN struct chain *c = NULL;

	if (disk_look(d->images[0].path, DRIVER_QCOW2, &c, e))
		return err_prefix(e, "disk %s", d->target);
	const struct qcow2 *q = c->layers[0].q;

	for (uint32_t i = 0; i < q->snapshot_count; i++) {
		struct vm_listed *s = named(l, q->snapshots[i].name, q->snapshots[i].entry.date_sec, e);

		if (!s || add_target(s, d->target, e))
			return -1;
		s->memory = s->memory || q->snapshots[i].entry.vm_state_bytes;
	}
	return 0;
}

static int list_records(const struct vm *vm, struct listing *l, struct error *e)
{
	struct driver_record *records;
	unsigned count;
	int failed = 0;

	if (vm->driver->ops->records(vm->driver, vm->domain.uuid, &records, &count, e))
		return -1;
	for (unsigned i = 0; i < count && !failed; i++) {
		struct vm_listed *s = named(l, records[i].name, records[i].created, e);

		failed = !s;
		if (s) {
			s->recorded = true;
			s->external = records[i].external;
			s->memory = s->memory || records[i].memory;
		}
	}
	driver_records_free(records, count);
	return failed ? -1 : 0;
}

/* Those that were kept with the guest's memory. A catalog that cannot be read is for others to tell. */
static void list_memory(const struct vm *vm, struct listing *l)
{
	struct vm_catalog c;
	struct error e;

	if (catalog_read(vm, &c, &e))
		return;
	for (unsigned i = 0; i < l->count; i++) {
		const struct vm_point *p = vm_catalog_find(&c, l->all[i].name);

		l->all[i].memory = l->all[i].memory || (p && p->memory);
	}
	vm_catalog_free(&c);
}

bool disk_can_hold(const struct driver_disk *d)
{
	return vm_disk_obstacle(d) == VM_TAKEN && d->images[0].format == DRIVER_QCOW2;
}

static int by_time(const void *a, const void *b)
{
	const struct vm_listed *x = a, *y = b;

	return x->created != y->created ? (x->created < y->created ? -1 : 1) : strcmp(x->name, y->name);
}

int vm_list(struct vm *vm, struct vm_listed **out, unsigned *count, struct error *e)
{
	struct listing l = {0};
	unsigned holders = 0;
	int failed = 0;

	for (unsigned i = 0; i < vm->domain.disk_count && !failed; i++) {
		if (!disk_can_hold(&vm->domain.disks[i]))
			continue;
		holders++;
		failed = list_disk(&l, &vm->domain.disks[i], e);
	}
	if (failed || list_records(vm, &l, e)) {
		vm_listed_free(l.all, l.count);
		return -1;
	}
	list_memory(vm, &l);
	for (unsigned i = 0; i < l.count; i++)
		l.all[i].whole = l.all[i].target_count == holders && holders;
	if (l.count)
		qsort(l.all, l.count, sizeof *l.all, by_time);
	*out = l.all;
	*count = l.count;
	return 0;
}
