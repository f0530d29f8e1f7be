/* SPDX-License-Identifier: Apache-2.0
 *
 * How an import ends, now or after a crash. The hypervisor decides: when it has the domain, on the disks that were made for it, all
 * that belongs to it was there before, and stays; until then all of it goes.
 */
#include "snapshot/import.h"

#include <errno.h>
#include <unistd.h>

static bool uses(const struct vm *vm, const struct trace *t)
{
	for (unsigned i = 0; i < vm->domain.disk_count; i++) {
		const struct driver_disk *d = &vm->domain.disks[i];
		uint64_t dev, ino;
		struct error e;

		if (d->image_count && d->images[0].path && !disk_identity(d->images[0].path, &dev, &ino, &e) &&
			dev == t->dev && ino == t->ino)
			return true;
	}
	return false;
}

static bool is_done(const struct vm *vm)
{
	unsigned count;
	const struct trace *all = journal_traces(vm->journal, &count);
	bool done = false;

	for (unsigned i = 0; i < count && !done; i++)
		done = all[i].kind == TRACE_FILE && uses(vm, &all[i]);
	return done;
}

/* The catalog of an earlier domain of this UUID is of no use to anybody. */
static int forget_before(const struct trace *t, struct error *e)
{
	return t->kind == TRACE_CATALOG && t->name && unlink(t->name) && errno != ENOENT
		       ? err_sys(e, errno, "%s", t->name)
		       : 0;
}

int import_settle(struct vm *vm, struct error *e)
{
	if (!vm->journal || !trace_is_there(vm, TRACE_IMPORT) || !is_done(vm))
		return 0;
	unsigned count, dropped = 0;
	const struct trace *all = journal_traces(vm->journal, &count);
	AUTO_FREE unsigned *ids = mem_calloc(count, sizeof *ids, "traces", e);

	for (unsigned i = 0; ids && i < count; i++) {
		if (forget_before(&all[i], e))
			return -1;
		if (all[i].kind != TRACE_FOLDER)
			ids[dropped++] = all[i].id;
	}
	return ids ? journal_drop_all(vm->journal, ids, dropped, e) : -1;
}

/* ---- taking back ---- */

int undo_import(struct vm *vm, const struct trace *t, struct error *e)
{
	(void)e;
	vm_note(vm, "the import of domain '%s' was not done: nothing of it is left", t->name);
	return 0;
}

/* The one of before has its own name until the trace is there. */
int undo_catalog(struct vm *vm, const struct trace *t, struct error *e)
{
	AUTO_FREE char *path = catalog_path(vm, e);

	if (!path || catalog_clean(vm, e))
		return -1;
	if (t->name ? rename(t->name, path) : unlink(path))
		return errno == ENOENT ? 0 : err_sys(e, errno, "%s", path);
	return folder_sync(vm->opts.state_dir, e);
}

int import_catalog(struct vm *vm, const struct vm_catalog *c, struct error *e)
{
	AUTO_FREE char *path = catalog_path(vm, e), *before = path ? mem_printf(e, "%s.before", path) : NULL;
	struct trace t = {.kind = TRACE_CATALOG};

	if (!before || (unlink(before) && errno != ENOENT && err_sys(e, errno, "%s", before)))
		return -1;
	t.name = access(path, F_OK) ? NULL : before;
	if (t.name)
		vm_note(vm, "%s tells of the snapshots of an earlier domain of this UUID: they are forgotten", path);
	if (trace_put(vm, &t, NULL, e))
		return -1;
	if (t.name && rename(path, before))
		return err_sys(e, errno, "%s", path);
	return catalog_write(vm, c, e);
}

bool vm_needs_no_domain(const char *state_dir, const char *uuid)
{
	struct journal *j;
	struct error e;
	AUTO_FREE char *path = mem_printf(&e, "%s/%s.journal", state_dir, uuid);
	unsigned count;
	bool found;

	if (!path || strlen(uuid) != DRIVER_UUID_CHARS - 1 || access(path, F_OK) ||
		journal_open(&j, state_dir, uuid, 0, NULL, &e))
		return false;
	const struct trace *all = journal_traces(j, &count);

	found = !count;
	for (unsigned i = 0; i < count; i++)
		found |= all[i].kind == TRACE_IMPORT;
	journal_close(j);
	return found;
}
