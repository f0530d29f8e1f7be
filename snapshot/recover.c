/* SPDX-License-Identifier: Apache-2.0
 *
 * After a crash: the journal's traces are taken back as they would have been at the end of the command.
 */
#include "snapshot/internal.h"

int vm_recover(struct vm *vm, struct error *e)
{
	unsigned count = vm_left(vm);

	if (!count)
		return 0;
	vm_note(vm, "an earlier command ended half-way and left %u thing%s behind: taken back first", count,
		count == 1 ? "" : "s");
	return trace_take_back(vm, e);
}
