/* SPDX-License-Identifier: Apache-2.0
 *
 * A bundle out of a domain's points, beside the guest that runs. Everything is made in a folder of ours beside the place where it
 * goes: the folder then gets its name at once, or becomes a tar stream, whose manifest, which comes first, is known last.
 *
 * order: the folder's trace; its files; its new name, or the whole tar file; the traces of what is the user's dropped in one line; the
 * catalog tells of it; the folder goes.
 */
#include "snapshot/export.h"
#include "snapshot/tar.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

void vm_export_defaults(struct vm_export *x)
{
	*x = (struct vm_export){.stream_fd = -1, .threads = pool_cpu_count()};
	image_create_defaults(&x->create, IMAGE_QCOW2);
}

static bool to_stream(const struct export *x)
{
	return strcmp(x->opts->to, "-") == 0;
}

static bool to_tar(const struct export *x)
{
	size_t len = strlen(x->opts->to);

	return to_stream(x) || (len > 4 && strcmp(x->opts->to + len - 4, ".tar") == 0);
}

/* ---- what travels ---- */

static int refuse_point(const struct export *x, const struct vm_point *p, struct error *e)
{
	const char *domain = x->vm->domain.name;

	if (!p)
		return err_set(e, ERR_NOT_FOUND, "domain '%s' has no snapshot '%s'", domain, x->opts->name);
	if (p->state == VM_POINT_UNLISTED)
		return err_set(e, ERR_UNSUPPORTED,
			"snapshot '%s' is not in the catalog: how the domain was defined is not known", p->name);
	if (p->state != VM_POINT_WHOLE)
		return point_refuse(p, "", e);
	return p->xml ? 0 : err_set(e, ERR_UNSUPPORTED, "snapshot '%s' has no definition of the domain", p->name);
}

/* Children of one that stays behind are its parent's. */
static int leave_out(struct export *x, const char *name, const char *why, struct error *e)
{
	AUTO_FREE char *copy = mem_strdup(name, e);

	if (why)
		vm_note(x->vm, "snapshot '%s' is left out: %s", name, why);
	return copy ? catalog_remove(&x->b.catalog, copy, e) : -1;
}

static int choose(struct export *x, struct error *e)
{
	struct vm_catalog *c = &x->b.catalog;
	unsigned i = 0;

	if (vm_points(x->vm, c, e) || refuse_point(x, vm_catalog_find(c, x->opts->name), e))
		return -1;
	while (i < c->count) {
		const struct vm_point *p = &c->points[i];
		const bool it = strcmp(p->name, x->opts->name) == 0, whole = p->state == VM_POINT_WHOLE && p->xml;

		if (it || (x->opts->all && whole))
			i++;
		else if (leave_out(x, p->name, x->opts->all ? p->why ? p->why : "its definition is not known" : NULL,
				 e))
			return -1;
	}
	free(c->current);
	c->current = mem_strdup(x->opts->name, e);
	x->b.domain = mem_strdup(x->vm->domain.name, e);
	x->b.uuid = mem_strdup(x->vm->domain.uuid, e);
	x->b.points = mem_calloc(c->count, sizeof *x->b.points, "snapshots", e);
	if (!c->current || !x->b.domain || !x->b.uuid || !x->b.points)
		return -1;
	bundle_link(&x->b);
	return 0;
}

/* ---- the bundle ---- */

/* Without the slashes that it may end in. */
static char *plain_to(const struct export *x, struct error *e)
{
	char *to = mem_strdup(x->opts->to, e);

	for (size_t len = to ? strlen(to) : 0; len > 1 && to[len - 1] == '/';)
		to[--len] = 0;
	return to;
}

static int begin_folder(struct export *x, const char *to, struct error *e)
{
	const char *spool = getenv("TMPDIR");
	AUTO_FREE char *parent = to_stream(x) ? mem_strdup(spool && *spool ? spool : "/var/tmp", e) : vm_parent(to, e);
	struct stat st;
	unsigned trace;

	if (!parent)
		return -1;
	if (!to_stream(x) && !lstat(to, &st))
		return err_set(e, ERR_USAGE, "%s exists already", to);
	x->folder = mem_printf(e, "%s/.qsnap-export-%s", parent, x->vm->domain.uuid);
	return x->folder ? made_folder(x->vm, x->folder, &trace, e) : -1;
}

static int pack(struct export *x, const char *to, const char *text, size_t len, struct error *e)
{
	struct target *target;
	struct made made;

	if (to_stream(x))
		return bundle_pack(&x->b, x->vm, x->folder, text, len, x->opts->stream_fd, to, e);
	if (made_open(&made, x->vm, to, NULL, &target, e))
		return -1;
	int failed = bundle_pack(&x->b, x->vm, x->folder, text, len, io_file_fd(target_io(target)), to, e) ||
		     target_commit(target, e);

	target_close(target);
	if (failed)
		return -1;
	x->id_count = 0; /* the files go with the folder */
	return export_keep(x, made.trace, e);
}

static int finish_folder(struct export *x, const char *to, const char *text, size_t len, struct error *e)
{
	AUTO_FREE char *path = mem_printf(e, "%s/%s", x->folder, BUNDLE_MANIFEST);
	unsigned manifest, name;

	if (!path || made_of_bytes(x->vm, path, text, len, &manifest, e) || export_keep(x, manifest, e) ||
		made_name(x->vm, TRACE_FOLDER, x->folder, to, &name, e))
		return -1;
	return export_keep(x, name, e);
}

static int finish(struct export *x, const char *to, struct error *e)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	if (bundle_text(&x->b, &text, &len, e))
		return -1;
	if (to_tar(x) ? pack(x, to, text, len, e) : finish_folder(x, to, text, len, e))
		return -1;
	if (to_stream(x))
		return 0;
	if (vm_go_on(x->vm, e) || journal_drop_all(x->vm->journal, x->ids, x->id_count, e))
		return -1;
	export_account(x, to);
	return 0;
}

int vm_export(struct vm *vm, const struct vm_export *opts, struct vm_exported *out, struct error *e)
{
	struct export x = {.vm = vm, .opts = opts, .out = out};
	struct error later;

	*out = (struct vm_exported){0};
	AUTO_FREE char *to = plain_to(&x, e);
	int failed = !to || (to_tar(&x) && !tar_ops(e)) ||
		     vm->driver->ops->look(vm->driver, vm->domain.uuid, &x.domain, e) || choose(&x, e) ||
		     begin_folder(&x, to, e) || export_files(&x, e) || finish(&x, to, e);

	if (trace_take_back(vm, failed ? &later : e)) {
		if (failed)
			vm_note(vm, "%s", later.msg);
		failed = -1;
	}
	free(x.folder);
	free(x.ids);
	bundle_free(&x.b);
	driver_domain_free(&x.domain);
	return failed ? -1 : 0;
}
