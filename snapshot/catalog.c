/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalog of a domain's points, in memory: which was taken of which. A point's parent is the one that the disks were at; when a
 * point goes, its children are its parent's.
 */
#include "snapshot/internal.h"

const char *vm_mode_name(enum vm_mode m)
{
	static const char *const names[] = {
		[VM_AUTO] = "auto", [VM_COLD] = "cold", [VM_LIVE] = "live", [VM_INSTANT] = "instant"};

	return names[m];
}

const char *vm_via_name(enum vm_via v)
{
	static const char *const names[] = {
		[VM_VIA_ANY] = "any", [VM_VIA_INTERNAL] = "internal", [VM_VIA_OVERLAY] = "overlay"};

	return names[v];
}

const char *vm_point_state_name(enum vm_point_state s)
{
	static const char *const names[] = {[VM_POINT_WHOLE] = "whole",
		[VM_POINT_PARTLY] = "partly",
		[VM_POINT_MISSING] = "missing",
		[VM_POINT_FOREIGN] = "foreign",
		[VM_POINT_UNLISTED] = "unlisted"};

	return names[s];
}

void point_free(struct vm_point *p)
{
	for (unsigned i = 0; i < p->disk_count; i++) {
		free(p->disks[i].target);
		free(p->disks[i].path);
		free(p->disks[i].id);
	}
	for (unsigned i = 0; i < p->export_count; i++) {
		free(p->exports[i].target);
		free(p->exports[i].to);
		free(p->exports[i].since);
	}
	free(p->disks);
	free(p->exports);
	free(p->name);
	free(p->parent);
	free(p->xml);
	free(p->memory);
	free(p->nvram);
	free(p->why);
	*p = (struct vm_point){0};
}

const struct vm_point_disk *point_find_disk(const struct vm_point *p, const char *target)
{
	for (unsigned i = 0; i < p->disk_count; i++)
		if (strcmp(p->disks[i].target, target) == 0)
			return &p->disks[i];
	return NULL;
}

int point_refuse(const struct vm_point *p, const char *more, struct error *e)
{
	return err_set(e, ERR_CHANGED, "snapshot '%s' is not the one that was taken (%s: %s)%s", p->name,
		vm_point_state_name(p->state), p->why ? p->why : "", more);
}

void vm_catalog_free(struct vm_catalog *c)
{
	for (unsigned i = 0; i < c->count; i++)
		point_free(&c->points[i]);
	free(c->points);
	free(c->current);
	*c = (struct vm_catalog){0};
}

struct vm_point *vm_catalog_find(const struct vm_catalog *c, const char *name)
{
	for (unsigned i = 0; name && i < c->count; i++)
		if (strcmp(c->points[i].name, name) == 0)
			return &c->points[i];
	return NULL;
}

int catalog_add(struct vm_catalog *c, struct vm_point *p, struct error *e)
{
	struct vm_point *more = realloc(c->points, (c->count + 1) * sizeof *more);

	if (!more)
		return err_set(e, ERR_NO_MEMORY, "no memory for %u snapshots", c->count + 1);
	c->points = more;
	more[c->count++] = *p;
	*p = (struct vm_point){0};
	return 0;
}

/* *name, which is that of the point that goes, becomes its parent's. */
static int pass_on(char **name, const struct vm_point *p, struct error *e)
{
	if (!*name || strcmp(*name, p->name) != 0)
		return 0;
	char *parent = p->parent ? mem_strdup(p->parent, e) : NULL;

	if (p->parent && !parent)
		return -1;
	free(*name);
	*name = parent;
	return 0;
}

int catalog_remove(struct vm_catalog *c, const char *name, struct error *e)
{
	struct vm_point *p = vm_catalog_find(c, name);

	if (!p)
		return 0;
	for (unsigned i = 0; i < c->count; i++)
		if (pass_on(&c->points[i].parent, p, e))
			return -1;
	if (pass_on(&c->current, p, e))
		return -1;
	point_free(p);
	c->count--;
	memmove(p, p + 1, (size_t)(&c->points[c->count] - p) * sizeof *p);
	return 0;
}

/* From the top on; what is found last stands first in the answer, so each is behind those below it. */
int vm_catalog_below(const struct vm_catalog *c, const char *name, unsigned **order, unsigned *count, struct error *e)
{
	const struct vm_point *top = vm_catalog_find(c, name);

	if (!top)
		return err_set(e, ERR_NOT_FOUND, "there is no snapshot '%s'", name);
	unsigned *all = mem_calloc(c->count, sizeof *all, "snapshots", e), n = 1;

	if (!all)
		return -1;
	all[0] = (unsigned)(top - c->points);
	for (unsigned k = 0; k < n; k++)
		for (unsigned i = 0; i < c->count && n < c->count; i++)
			if (c->points[i].parent && !strcmp(c->points[i].parent, c->points[all[k]].name))
				all[n++] = i;
	for (unsigned i = 0; i < n / 2; i++) {
		unsigned other = all[i];

		all[i] = all[n - 1 - i];
		all[n - 1 - i] = other;
	}
	*order = all;
	*count = n;
	return 0;
}
