/* SPDX-License-Identifier: Apache-2.0
 *
 * After a crash: the journal's traces are taken back as they would have been at the end of the command.
 */
#include "snapshot/internal.h"

int vm_recover(struct vm *vm, struct error *e)
{
	if (import_settle(vm, e))
		return -1;
	unsigned count = vm_left(vm);

	if (!count)
		return 0;
	vm_note(vm, "an earlier command ended half-way and left %u thing%s behind: taken back first", count,
		count == 1 ? "" : "s");
	return trace_take_back(vm, e);
}

int vm_recover_undefined(const struct vm_opts *o, const char *uuid, struct error *e)
{
	struct vm vm = {.opts = *o, .driver = o->driver, .domain = {.state = DRIVER_SHUT_OFF}, .undefined = true};
	struct driver_domain d = {0};

	if (o->driver->ops->local(o->driver, e))
		return -1;
	if (o->driver->ops->look(o->driver, uuid, &d, e) == 0) {
		driver_domain_free(&d);
		return err_set(e, ERR_USAGE, "domain %s is defined", uuid);
	}
	if (e->code != ERR_NOT_FOUND)
		return -1;
	snprintf(vm.domain.uuid, sizeof vm.domain.uuid, "%s", uuid);
	vm.domain.name = mem_strdup(uuid, e);
	int failed = !vm.domain.name || vm_take_turn(&vm, e) || trace_take_back(&vm, e);

	journal_close(vm.journal);
	driver_domain_free(&vm.domain);
	return failed ? -1 : 0;
}
