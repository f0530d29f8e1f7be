/* SPDX-License-Identifier: Apache-2.0
 *
 * What the catalog tells, compared with what the disks hold: others may have deleted snapshots, made some, or put other files in
 * place. Only the same number, time and name in the same file is the same snapshot.
 */
#include "snapshot/memory.h"

#include <stdarg.h>

struct holder { /* a disk that can hold snapshots */
	const struct driver_disk *disk;
	struct chain *chain;
};
struct compare {
	struct vm *vm;
	struct vm_catalog *c;
	struct holder *holders;
	unsigned holder_count, listed; /* points that are the catalog's; unlisted ones are behind them */
};

static int open_holders(struct compare *x, struct error *e)
{
	const struct driver_domain *d = &x->vm->domain;

	x->holders = mem_calloc(d->disk_count + 1, sizeof *x->holders, "disks", e);
	if (!x->holders)
		return -1;
	for (unsigned i = 0; i < d->disk_count; i++) {
		struct holder *h = &x->holders[x->holder_count];

		if (!disk_can_hold(&d->disks[i]))
			continue;
		if (disk_look(d->disks[i].images[0].path, DRIVER_QCOW2, &h->chain, e))
			return err_prefix(e, "disk %s", d->disks[i].target);
		h->disk = &d->disks[i];
		x->holder_count++;
	}
	return 0;
}

static void close_holders(struct compare *x)
{
	for (unsigned i = 0; i < x->holder_count; i++)
		chain_close(x->holders[i].chain);
	free(x->holders);
}

/* ---- one point ---- */

/* `state`, if it is worse than what is known; why, behind what was said before. */
PRINTF_LIKE(4, 5)
static int tell(struct vm_point *p, enum vm_point_state state, struct error *e, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	char *why = p->why ? mem_printf(e, "%s; %s", p->why, text) : mem_strdup(text, e);

	if (!why)
		return -1;
	free(p->why);
	p->why = why;
	if (p->state != VM_POINT_FOREIGN)
		p->state = state;
	return 0;
}

static bool is_it(const struct qcow2_snapshot *s, const char *name, const struct vm_point_disk *d)
{
	return strcmp(s->name, name) == 0 && strcmp(s->id, d->id) == 0 && s->entry.date_sec == d->date_sec &&
	       s->entry.date_nsec == d->date_nsec;
}

/* 1: the disk has it; 0: it is told why not. */
static int look_in(struct vm_point *p, const struct vm_point_disk *d, const struct holder *h, struct error *e)
{
	const struct qcow2 *q = h->chain->layers[0].q;
	bool other = false;

	if (!disk_same_file(h->disk->images[0].path, d->path))
		return tell(p, VM_POINT_FOREIGN, e, "disk %s is %s now, not %s", d->target, h->disk->images[0].path,
			d->path);
	for (uint32_t i = 0; q && i < q->snapshot_count; i++) {
		if (is_it(&q->snapshots[i], p->name, d))
			return 1;
		other = other || strcmp(q->snapshots[i].name, p->name) == 0;
	}
	if (other)
		return tell(p, VM_POINT_FOREIGN, e, "disk %s has another snapshot of that name", d->target);
	return tell(p, VM_POINT_PARTLY, e, "disk %s has lost it", d->target);
}

static int look_at(const struct compare *x, struct vm_point *p, const struct vm_point_disk *d, struct error *e)
{
	const struct driver_disk *now = vm_disk(x->vm, d->target);

	for (unsigned i = 0; i < x->holder_count; i++)
		if (strcmp(x->holders[i].disk->target, d->target) == 0)
			return look_in(p, d, &x->holders[i], e);
	if (!now)
		return tell(p, VM_POINT_PARTLY, e, "the domain has no disk %s any more", d->target);
	enum vm_obstacle why = vm_disk_obstacle(now);

	return tell(p, VM_POINT_FOREIGN, e, "disk %s is %s now", d->target,
		why == VM_TAKEN ? "no qcow2 image" : vm_obstacle_text(why));
}

