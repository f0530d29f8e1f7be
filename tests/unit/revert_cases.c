/* SPDX-License-Identifier: Apache-2.0
 *
 * The cases of tests/unit/revert_cases.h.
 */
#include "tests/unit/revert_cases.h"

#include <check.h>

const struct revert_case revert_cases[REVERT_CASES] = {
	{{.name = "running", .before = BEFORE_RUNNING}, VM_AS_BEFORE, false, true, false, false, false},
	{{.name = "running, the present kept", .before = BEFORE_RUNNING}, VM_STARTED_PAUSED, true, false, false, false,
		false},
	{{.name = "paused", .before = BEFORE_PAUSED}, VM_AS_BEFORE, false, false, false, false, false},
	{{.name = "shut off", .before = BEFORE_SHUT_OFF}, VM_AS_BEFORE, false, true, false, false, false},
	{{.name = "shut off, started", .before = BEFORE_SHUT_OFF}, VM_STARTED, true, true, false, false, false},
	{{.name = "saved", .before = BEFORE_SAVED}, VM_AS_BEFORE, false, false, false, false, false},
	{{.name = "saved, started", .before = BEFORE_SAVED}, VM_STARTED, false, true, false, false, false},
	{{.name = "running, with memory", .before = BEFORE_RUNNING}, VM_AS_BEFORE, false, true, true, false, false},
	{{.name = "shut off, with memory", .before = BEFORE_SHUT_OFF}, VM_AS_BEFORE, true, false, true, false, false},
	{{.name = "saved, with memory", .before = BEFORE_SAVED}, VM_STARTED_PAUSED, false, false, true, false, false},
	{{.name = "running, with memory and a device", .before = BEFORE_RUNNING}, VM_AS_BEFORE, true, true, true, false,
		true},
	{{.name = "saved, with memory and a device", .before = BEFORE_SAVED}, VM_AS_BEFORE, false, true, true, false,
		true},
	{{.name = "without its memory", .before = BEFORE_RUNNING}, VM_AS_BEFORE, true, true, true, true, false},
};

/* By a command of its own, of a guest that runs. */
static void take_with_memory(struct world *w, bool device)
{
	struct vm_take t;
	struct error e;
	unsigned left;

	vm_take_defaults(&t);
	t.name = "s";
	t.mode = device ? VM_COLD : VM_INSTANT;
	t.keep = t.memory = true;
	t.threads = 0;
	w->device = w->device_attached = device;
	w->saved = false;
	world_write_nvram(w, 1);
	if (vm_run(w, &t, &left, &e))
		ck_abort_msg("%s", e.msg);
	world_write_nvram(w, 2);
	w->steps = 0;
}

void revert_case_set(struct world *w, const struct revert_case *c)
{
	struct error e;

	vm_case_set(w, &c->at);
	const enum driver_state state = w->state;
	const bool saved = w->saved;

	w->state = DRIVER_RUNNING;
	world_instant(w);
	if (c->memory)
		take_with_memory(w, c->device);
	for (unsigned i = 0; !c->memory && i < w->disk_count; i++)
		if (world_snapshot(w->disks[i].in_use.images[0].path, "s", true, &e))
			ck_abort_msg("%s", e.msg);
	world_tick(w);
	world_tick(w);
	w->state = state;
	w->saved = saved;
}

int revert_run(struct world *w, const struct vm_revert *opts, unsigned *left, struct error *e)
{
	struct progress progress = {.cancel = &w->cancel};
	struct vm_opts o = {.driver = scripted_driver_new(w),
		.domain = w->name,
		.state_dir = "state",
		.retry_ms = 1,
		.voice.progress = &progress};
	struct vm_reverted out;
	struct vm *vm;
	int failed = vm_open(&vm, &o, e);

	*left = 0;
	if (!failed) {
		failed = vm_revert(vm, opts, &out, e);
		*left = vm_left(vm);
		if (!failed)
			vm_reverted_free(&out);
		vm_close(vm);
	}
	driver_close(o.driver);
	return failed;
}

int revert_case_run(struct world *w, const struct revert_case *c, unsigned *left, struct error *e)
{
	const struct vm_revert opts = {.name = "s",
		.after = c->after,
		.first = c->first,
		.without_memory = c->without,
		.present = "kept",
		.xml = c->define ? REVERT_XML : NULL};

	return revert_run(w, &opts, left, e);
}
