/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the parts of an imported domain are to be, whether there is space, and its definitions, which say where they are.
 */
#include "snapshot/import.h"

#include <errno.h>
#include <sys/stat.h>

static int refuse_taken(const char *path, struct error *e)
{
	struct stat st;

	if (!lstat(path, &st))
		return err_set(e, ERR_USAGE, "%s exists already", path);
	return errno == ENOENT ? 0 : err_sys(e, errno, "%s", path);
}

static int add_disk(struct import *x, const char *target, struct error *e)
{
	struct vm_imported *out = x->out;
	struct driver_new_file *more;

	for (unsigned i = 0; i < out->disk_count; i++)
		if (strcmp(out->disks[i].target, target) == 0)
			return 0;
	more = realloc(out->disks, (out->disk_count + 1) * sizeof *more);
	if (!more)
		return err_set(e, ERR_NO_MEMORY, "no memory for a list of disks");
	out->disks = more;
	more += out->disk_count++;
	*more = (struct driver_new_file){.format = DRIVER_QCOW2};
	more->target = mem_strdup(target, e);
	more->path = more->target ? mem_printf(e, "%s/%s-%s.qcow2", x->to, out->name, target) : NULL;
	return more->path ? refuse_taken(more->path, e) : -1;
}

/* The disks of all points: one that the domain has not got any more can come back with a point. */
int import_places(struct import *x, struct error *e)
{
	const struct vm_catalog *c = &x->b.catalog;
	const unsigned current = bundle_point(&x->b, c->current);

	for (unsigned i = 0; i < c->count; i++)
		for (unsigned k = 0; k < c->points[i].disk_count; k++)
			if (add_disk(x, c->points[i].disks[k].target, e))
				return -1;
	if (x->b.points[current].nvram == BUNDLE_NONE)
		return 0;
	x->nvram = mem_printf(e, "%s/%s_VARS.fd", x->to, x->out->name);
	return x->nvram ? refuse_taken(x->nvram, e) : -1;
}

/* ---- whether there is space ---- */

static void add(const struct bundle *b, unsigned file, uint64_t *sum)
{
	if (file != BUNDLE_NONE && add_overflows(*sum, b->files[file].bytes, sum))
		*sum = UINT64_MAX;
}

/* Where the disks are to be: what is unpacked there, and the disks themselves, unless they may share that, or the bundle's, blocks. */
static uint64_t bytes_at_disks(const struct import *x)
{
	const struct bundle *b = &x->b;
	const bool shares = io_folder_may_clone(x->to) && (x->source.tar || space_is_same(x->source.folder, x->to));
	uint64_t sum = 0;

	for (unsigned i = 0; x->source.tar && i < b->file_count; i++)
		add(b, i, &sum);
	for (unsigned i = 0; !shares && i < b->catalog.count; i++)
		for (unsigned k = 0; k < b->catalog.points[i].disk_count; k++)
			add(b, b->points[i].images[k].file, &sum);
	if (x->nvram)
		add(b, b->points[bundle_point(b, b->catalog.current)].nvram, &sum);
	return sum;
}

static uint64_t bytes_at_state(const struct import *x)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < x->b.catalog.count; i++) {
		add(&x->b, x->b.points[i].nvram, &sum);
		if (x->opts->trust)
			add(&x->b, x->b.points[i].memory, &sum);
	}
	return sum;
}

int import_space(struct import *x, struct error *e)
{
	static const char what[] = "the files of the bundle";
	const char *state = x->vm.opts.state_dir;
	uint64_t disks = bytes_at_disks(x), memory = bytes_at_state(x);

	if (!space_is_same(x->to, state))
		return space_refuse(state, what, memory, e) || space_refuse(x->to, what, disks, e) ? -1 : 0;
	return space_refuse(x->to, what, add_overflows(disks, memory, &disks) ? UINT64_MAX : disks, e);
}

/* ---- definitions ---- */

static void tell(void *ctx, const char *text)
{
	vm_note(ctx, "%s", text);
}

static struct driver_import adaptation(struct import *x)
{
	return (struct driver_import){.name = x->out->name,
		.uuid = x->out->uuid,
		.renamed = x->opts->name,
		.files = x->out->disks,
		.file_count = x->out->disk_count,
		.nvram = x->nvram,
		.trusted = x->opts->trust,
		.note_ctx = &x->vm};
}

/* What is left out is told of the definition that the domain gets. */
int import_definitions(struct import *x, struct error *e)
{
	const struct driver_ops *ops = x->vm.driver->ops;
	struct driver_import how = adaptation(x);

	for (unsigned i = 0; i < x->b.catalog.count; i++) {
		struct vm_point *p = &x->b.catalog.points[i];
		char *xml;

		how.note = strcmp(p->name, x->b.catalog.current) == 0 ? tell : NULL;
		if (ops->adapt(x->vm.driver, p->xml, &how, &xml, e))
			return err_prefix(e, "the definition of snapshot '%s'", p->name);
		free(p->xml);
		p->xml = xml;
	}
	return 0;
}

int import_memory_head(struct import *x, const char *path, struct driver_head *out, struct error *e)
{
	const struct driver_import how = adaptation(x);

	return x->vm.driver->ops->adapt_memory(x->vm.driver, path, &how, out, e);
}
