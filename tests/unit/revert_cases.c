/* SPDX-License-Identifier: Apache-2.0
 *
 * The cases of tests/unit/revert_cases.h.
 */
#include "tests/unit/revert_cases.h"

#include <check.h>

const struct revert_case revert_cases[REVERT_CASES] = {
	{{.name = "running", .before = BEFORE_RUNNING}, VM_AS_BEFORE, false, true},
	{{.name = "running, the present kept", .before = BEFORE_RUNNING}, VM_STARTED_PAUSED, true, false},
	{{.name = "paused", .before = BEFORE_PAUSED}, VM_AS_BEFORE, false, false},
	{{.name = "shut off", .before = BEFORE_SHUT_OFF}, VM_AS_BEFORE, false, true},
	{{.name = "shut off, started", .before = BEFORE_SHUT_OFF}, VM_STARTED, true, true},
	{{.name = "saved", .before = BEFORE_SAVED}, VM_AS_BEFORE, false, false},
	{{.name = "saved, started", .before = BEFORE_SAVED}, VM_STARTED, false, true},
};

void revert_case_set(struct world *w, const struct revert_case *c)
{
	struct error e;

	vm_case_set(w, &c->at);
	enum driver_state state = w->state;

	w->state = DRIVER_RUNNING;
	world_instant(w);
	for (unsigned i = 0; i < w->disk_count; i++)
		if (world_snapshot(w->disks[i].in_use.images[0].path, "s", true, &e))
			ck_abort_msg("%s", e.msg);
	world_tick(w);
	world_tick(w);
	w->state = state;
}

int revert_run(struct world *w, const struct vm_revert *opts, unsigned *left, struct error *e)
{
	struct progress progress = {.cancel = &w->cancel};
	struct vm_opts o = {.driver = scripted_driver_new(w),
		.domain = "machine",
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
		.present = "kept",
		.xml = c->define ? REVERT_XML : NULL};

	return revert_run(w, &opts, left, e);
}