static int compare_point(const struct compare *x, struct vm_point *p, struct error *e)
{
	unsigned there = 0;

	p->state = VM_POINT_WHOLE;
	for (unsigned i = 0; i < p->disk_count; i++) {
		int rc = look_at(x, p, &p->disks[i], e);

		if (rc < 0)
			return -1;
		there += rc > 0;
	}
	if (!there && p->state == VM_POINT_PARTLY)
		p->state = VM_POINT_MISSING;
	p->disks_whole = p->state == VM_POINT_WHOLE;
	return p->disks_whole ? memory_compare(p, &p->why, e) : 0;
}

/* ---- what is not listed ---- */

static struct vm_point *unlisted(const struct compare *x, const struct qcow2_snapshot *s, struct error *e)
{
	struct vm_point p = {.created = s->entry.date_sec, .state = VM_POINT_UNLISTED};

	for (unsigned i = x->listed; i < x->c->count; i++)
		if (strcmp(x->c->points[i].name, s->name) == 0)
			return &x->c->points[i];
	p.name = mem_strdup(s->name, e);
	if (p.name)
		p.why = mem_strdup("it was not taken by qsnap, or the catalog is younger", e);
	if (p.why && !catalog_add(x->c, &p, e))
		return &x->c->points[x->c->count - 1];
	point_free(&p);
	return NULL;
}

static int add_disk(struct vm_point *p, const struct holder *h, const struct qcow2_snapshot *s, struct error *e)
{
	struct vm_point_disk *more = realloc(p->disks, (p->disk_count + 1) * sizeof *more);

	if (!more)
		return err_set(e, ERR_NO_MEMORY, "no memory for a list of disks");
	p->disks = more;
	more += p->disk_count++;
	*more = (struct vm_point_disk){
		.size = s->disk_size, .date_sec = s->entry.date_sec, .date_nsec = s->entry.date_nsec};
	more->target = mem_strdup(h->disk->target, e);
	more->path = more->target ? mem_strdup(h->disk->images[0].path, e) : NULL;
	more->id = more->path ? mem_strdup(s->id, e) : NULL;
	return more->id ? 0 : -1;
}

static bool is_listed(const struct compare *x, const char *name)
{
	for (unsigned i = 0; i < x->listed; i++)
		if (strcmp(x->c->points[i].name, name) == 0)
			return true;
	return false;
}

static int add_unlisted(struct compare *x, const struct holder *h, struct error *e)
{
	const struct qcow2 *q = h->chain->layers[0].q;

	for (uint32_t i = 0; q && i < q->snapshot_count; i++) {
		const struct qcow2_snapshot *s = &q->snapshots[i];

		if (is_listed(x, s->name))
			continue;
		struct vm_point *p = unlisted(x, s, e);

		if (!p || add_disk(p, h, s, e))
			return -1;
	}
	return 0;
}

/* ---- all ---- */

static int by_time(const void *a, const void *b)
{
	const struct vm_point *x = a, *y = b;

	return x->created != y->created ? (x->created < y->created ? -1 : 1) : strcmp(x->name, y->name);
}

static int compare(struct compare *x, struct error *e)
{
	if (open_holders(x, e))
		return -1;
	for (unsigned i = 0; i < x->listed; i++)
		if (compare_point(x, &x->c->points[i], e))
			return -1;
	for (unsigned i = 0; i < x->holder_count; i++)
		if (add_unlisted(x, &x->holders[i], e))
			return -1;
	if (x->c->count)
		qsort(x->c->points, x->c->count, sizeof *x->c->points, by_time);
	return 0;
}

int vm_points(struct vm *vm, struct vm_catalog *out, struct error *e)
{
	struct compare x = {.vm = vm, .c = out};

	if (catalog_read(vm, out, e))
		return -1;
	x.listed = out->count;
	int failed = compare(&x, e);

	close_holders(&x);
	if (failed)
		vm_catalog_free(out);
	return failed;
}
