/* SPDX-License-Identifier: Apache-2.0
 *
 * A snapshot that is kept gets its place in the catalog, below the point that the disks were at; and how that is taken back.
 *
 * order: the trace; the catalog; then the trace is dropped in one line of the journal with those of all that stays. So whoever comes
 * after a crash finds the point and its snapshots, or takes both back.
 */
#include "snapshot/memory.h"

#include <time.h>

/* What the disks have lost and the user wants anew makes room. */
int take_point_look(struct take *t, struct error *e)
{
	struct vm_catalog c;

	if (!t->opts->keep)
		return 0;
	if (vm_points(t->vm, &c, e))
		return -1;
	const struct vm_point *p = vm_catalog_find(&c, t->out->name);
	int failed = 0;

	if (p && p->state == VM_POINT_MISSING)
		vm_note(t->vm, "the disks have lost an earlier snapshot '%s'; this one takes its name", p->name);
	else if (p)
		failed = err_set(e, ERR_USAGE, "domain '%s' has a snapshot '%s' already (%s%s%s)", t->domain.name,
			p->name, vm_point_state_name(p->state), p->why ? ": " : "", p->why ? p->why : "");
	vm_catalog_free(&c);
	return failed;
}

int point_know_disk(struct vm_point_disk *d, const char *target, const char *path, const char *name, const char *id,
	int64_t date, struct error *e)
{
	AUTO_CHAIN struct chain *c = NULL;

	d->target = mem_strdup(target, e);
	d->path = d->target ? vm_absolute(path, e) : NULL;
	if (!d->path || disk_look(path, DRIVER_QCOW2, &c, e))
		return -1;
	const struct qcow2 *q = c->layers[0].q;
	int index = qcow2_snapshot_find(q, &(struct snapshot_query){.name = name, .id = id}, e);

	if (index < 0 || date != q->snapshots[index].entry.date_sec)
		return err_set(e, ERR_CHANGED, "disk %s: the snapshot is not there any more", target);
	d->size = q->snapshots[index].disk_size;
	d->date_sec = q->snapshots[index].entry.date_sec;
	d->date_nsec = q->snapshots[index].entry.date_nsec;
	d->id = mem_strdup(q->snapshots[index].id, e);
	return d->id ? 0 : -1;
}

/* Which one it is was written into the journal when it was made. */
static int fill_disk(const struct take *t, unsigned i, struct vm_point_disk *d, struct error *e)
{
	const struct part *p = &t->parts[i];
	const struct trace *known = trace_find(t->vm, p->trace);

	return known ? point_know_disk(d, p->disk->target, p->path, t->out->name, known->snapshot, known->date, e) : -1;
}

static int fill_disks(const struct take *t, struct vm_point *p, struct error *e)
{
	p->disks = mem_calloc(t->part_count, sizeof *p->disks, "disks", e);
	for (unsigned i = 0; p->disks && i < t->part_count; i++) {
		if (!t->parts[i].trace)
			continue;
		p->disk_count++;
		if (fill_disk(t, i, &p->disks[p->disk_count - 1], e))
			return -1;
	}
	return p->disks ? 0 : -1;
}

/* A stream went where nobody can say. */
static int fill_exports(const struct take *t, struct vm_point *p, struct error *e)
{
	p->exports = mem_calloc(t->part_count, sizeof *p->exports, "images", e);
	for (unsigned i = 0; p->exports && i < t->part_count; i++) {
		const struct vm_taken_disk *d = &t->out->disks[i];
		struct vm_point_export *x = &p->exports[p->export_count];

		if (!d->path)
			continue;
		p->export_count++;
		*x = (struct vm_point_export){.when = time(NULL), .bytes = d->bytes};
		memcpy(x->digest, d->digest, sizeof x->digest);
		x->target = mem_strdup(d->target, e);
		x->to = t->opts->sink ? mem_strdup(d->path, e) : vm_absolute(d->path, e);
		if (!x->target || !x->to || mem_copy_text(&x->since, t->out->since, e))
			return -1;
	}
	return p->exports ? 0 : -1;
}

static int fill_memory(const struct take *t, struct vm_point *p, struct error *e)
{
	const struct vm_taken *out = t->out;

	p->memory_bytes = out->memory_bytes;
	memcpy(p->memory_digest, out->memory_digest, sizeof p->memory_digest);
	memcpy(p->nvram_digest, out->nvram_digest, sizeof p->nvram_digest);
	return mem_copy_text(&p->memory, out->memory, e) || mem_copy_text(&p->nvram, out->nvram, e) ? -1 : 0;
}

static int fill(const struct take *t, const struct vm_catalog *c, struct vm_point *p, struct error *e)
{
	*p = (struct vm_point){.created = t->out->created,
		.mode = t->out->mode,
		.via = t->out->via,
		.quiesced = t->out->quiesced,
		.was = t->domain.state};
	p->name = mem_strdup(t->out->name, e);
	if (!p->name || mem_copy_text(&p->parent, c->current, e) || mem_copy_text(&p->xml, t->domain.xml, e))
		return -1;
	return fill_memory(t, p, e) || fill_disks(t, p, e) || fill_exports(t, p, e) ? -1 : 0;
}

/* The catalog with the point in it, the disks' present state being what came from it. */
static int put(const struct take *t, struct vm_catalog *c, struct error *e)
{
	const struct vm_point *lost = vm_catalog_find(c, t->out->name);
	struct vm_point p = {0};

	if (lost && memory_put_away(t->vm, lost, e))
		return -1;
	if (catalog_remove(c, t->out->name, e) || fill(t, c, &p, e) || catalog_add(c, &p, e)) {
		point_free(&p);
		return -1;
	}
	free(c->current);
	c->current = mem_strdup(t->out->name, e);
	return c->current ? catalog_write(t->vm, c, e) : -1;
}

int take_point(struct take *t, struct error *e)
{
	const struct trace trace = {.kind = TRACE_POINT, .name = t->out->name, .date = t->out->created};
	struct vm_catalog c;

	if (!t->opts->keep)
		return 0;
	if (catalog_read(t->vm, &c, e))
		return -1;
	int failed = trace_put(t->vm, &trace, &t->point, e) || put(t, &c, e);

	vm_catalog_free(&c);
	return failed ? -1 : 0;
}

int undo_point(struct vm *vm, const struct trace *t, struct error *e)
{
	struct vm_catalog c;

	if (catalog_clean(vm, e) || catalog_read(vm, &c, e))
		return -1;
	const struct vm_point *p = vm_catalog_find(&c, t->name);
	int failed = p && p->created == t->date && (catalog_remove(&c, t->name, e) || catalog_write(vm, &c, e));

	vm_catalog_free(&c);
	return failed ? -1 : 0;
}
