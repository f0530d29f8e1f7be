/* SPDX-License-Identifier: Apache-2.0
 *
 * The cases of tests/unit/vm_cases.h.
 */
#include "tests/unit/vm_cases.h"

#include "tests/unit/journal_fault.h"
#include "tests/unit/scratch.h"

#include <check.h>
#include <dirent.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

const struct vm_case vm_cases[] = {
	{"cold", BEFORE_RUNNING, false, VM_COLD, VM_VIA_ANY, false, true, false, false, NO_MEMORY},
	{"cold, extracted while stopped", BEFORE_RUNNING, false, VM_COLD, VM_VIA_ANY, false, false, true, false,
		NO_MEMORY},
	{"cold, a raw disk", BEFORE_RUNNING, true, VM_COLD, VM_VIA_ANY, false, true, false, false, NO_MEMORY},
	{"cold, kept", BEFORE_RUNNING, false, VM_COLD, VM_VIA_ANY, true, false, false, false, NO_MEMORY},
	{"cold, paused", BEFORE_PAUSED, false, VM_COLD, VM_VIA_ANY, false, false, false, false, NO_MEMORY},
	{"cold, overlay", BEFORE_RUNNING, true, VM_COLD, VM_VIA_OVERLAY, false, true, false, false, NO_MEMORY},
	{"cold, overlay, paused", BEFORE_PAUSED, false, VM_COLD, VM_VIA_OVERLAY, false, false, false, false, NO_MEMORY},
	{"shut off", BEFORE_SHUT_OFF, false, VM_AUTO, VM_VIA_ANY, false, false, false, false, NO_MEMORY},
	{"shut off, a raw disk", BEFORE_SHUT_OFF, true, VM_AUTO, VM_VIA_ANY, false, false, false, false, NO_MEMORY},
	{"saved", BEFORE_SAVED, false, VM_AUTO, VM_VIA_ANY, true, false, false, false, NO_MEMORY},
	{"live", BEFORE_RUNNING, false, VM_LIVE, VM_VIA_ANY, false, true, false, false, NO_MEMORY},
	{"live, a raw disk", BEFORE_RUNNING, true, VM_LIVE, VM_VIA_ANY, false, false, false, false, NO_MEMORY},
	{"live, a device", BEFORE_RUNNING, true, VM_LIVE, VM_VIA_ANY, false, false, false, true, NO_MEMORY},
	{"live, paused", BEFORE_PAUSED, true, VM_LIVE, VM_VIA_ANY, false, false, false, false, NO_MEMORY},
	{"internal", BEFORE_RUNNING, false, VM_INSTANT, VM_VIA_INTERNAL, false, true, false, false, NO_MEMORY},
	{"internal, kept", BEFORE_RUNNING, false, VM_INSTANT, VM_VIA_INTERNAL, true, false, false, false, NO_MEMORY},
	{"internal, paused", BEFORE_PAUSED, false, VM_INSTANT, VM_VIA_INTERNAL, false, false, false, false, NO_MEMORY},
	{"overlay", BEFORE_RUNNING, false, VM_INSTANT, VM_VIA_OVERLAY, false, true, false, false, NO_MEMORY},
	{"overlay, a raw disk", BEFORE_RUNNING, true, VM_INSTANT, VM_VIA_ANY, false, false, false, false, NO_MEMORY},
	{"overlay, a device", BEFORE_RUNNING, true, VM_INSTANT, VM_VIA_ANY, false, false, false, true, NO_MEMORY},
	{"overlay, paused", BEFORE_PAUSED, true, VM_INSTANT, VM_VIA_OVERLAY, false, false, false, false, NO_MEMORY},
	{"cold, memory, kept", BEFORE_RUNNING, false, VM_COLD, VM_VIA_ANY, true, true, false, false, MEMORY},
	{"cold, memory", BEFORE_RUNNING, true, VM_COLD, VM_VIA_ANY, false, false, true, false, MEMORY},
	{"cold, overlay, memory", BEFORE_RUNNING, true, VM_COLD, VM_VIA_OVERLAY, false, false, false, false, MEMORY},
	{"saved, memory", BEFORE_SAVED, false, VM_AUTO, VM_VIA_ANY, true, false, false, false, MEMORY},
	{"internal, memory, kept", BEFORE_RUNNING, false, VM_AUTO, VM_VIA_ANY, true, true, false, false, MEMORY},
	{"internal, memory", BEFORE_RUNNING, false, VM_INSTANT, VM_VIA_ANY, false, false, false, false, MEMORY},
	{"memory, paused", BEFORE_PAUSED, false, VM_AUTO, VM_VIA_ANY, true, false, false, false, MEMORY},
	{"overlay, memory", BEFORE_RUNNING, true, VM_LIVE, VM_VIA_ANY, false, true, false, false, MEMORY},
	{"internal, memory, paused, kept", BEFORE_RUNNING, false, VM_AUTO, VM_VIA_ANY, true, true, false, false,
		MEMORY_PAUSED},
	{"overlay, memory, paused", BEFORE_RUNNING, true, VM_LIVE, VM_VIA_ANY, false, true, false, false,
		MEMORY_PAUSED},
};
const int vm_case_count = sizeof vm_cases / sizeof *vm_cases;

