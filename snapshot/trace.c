/* SPDX-License-Identifier: Apache-2.0
 *
 * Traces and how they are taken back. A snapshot that ends well, one that fails and `recover` after a crash do the same
 * things: they take back, youngest first, what the journal tells of.
 */
#include "snapshot/internal.h"

#include <errno.h>
#include <unistd.h>

static int (*const undo[TRACE_KINDS])(struct vm *vm, const struct trace *t, struct error *e) = {
	[TRACE_DEVICE] = undo_device,
	[TRACE_SAVED] = undo_saved,
	[TRACE_FROZEN] = undo_frozen,
	[TRACE_PAUSED] = undo_paused,
	[TRACE_MEMORY] = undo_memory,
	[TRACE_INTERNAL] = undo_internal,
	[TRACE_OVERLAY] = undo_overlay,
	[TRACE_COPY] = undo_copy,
	[TRACE_FILE] = undo_file,
	[TRACE_RECORD] = undo_record,
	[TRACE_POINT] = undo_point,
	[TRACE_CURRENT] = undo_current,
	[TRACE_ENDED] = undo_ended,
	[TRACE_REVERTED] = undo_reverted,
	[TRACE_DEFINED] = undo_defined,
	[TRACE_NVRAM] = undo_nvram,
	[TRACE_START] = undo_start,
	[TRACE_UNSAVED] = undo_unsaved,
	[TRACE_FOLDER] = undo_folder,
	[TRACE_IMPORT] = undo_import,
	[TRACE_CATALOG] = undo_catalog,
};

/* The domain is gone, and its state, its jobs and its records with it: what is left are files. */
static int undo_undefined(struct vm *vm, const struct trace *t, struct error *e)
{
	if (t->kind == TRACE_FILE || t->kind == TRACE_POINT || t->kind == TRACE_CURRENT || t->kind == TRACE_NVRAM ||
		t->kind >= TRACE_FOLDER)
		return undo[t->kind](vm, t, e);
	if ((t->kind != TRACE_INTERNAL && t->kind != TRACE_REVERTED && t->kind != TRACE_OVERLAY) ||
		(access(t->path, F_OK) && errno == ENOENT))
		return 0;
	if (t->kind != TRACE_OVERLAY)
		return undo[t->kind](vm, t, e);
	vm_note(vm,
		"disk %s: %s is an overlay on %s, and what the guest wrote to it is in no other file; it is left alone",
		t->target, t->path, t->name);
	return 0;
}

int trace_put(struct vm *vm, const struct trace *t, unsigned *id, struct error *e)
{
	struct trace mine = *t;
	AUTO_FREE char *path = t->path ? vm_absolute(t->path, e) : NULL;
	unsigned ignored;

	if (t->path && !path)
		return -1;
	mine.path = path;
	return journal_begin(vm->journal, vm->domain.name, vm->domain.state, e) ||
	       journal_put(vm->journal, &mine, id ? id : &ignored, e);
}

const struct trace *trace_find(const struct vm *vm, unsigned id)
{
	unsigned count;
	const struct trace *all = journal_traces(vm->journal, &count);

	for (unsigned i = 0; i < count; i++)
		if (all[i].id == id)
			return &all[i];
	return NULL;
}

bool trace_is_there(const struct vm *vm, enum trace_kind kind)
{
	unsigned count;
	const struct trace *all = journal_traces(vm->journal, &count);

	for (unsigned i = 0; i < count; i++)
		if (all[i].kind == kind)
			return true;
	return false;
}

/* Whether room to write in comes back with it. */
static bool gives_room(enum trace_kind kind)
{
	return kind == TRACE_INTERNAL || kind == TRACE_OVERLAY || kind == TRACE_FILE;
}

int trace_undo(struct vm *vm, unsigned id, struct error *e)
{
	const struct trace *found = trace_find(vm, id);

	if (!found)
		return 0;
	const struct trace t = *found; /* others may come and go meanwhile, but its strings stay */

	if (vm_look(vm, e) || (vm->undefined ? undo_undefined : undo[t.kind])(vm, &t, e) ||
		(gives_room(t.kind) && guest_wake(vm, e)))
		return -1;
	return journal_drop(vm->journal, id, e);
}

/* The traces that `kind` is for (TRACE_KINDS: all), from the youngest on; what fails stays and is passed over. */
static int undo_some(struct vm *vm, enum trace_kind kind, struct error *e)
{
	struct error later;
	unsigned count, below = UINT32_MAX;
	int failed = 0;

	for (;;) {
		const struct trace *all = journal_traces(vm->journal, &count), *next = NULL;

		for (unsigned i = count; i-- > 0 && !next;)
			if (all[i].id < below && (kind == TRACE_KINDS || all[i].kind == kind))
				next = &all[i];
		if (!next)
			return failed;
		below = next->id;
		if (!trace_undo(vm, next->id, failed ? &later : e))
			continue;
		if (failed)
			vm_note(vm, "%s", later.msg);
		failed = -1;
	}
}

int trace_undo_all(struct vm *vm, struct error *e)
{
	return undo_some(vm, TRACE_KINDS, e);
}

int trace_undo_kind(struct vm *vm, enum trace_kind kind, struct error *e)
{
	return undo_some(vm, kind, e);
}

/* What another try cannot change. */
static bool is_final(enum err_code code)
{
	return code == ERR_CHANGED || code == ERR_LIMIT || code == ERR_UNSUPPORTED || code == ERR_DENIED ||
	       code == ERR_CORRUPT || code == ERR_CANCELLED;
}

/* What is in the way may be gone, and a guest should not wait for the next command. */
int trace_take_back(struct vm *vm, struct error *e)
{
	enum { RETRY_MS = 20000 };
	uint64_t all = vm->opts.retry_ms ? vm->opts.retry_ms : RETRY_MS, waited = 0, ms = all / 200 + 1;
	int failed;

	while ((failed = trace_undo_all(vm, e)) && !is_final(e->code) && waited < all) {
		if (!waited)
			vm_note(vm, "%s; tried again", e->msg);
		vm_sleep(vm, (unsigned)ms);
		waited += ms;
		ms = min_u64(2 * ms, all / 10 + 1);
	}
	return failed;
}
