/* SPDX-License-Identifier: Apache-2.0
 *
 * All disks of a domain go back to a snapshot that they have, and its definition, or none do. Each disk's present becomes a snapshot
 * first, the last one's by the write that takes it back, so that it can come back; all are locked meanwhile, so that nothing is
 * started on some that are back and some that are not. One line of the journal decides it. Then what is not needed goes, and the
 * guest starts.
 *
 * order: journal, the guest ended; locks; snapshots of the present of all disks but one; that one's with its way back, then the others'
 * ways back (one write of one sector each); the definition; the NVRAM; what is to come; all of that dropped at once; the saved state
 * and the snapshots of the present go; locks released; start, or going on from the memory.
 */
#include "snapshot/revert.h"

#include <time.h>

void vm_reverted_free(struct vm_reverted *r)
{
	free(r->present);
	*r = (struct vm_reverted){0};
}

/* ---- the guest ends, and cannot start ---- */

/* One that ended by itself just now, or by a call whose answer was lost, has ended. */
static int end_guest(struct revert *r, struct error *e)
{
	struct vm *vm = r->vm;
	struct error look;

	if (!vm_active(vm))
		return 0;
	if (guest_forget_stale_save(vm, e) || trace_put(vm, &(struct trace){.kind = TRACE_ENDED}, &r->ended, e))
		return -1;
	vm_step(vm, "destroy", NULL);
	int failed = vm->driver->ops->destroy(vm->driver, vm->domain.uuid, e);

	if (vm_look(vm, failed ? &look : e))
		return -1;
	if (!vm_active(vm))
		return 0;
	return failed ? -1 : err_set(e, ERR_CHANGED, "domain '%s' was ended, and runs again", vm->domain.name);
}

static bool same_point(const struct revert_point *a, const struct revert_point *b)
{
	if (a->disk_count != b->disk_count)
		return false;
	for (unsigned i = 0; i < a->disk_count; i++) {
		const struct revert_disk *x = &a->disks[i], *y = &b->disks[i];

		if (strcmp(x->target, y->target) != 0 || strcmp(x->path, y->path) != 0 || x->dev != y->dev ||
			x->ino != y->ino || strcmp(x->id, y->id) != 0 || x->date != y->date)
			return false;
	}
	return true;
}

/* What was looked at is what is locked. */
static int hold_disks(struct revert *r, struct error *e)
{
	struct vm *vm = r->vm;
	struct revert_point now = {0};

	for (unsigned i = 0; i < r->point.disk_count; i++)
		if (vm_hold(vm, r->point.disks[i].path, e))
			return err_prefix(e, "disk %s", r->point.disks[i].target);
	int failed = vm_look(vm, e) || revert_find(vm, r->opts, &now, e);

	if (!failed && (vm_active(vm) || !same_point(&r->point, &now)))
		failed = err_set(e, ERR_CHANGED, "domain '%s' was changed meanwhile", vm->domain.name);
	revert_point_free(&now);
	r->saved = vm->domain.saved;
	return failed ? -1 : 0;
}

/* ---- all disks, or none ---- */

/* Which snapshot the present becomes is settled before: nobody else changes a disk that is locked. */
static int put_kept(struct revert *r, struct revert_disk *d, struct error *e)
{
	char id[SNAPSHOT_ID_CHARS];

	if (disk_snapshot_next_id(d->path, id, e))
		return -1;
	d->present_date = (uint32_t)time(NULL);
	d->present_id = mem_strdup(id, e);
	const struct trace t = {.kind = TRACE_INTERNAL,
		.target = d->target,
		.path = d->path,
		.name = r->present,
		.dev = d->dev,
		.ino = d->ino,
		.snapshot = d->present_id,
		.date = d->present_date};

	return d->present_id ? trace_put(r->vm, &t, &d->kept, e) : -1;
}

static int put_reverted(struct revert *r, struct revert_disk *d, struct error *e)
{
	const struct trace t = {.kind = TRACE_REVERTED,
		.target = d->target,
		.path = d->path,
		.name = r->present,
		.to = r->point.name,
		.dev = d->dev,
		.ino = d->ino,
		.snapshot = d->present_id,
		.date = d->present_date};

	return trace_put(r->vm, &t, &d->reverted, e);
}

static int keep_present(struct revert *r, struct revert_disk *d, struct error *e)
{
	AUTO_CHAIN struct chain *c = NULL;

	if (vm_go_on(r->vm, e) || put_kept(r, d, e))
		return -1;
	vm_step(r->vm, "snapshot", d->target);
	return disk_open_to_change(d->path, vm_lock_for(r->vm, d->path), &c, e) ||
			       disk_snapshot_create(&c->layers[0], r->present, d->present_date, 0, e)
		       ? -1
		       : 0;
}

static int switch_disk(struct revert *r, struct revert_disk *d, struct error *e)
{
	if (vm_go_on(r->vm, e) || put_kept(r, d, e) || put_reverted(r, d, e))
		return -1;
	vm_step(r->vm, "revert", d->target);
	return disk_snapshot_switch(d->path, vm_lock_for(r->vm, d->path), r->point.name, d->id, r->present,
		d->present_id, d->present_date, e);
}

static int go_back(struct revert *r, struct revert_disk *d, struct error *e)
{
	if (vm_go_on(r->vm, e) || put_reverted(r, d, e))
		return -1;
	vm_step(r->vm, "revert", d->target);
	return disk_snapshot_apply(d->path, vm_lock_for(r->vm, d->path), r->point.name, d->id, e);
}