static void cancel(struct world *w)
{
	atomic_store(&w->cancel, true);
}

const struct vm_fault vm_faults[VM_FAULTS] = {
	{"fails", EVENT_FAIL, NULL},
	{"fails after it was done", EVENT_FAIL_AFTER, NULL},
	{"and all later ones fail", EVENT_LOST, NULL},
	{"is where the user cancels", EVENT_HOOK, cancel},
	{"is where the guest's power goes", EVENT_HOOK, NULL},
};

void vm_fault_at(struct world *w, int fault, unsigned k, void (*power_fails)(struct world *world))
{
	w->at = k;
	w->event = vm_faults[fault].event;
	w->hook = vm_faults[fault].hook ? vm_faults[fault].hook : power_fails;
}

const char *const vm_deaths[VM_DEATHS] = {
	[DIE_AT_STEP] = "before step",
	[DIE_AFTER_STEP] = "after step",
	[DIE_AT_LINE] = "before line",
	[DIE_IN_LINE] = "in line",
	[DIE_AFTER_LINE] = "after line",
};

void vm_death_at(struct world *w, int death, unsigned k)
{
	static const enum journal_fault faults[VM_DEATHS] = {[DIE_AT_LINE] = JOURNAL_FAULT_DIE_BEFORE,
		[DIE_IN_LINE] = JOURNAL_FAULT_DIE_HALF,
		[DIE_AFTER_LINE] = JOURNAL_FAULT_DIE_AFTER};

	w->at = k;
	w->event = death == DIE_AT_STEP ? EVENT_DIE : death == DIE_AFTER_STEP ? EVENT_DIE_AFTER : EVENT_NONE;
	if (death >= DIE_AT_LINE)
		journal_fault_at(k, faults[death], false);
}

const struct vm_case *vm_case_named(const char *name)
{
	for (int i = 0; i < vm_case_count; i++)
		if (strcmp(vm_cases[i].name, name) == 0)
			return &vm_cases[i];
	ck_abort_msg("no case '%s'", name);
	return NULL;
}

bool vm_case_dies(int (*run)(const void *c), const void *c, const char *what)
{
	int status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (!child)
		_exit(run(c) ? 1 : 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status) && (WEXITSTATUS(status) == DIED || !WEXITSTATUS(status)), "%s: status %x", what,
		(unsigned)status);
	return WEXITSTATUS(status) == DIED;
}

