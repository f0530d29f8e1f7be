/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalog after a bundle was made: each point that went into it tells where that is. The bundle is whole and the user's by then, so
 * what goes wrong here is told, and no more.
 *
 * order: the trace, which has a half written catalog taken away; the catalog; the trace dropped.
 */
#include "snapshot/export.h"

#include <time.h>

/* One that was at the same place is gone, since a bundle takes no other's place. */
static struct vm_point_export *entry(struct vm_point *p, const char *to, struct error *e)
{
	for (unsigned i = 0; i < p->export_count; i++)
		if (!p->exports[i].target && strcmp(p->exports[i].to, to) == 0)
			return &p->exports[i];
	if (p->export_count >= CATALOG_MAX_EXPORTS) {
		err_fill(e, ERR_LIMIT, "snapshot '%s' was exported %u times", p->name, p->export_count);
		return NULL;
	}
	struct vm_point_export *more = realloc(p->exports, (p->export_count + 1) * sizeof *more);

	if (!more) {
		err_fill(e, ERR_NO_MEMORY, "no memory for a list of bundles");
		return NULL;
	}
	p->exports = more;
	more += p->export_count;
	*more = (struct vm_point_export){.to = mem_strdup(to, e)};
	if (!more->to)
		return NULL;
	p->export_count++;
	return more;
}

static int add(struct vm_catalog *c, const struct export *x, const char *to, struct error *e)
{
	for (unsigned i = 0; i < x->b.catalog.count; i++) {
		const struct vm_point *of = &x->b.catalog.points[i];
		struct vm_point *p = vm_catalog_find(c, of->name);
		struct vm_point_export *bundle;

		if (!p || p->created != of->created)
			return err_set(e, ERR_CHANGED, "it has no snapshot '%s' of that time", of->name);
		bundle = entry(p, to, e);
		if (!bundle)
			return -1;
		bundle->when = time(NULL);
		bundle->bytes = x->out->bytes;
	}
	return 0;
}

static int account(struct export *x, const char *to, struct error *e)
{
	AUTO_FREE char *path = vm_absolute(to, e);
	struct vm_catalog c;
	unsigned trace;

	if (!path || catalog_read(x->vm, &c, e))
		return -1;
	const struct trace t = {.kind = TRACE_CURRENT, .name = c.current};
	int failed = add(&c, x, path, e) || trace_put(x->vm, &t, &trace, e) || catalog_write(x->vm, &c, e) ||
		     journal_drop(x->vm->journal, trace, e);

	vm_catalog_free(&c);
	return failed ? -1 : 0;
}

void export_account(struct export *x, const char *to)
{
	struct error e;

	if (account(x, to, &e))
		vm_note(x->vm, "the bundle is there, but the catalog does not tell of it: %s", e.msg);
}
