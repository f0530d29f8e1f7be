/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalog after going back: the disks are at another point, and the state before, where it was kept, is a point below the one that it
 * came from.
 *
 * order: the traces; the catalog; then they are dropped in the line of the journal that decides.
 */
#include "snapshot/memory.h"
#include "snapshot/revert.h"

#include <time.h>

static int fill_disks(const struct revert *r, struct vm_point *p, struct error *e)
{
	p->disks = mem_calloc(r->point.disk_count, sizeof *p->disks, "disks", e);
	for (unsigned i = 0; p->disks && i < r->point.disk_count; i++) {
		const struct revert_disk *d = &r->point.disks[i];

		p->disk_count++;
		if (point_know_disk(&p->disks[i], d->target, d->path, r->present, d->present_id, d->present_date, e))
			return -1;
	}
	return p->disks ? 0 : -1;
}

static int fill(const struct revert *r, const struct vm_catalog *c, struct vm_point *p, struct error *e)
{
	p->name = mem_strdup(r->present, e);
	p->xml = p->name ? mem_strdup(r->xml_before, e) : NULL;
	if (!p->xml || (c->current && !(p->parent = mem_strdup(c->current, e))))
		return -1;
	if (r->nvram_before && (!(p->nvram = mem_strdup(r->nvram_before, e)) ||
				       convert_digest(p->nvram, "sha256", NULL, p->nvram_digest, e)))
		return -1;
	return fill_disks(r, p, e);
}

static int add_present(const struct revert *r, struct vm_catalog *c, unsigned *trace, struct error *e)
{
	struct vm_point p = {.created = time(NULL), .mode = VM_COLD, .via = VM_VIA_INTERNAL, .was = r->was};
	const struct trace t = {.kind = TRACE_POINT, .name = r->present, .date = p.created};

	const struct vm_point *lost = vm_catalog_find(c, r->present);

	if (trace_put(r->vm, &t, trace, e) || (lost && memory_put_away(r->vm, lost, e)))
		return -1;
	if (catalog_remove(c, r->present, e) || fill(r, c, &p, e) || catalog_add(c, &p, e)) {
		point_free(&p);
		return -1;
	}
	return 0;
}

static int write_current(const struct vm *vm, struct vm_catalog *c, const char *name, struct error *e)
{
	char *own = name ? mem_strdup(name, e) : NULL;

	if (name && !own)
		return -1;
	free(c->current);
	c->current = own;
	return catalog_write(vm, c, e);
}

int revert_account(const struct revert *r, unsigned traces[2], struct error *e)
{
	struct vm_catalog c;

	traces[0] = traces[1] = 0;
	if (catalog_read(r->vm, &c, e))
		return -1;
	if (!c.count && !r->opts->first) { /* nothing is kept account of */
		vm_catalog_free(&c);
		return 0;
	}
	const struct trace t = {.kind = TRACE_CURRENT, .name = c.current};
	int failed = (r->opts->first && add_present(r, &c, &traces[0], e)) || trace_put(r->vm, &t, &traces[1], e) ||
		     write_current(r->vm, &c, r->point.listed ? r->point.name : NULL, e);

	vm_catalog_free(&c);
	return failed ? -1 : 0;
}

int undo_current(struct vm *vm, const struct trace *t, struct error *e)
{
	struct vm_catalog c;

	if (catalog_clean(vm, e) || catalog_read(vm, &c, e))
		return -1;
	int failed = c.count && write_current(vm, &c, vm_catalog_find(&c, t->name) ? t->name : NULL, e);

	vm_catalog_free(&c);
	return failed ? -1 : 0;
}