void vm_empty_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	char name[400];

	while (dir && (entry = readdir(dir))) {
		snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
		unlink(name);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

void vm_case_set(struct world *w, const struct vm_case *c)
{
	vm_empty_folder("out");
	vm_empty_folder("state");
	world_reset(w, c->raw);
	w->disks[1].block = c->device;
	if (c->before == BEFORE_PAUSED)
		w->state = DRIVER_PAUSED;
	w->paused_by_user = c->before == BEFORE_PAUSED;
	if (c->before == BEFORE_SHUT_OFF || c->before == BEFORE_SAVED)
		w->state = DRIVER_SHUT_OFF;
	w->saved = c->before == BEFORE_SAVED;
	if (w->saved)
		world_write_memory(w, WORLD_SAVED);
	if (c->memory) {
		w->device = w->device_attached = false;
		w->memory_still = c->memory == MEMORY_PAUSED;
		world_write_nvram(w, 1);
		w->nvram_instant = w->nvram;
	}
	journal_fault_at(0, JOURNAL_FAULT_NONE, false);
}

void vm_case_options(const struct vm_case *c, struct vm_take *t)
{
	vm_take_defaults(t);
	t->name = "s";
	t->mode = c->mode;
	t->via = c->via;
	t->quiesce = c->quiesce ? VM_QUIESCE_REQUIRED : VM_QUIESCE_NO;
	t->keep = c->keep;
	t->memory = c->memory != NO_MEMORY;
	t->extract_stopped = c->stopped;
	t->to = "out/";
	t->threads = 0;
}

int vm_run(struct world *w, const struct vm_take *t, unsigned *left, struct error *e)
{
	struct progress progress = {.cancel = &w->cancel};
	struct vm_opts o = {.driver = scripted_driver_new(w),
		.domain = "machine",
		.state_dir = "state",
		.retry_ms = w->retry_ms ? w->retry_ms : 1,
		.patience_ms = w->patience_ms,
		.voice.progress = &progress};
	struct vm_taken taken;
	struct vm *vm;
	int failed = vm_open(&vm, &o, e);

	*left = 0;
	if (!failed) {
		failed = t ? vm_take(vm, t, &taken, e) : 0;
		*left = vm_left(vm);
		if (t && !failed)
			vm_taken_free(&taken);
		vm_close(vm);
	}
	driver_close(o.driver);
	return failed;
}

int vm_case_run(struct world *w, const struct vm_case *c, unsigned *left, struct error *e)
{
	struct vm_take t;

	vm_case_options(c, &t);
	return vm_run(w, &t, left, e);
}

int vm_run_recover(struct world *w, struct error *e)
{
	unsigned left;

	w->at = w->steps = 0;
	w->event = EVENT_NONE;
	atomic_store(&w->cancel, false);
	journal_fault_at(0, JOURNAL_FAULT_NONE, false);
	return vm_run(w, NULL, &left, e);
}

int vm_with(struct world *w, bool without_memory, int (*deed)(struct vm *vm, void *arg), void *arg, struct error *e)
{
	struct vm_opts o = {.driver = scripted_driver_new(w),
		.domain = "machine",
		.state_dir = "state",
		.retry_ms = 1,
		.without_memory = without_memory};
	struct vm *vm = NULL;
	int failed = vm_open(&vm, &o, e) ? -1 : deed ? deed(vm, arg) : 0;

	vm_close(vm);
	driver_close(o.driver);
	return failed;
}

/* It has the memory of the instant, if it was to have it. */
static void judge_memory(const struct world *w, const struct vm_point *p, const char *what)
{
	ck_assert_msg(!p->memory == !w->kept_memory && !p->nvram == !w->kept_memory, "%s: memory %s", what,
		p->memory ? p->memory : "none");
	if (!p->memory)
		return;
	world_judge_memory(w, p->memory, p->nvram, what);
	ck_assert_msg(p->memory_bytes && p->memory_digest[0] && p->nvram_digest[0], "%s: memory", what);
}

/* The catalog has what is kept, whole and current, and nothing else. */
static void judge_catalog(struct world *w, const char *what)
{
	struct vm_opts o = {
		.driver = scripted_driver_new(w), .domain = "machine", .state_dir = "state", .read_only = true};
	const unsigned at = w->at, steps = w->steps;
	struct vm_catalog c;
	struct error e;
	struct vm *vm;

	w->at = UINT_MAX; /* looking is no step of the script */
	if (vm_open(&vm, &o, &e) || vm_points(vm, &c, &e))
		ck_abort_msg("%s: %s", what, e.msg);
	ck_assert_msg(c.count == (w->kept ? 1 : 0), "%s: the catalog has %u", what, c.count);
	if (w->kept)
		judge_memory(w, &c.points[0], what);
	if (w->kept)
		ck_assert_msg(c.points[0].state == VM_POINT_WHOLE && c.current && !strcmp(c.current, w->kept) &&
				      c.points[0].disk_count == w->disk_count &&
				      c.points[0].export_count == w->disk_count,
			"%s: the catalog has it %s: %s", what, vm_point_state_name(c.points[0].state), c.points[0].why);
	vm_catalog_free(&c);
	vm_close(vm);
	driver_close(o.driver);
	w->at = at;
	w->steps = steps;
}

void vm_case_judge(struct world *w, const struct world *before, const struct vm_case *c, bool done, const char *what)
{
	bool whole = access("out/manifest.json", F_OK) == 0;

	ck_assert_msg(whole || !done, "%s: nothing was made", what);
	w->kept = whole && c->keep ? "s" : NULL;
	w->kept_memory = w->kept_nvram = w->kept && c->memory;
	w->memory_out = c->memory;
	world_judge(w, before, what);
	world_judge_output(w, whole, what);
	judge_catalog(w, what);
}
