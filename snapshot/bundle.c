/* SPDX-License-Identifier: Apache-2.0
 *
 * A bundle in memory: which point was taken of which, and which has which disks.
 */
#include "snapshot/bundle.h"

#include <ctype.h>

void bundle_free(struct bundle *b)
{
	for (unsigned i = 0; b->points && i < b->catalog.count; i++)
		free(b->points[i].images);
	for (unsigned i = 0; i < b->file_count; i++)
		free(b->files[i].name);
	free(b->points);
	free(b->files);
	free(b->domain);
	free(b->uuid);
	vm_catalog_free(&b->catalog);
	*b = (struct bundle){0};
}

unsigned bundle_point(const struct bundle *b, const char *name)
{
	const struct vm_point *p = vm_catalog_find(&b->catalog, name);

	return p ? (unsigned)(p - b->catalog.points) : BUNDLE_NONE;
}

unsigned bundle_disk(const struct bundle *b, unsigned point, const char *target)
{
	const struct vm_point *p = &b->catalog.points[point];
	const struct vm_point_disk *d = point_find_disk(p, target);

	return d ? (unsigned)(d - p->disks) : BUNDLE_NONE;
}

unsigned bundle_ancestor(const struct bundle *b, unsigned point, const char *target)
{
	do
		point = b->points[point].parent;
	while (point != BUNDLE_NONE && bundle_disk(b, point, target) == BUNDLE_NONE);
	return point;
}

void bundle_link(struct bundle *b)
{
	for (unsigned i = 0; i < b->catalog.count; i++)
		b->points[i].parent = bundle_point(b, b->catalog.points[i].parent);
}

bool bundle_domain_fits(const char *name)
{
	size_t len = strlen(name);

	for (const char *p = name; *p; p++)
		if (iscntrl((unsigned char)*p) || *p == '/')
			return false;
	return len && len <= BUNDLE_MAX_NAME && name[0] != '.';
}

/* Each behind its parent, and before what does not come from it. */
int bundle_order(const struct bundle *b, unsigned **out, struct error *e)
{
	unsigned count = b->catalog.count, waiting = 0, done = 0;
	AUTO_FREE unsigned *stack = mem_calloc(count, sizeof *stack, "snapshots", e);

	*out = stack ? mem_calloc(count, sizeof **out, "snapshots", e) : NULL;
	if (!*out)
		return -1;
	for (unsigned i = count; i-- > 0;)
		if (b->points[i].parent == BUNDLE_NONE)
			stack[waiting++] = i;
	while (waiting) {
		unsigned next = stack[--waiting];

		(*out)[done++] = next;
		for (unsigned i = count; i-- > 0;)
			if (b->points[i].parent == next)
				stack[waiting++] = i;
	}
	return 0;
}
