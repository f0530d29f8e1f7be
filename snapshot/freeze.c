/* SPDX-License-Identifier: Apache-2.0
 *
 * The instant: the guest's file systems frozen before it, where that was asked for, and how long the guest stood still.
 */
#include "snapshot/internal.h"

#include <time.h>

enum { FREEZE_SECONDS = 10 };

uint64_t take_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void take_pause_begins(struct take *t)
{
	t->paused_at = take_now_ns();
	if (!t->held_at)
		t->held_at = t->paused_at;
	t->out->created = (int64_t)time(NULL);
}

void take_pause_ends(struct take *t)
{
	if (t->paused_at)
		t->out->pause_ns += take_now_ns() - t->paused_at;
	t->paused_at = t->held_at = 0;
}

int take_suspend(struct take *t, unsigned *id, struct error *e)
{
	struct vm *vm = t->vm;

	if (trace_put(vm, &(struct trace){.kind = TRACE_PAUSED}, id, e))
		return -1;
	vm_step(vm, "suspend", NULL);
	return vm->driver->ops->suspend(vm->driver, t->domain.uuid, e);
}

int take_deadline(const struct take *t, struct error *e)
{
	if (!t->held_at || take_now_ns() - t->held_at <= t->opts->max_pause * 1000000000ull)
		return 0;
	return err_set(e, ERR_LIMIT, "the guest was held for more than the %u s that it may", t->opts->max_pause);
}

int take_freeze(struct take *t, struct error *e)
{
	bool required = t->opts->quiesce == VM_QUIESCE_REQUIRED;
	struct vm *vm = t->vm;
	unsigned id, seconds = (unsigned)min_u64(FREEZE_SECONDS, t->opts->max_pause);
	struct error thaw;

	if (t->opts->quiesce == VM_QUIESCE_NO || t->domain.state != DRIVER_RUNNING)
		return t->opts->quiesce == VM_QUIESCE_REQUIRED
			       ? err_set(e, ERR_UNSUPPORTED,
					 "domain '%s' does not run: its file systems cannot be frozen", t->domain.name)
			       : 0;
	if (!t->domain.agent) {
		if (required)
			return err_set(e, ERR_UNSUPPORTED,
				"domain '%s' has no guest agent that could freeze its file systems", t->domain.name);
		vm_note(vm, "not quiesced: there is no guest agent");
		return 0;
	}
	if (trace_put(vm, &(struct trace){.kind = TRACE_FROZEN}, &id, e))
		return -1;
	t->held_at = take_now_ns();
	vm_step(vm, "freeze", NULL);
	if (vm->driver->ops->freeze(vm->driver, vm->domain.uuid, seconds, e)) {
		if (trace_undo(vm, id, required ? &thaw : e) || required)
			return -1;
		vm_note(vm, "not quiesced: %s", e->msg);
		return 0;
	}
	t->out->quiesced = true;
	return 0;
}