static int disks_from(struct revert *r, unsigned first,
	int (*deed)(struct revert *r, struct revert_disk *d, struct error *e), struct error *e)
{
	for (unsigned i = first; i < r->point.disk_count; i++)
		if (deed(r, &r->point.disks[i], e))
			return err_prefix(e, "disk %s", r->point.disks[i].target);
	return 0;
}

/* Before one is back, all others have a snapshot of their present: whoever starts a guest on some that are back and some that are not
 * loses nothing. */
static int all_disks(struct revert *r, struct error *e)
{
	struct revert_disk *first = &r->point.disks[0];

	if (disks_from(r, 1, keep_present, e))
		return -1;
	if (switch_disk(r, first, e))
		return err_prefix(e, "disk %s", first->target);
	return disks_from(r, 1, go_back, e);
}

static int define(struct revert *r, struct error *e)
{
	struct vm *vm = r->vm;
	const char *xml = r->opts->xml ? r->opts->xml : r->point.xml;
	const struct trace t = {.kind = TRACE_DEFINED, .name = vm->domain.xml};

	if (!xml || strcmp(xml, vm->domain.xml) == 0)
		return 0;
	if (trace_put(vm, &t, &r->defined, e))
		return -1;
	vm_step(vm, "define", NULL);
	if (vm->driver->ops->define(vm->driver, vm->domain.uuid, xml, e))
		return err_prefix(e, "the definition of snapshot '%s'", r->point.name);
	r->out->defined = true;
	return 0;
}

/* ---- for good ---- */

/* "running", "paused"; NULL: it stays off. */
static char *next_state(const struct revert *r)
{
	static char running[] = "running", paused[] = "paused";

	switch (r->opts->after) {
	case VM_STARTED:
		return running;
	case VM_STARTED_PAUSED:
		return paused;
	default:
		if (r->out->memory) /* of a guest that was saved, too */
			return r->point.was == DRIVER_PAUSED ? paused : running;
		return r->was == DRIVER_RUNNING ? running : r->was == DRIVER_PAUSED ? paused : NULL;
	}
}

/* Devices of the host were detached before the memory was saved. order: before START, so that they come back after it. */
static int put_devices(struct revert *r, struct error *e)
{
	struct vm *vm = r->vm;

	if (!r->out->memory)
		return 0;
	if (vm_look(vm, e))
		return -1;
	for (unsigned i = 0; i < vm->domain.host_device_count; i++)
		if (trace_put(vm, &(struct trace){.kind = TRACE_DEVICE, .name = vm->domain.host_devices[i]}, NULL, e))
			return -1;
	return 0;
}

static int put_what_comes(struct revert *r, struct error *e)
{
	const struct trace start = {.kind = TRACE_START,
				   .name = next_state(r),
				   .path = r->out->memory ? r->point.memory : NULL},
			   unsaved = {.kind = TRACE_UNSAVED};

	if (put_devices(r, e) || (start.name && trace_put(r->vm, &start, NULL, e)))
		return -1;
	return r->saved && trace_put(r->vm, &unsaved, NULL, e) ? -1 : 0;
}

static int decide(struct revert *r, struct error *e)
{
	AUTO_FREE unsigned *ids = mem_calloc(2 * (size_t)r->point.disk_count + 6, sizeof *ids, "traces", e);
	unsigned count = 0, account[2];

	if (!ids || vm_go_on(r->vm, e) || put_what_comes(r, e) || revert_account(r, account, e))
		return -1;
	for (unsigned i = 0; i < 2; i++)
		if (account[i])
			ids[count++] = account[i];
	if (r->ended)
		ids[count++] = r->ended;
	if (r->defined)
		ids[count++] = r->defined;
	if (r->nvram)
		ids[count++] = r->nvram;
	if (r->nvram_kept && r->opts->first)
		ids[count++] = r->nvram_kept;
	for (unsigned i = 0; i < r->point.disk_count; i++) {
		ids[count++] = r->point.disks[i].reverted;
		if (r->opts->first)
			ids[count++] = r->point.disks[i].kept;
	}
	return journal_drop_all(r->vm->journal, ids, count, e);
}

static void record(const struct revert *r)
{
	struct error e;
	AUTO_FREE const char **targets = mem_calloc(r->point.disk_count, sizeof *targets, "targets", &e);

	for (unsigned i = 0; targets && i < r->point.disk_count; i++)
		targets[i] = r->point.disks[i].target;
	vm_record(r->vm, r->present, time(NULL), targets, r->point.disk_count, &e);
}

int vm_revert(struct vm *vm, const struct vm_revert *opts, struct vm_reverted *out, struct error *e)
{
	struct revert r = {.vm = vm, .opts = opts, .out = out};
	struct error later;

	*out = (struct vm_reverted){0};
	int failed = revert_check(&r, e) || vm_go_on(vm, e) || end_guest(&r, e) || hold_disks(&r, e) ||
		     all_disks(&r, e) || define(&r, e) || revert_nvram(&r, e) || decide(&r, e);
	int left = trace_take_back(vm, failed ? &later : e);

	vm_let_go(vm);
	if (!failed && !left)
		(void)vm_look(vm, &later); /* for who asks what it is like now */
	if (failed && left)
		vm_note(vm, "%s", later.msg);
	if (!failed && opts->first) {
		record(&r);
		out->present = STEAL(r.present);
	}
	revert_point_free(&r.point);
	free(r.present);
	free(r.xml_before);
	free(r.nvram_before);
	free(r.nvram_bytes);
	if (!failed && !left)
		return 0;
	vm_reverted_free(out);
	return -1;
}
