/* SPDX-License-Identifier: Apache-2.0
 *
 * After a crash: the journal's traces are taken back as they would have been at the end of the command.
 */
#include "snapshot/internal.h"

#include <errno.h>
#include <unistd.h>

int vm_recover(struct vm *vm, struct error *e)
{
	unsigned count = vm_left(vm);

	if (!count)
		return 0;
	vm_note(vm, "an earlier command ended half-way and left %u thing%s behind: taken back first", count,
		count == 1 ? "" : "s");
	return trace_take_back(vm, e);
}

/* The domain is gone, so its state, its jobs and its records are; what is left of it is files. */
static int undo_without_domain(struct vm *vm, const struct trace *t, struct error *e)
{
	switch (t->kind) {
	case TRACE_INTERNAL:
		if (access(t->path, F_OK) && errno == ENOENT)
			return 0;
		return undo_internal(vm, t, e);
	case TRACE_FILE:
		return undo_file(vm, t, e);
	case TRACE_OVERLAY:
		if (access(t->path, F_OK) && errno == ENOENT)
			return 0;
		vm_note(vm,
			"disk %s: %s is an overlay on %s, and what the guest wrote to it is in no other file; it is "
			"left alone",
			t->target, t->path, t->name);
		return 0;
	default:
		return 0;
	}
}

int vm_recover_undefined(const struct vm_opts *o, const char *uuid, struct error *e)
{
	struct vm vm = {.opts = *o, .driver = o->driver, .domain = {.state = DRIVER_SHUT_OFF}};
	struct driver_domain d = {0};
	const struct trace *all;
	unsigned count;
	int failed = o->driver->ops->local(o->driver, e);

	if (!failed && o->driver->ops->look(o->driver, uuid, &d, e) == 0) {
		driver_domain_free(&d);
		return err_set(e, ERR_USAGE, "domain %s is defined", uuid);
	}
	if (failed || e->code != ERR_NOT_FOUND)
		return -1;
	snprintf(vm.domain.uuid, sizeof vm.domain.uuid, "%s", uuid);
	vm.domain.name = mem_strdup(uuid, e);
	if (!vm.domain.name)
		return -1;
	failed = journal_open(&vm.journal, o->state_dir, uuid, o->wait_seconds,
		o->voice.progress ? o->voice.progress->cancel : NULL, e);
	while (!failed && (all = journal_traces(vm.journal, &count)) && count)
		failed = undo_without_domain(&vm, &all[count - 1], e) || journal_drop(vm.journal, all[count - 1].id, e);
	journal_close(vm.journal);
	driver_domain_free(&vm.domain);
	return failed ? -1 : 0;
}
