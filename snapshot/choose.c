/* SPDX-License-Identifier: Apache-2.0
 *
 * Which mode it is to be. QEMU takes an internal snapshot of a running guest while the guest stands still, for as long as
 * reading and writing all its L2 tables takes; so their count is what decides.
 */
#include "snapshot/internal.h"

enum { SHORT_MS = 50 };

static bool all_qcow2(const struct take *t)
{
	for (unsigned i = 0; i < t->part_count; i++)
		if (t->parts[i].format != DRIVER_QCOW2)
			return false;
	return true;
}

/* Of the qcow2 disks. */
static int estimate_ms(const struct take *t, uint64_t *ms, struct error *e)
{
	uint64_t one;

	*ms = 0;
	for (unsigned i = 0; i < t->part_count; i++) {
		if (t->parts[i].format != DRIVER_QCOW2)
			continue;
		if (stall_ms(t->parts[i].path, &one, e))
			return -1;
		*ms += one;
	}
	return 0;
}

/* Why internal snapshots of a running guest cannot be: 0 when they can. `ms`: how long they would hold it. */
static int refuse_internal(const struct take *t, uint64_t ms, struct error *e)
{
	if (!all_qcow2(t))
		return err_set(e, ERR_UNSUPPORTED, "internal snapshots need qcow2 disks");
	if (ms > t->opts->max_pause * 1000ull)
		return err_set(e, ERR_LIMIT,
			"internal snapshots would hold the guest for about %llu ms, more than the %u s that it may",
			(unsigned long long)ms, t->opts->max_pause);
	return 0;
}

/* An overlay changes disks' files for a while: libvirt's own records of external snapshots name them. */
static int refuse_overlay(const struct take *t, struct error *e)
{
	if (t->opts->keep)
		return err_set(e, ERR_UNSUPPORTED,
			"a snapshot by overlay leaves nothing in the disks that could be kept");
	if (t->domain.snapshots)
		return err_set(e, ERR_UNSUPPORTED,
			"domain '%s' has external snapshots of libvirt's own, whose records an overlay would make "
			"wrong",
			t->domain.name);
	return 0;
}

/* QEMU closes the disks of a guest whose memory it has written until that runs, and a paused one is not ours to run. */
static int refuse_memory(const struct take *t, struct error *e)
{
	if (!t->opts->memory || (t->domain.state == DRIVER_RUNNING && !t->domain.host_device_count))
		return 0;
	return err_set(e, ERR_UNSUPPORTED, "domain '%s' %s: its memory can be taken cold", t->domain.name,
		t->domain.host_device_count ? "has a device of the host" : "is paused");
}

static enum vm_via best_via(const struct take *t, uint64_t ms)
{
	const struct vm_take *o = t->opts;

	if (o->via != VM_VIA_ANY)
		return o->via;
	return all_qcow2(t) && (o->keep || ms < SHORT_MS) ? VM_VIA_INTERNAL : VM_VIA_OVERLAY;
}

static int choose_via(struct take *t, struct error *e)
{
	bool qcow2 = all_qcow2(t);
	uint64_t ms = 0;

	if (refuse_memory(t, e))
		return -1;
	if (qcow2 && estimate_ms(t, &ms, e))
		return -1;
	t->out->via = best_via(t, ms);
	if (t->out->via == VM_VIA_INTERNAL ? refuse_internal(t, ms, e) : refuse_overlay(t, e))
		return -1;
	if (t->out->via == VM_VIA_INTERNAL)
		vm_note(t->vm, "instant by internal snapshots, which hold the guest for about %llu ms",
			(unsigned long long)ms);
	else if (qcow2)
		vm_note(t->vm, "instant by overlay: internal snapshots would hold the guest for about %llu ms",
			(unsigned long long)ms);
	else
		vm_note(t->vm, "instant by overlay: not all disks are qcow2");
	return 0;
}

/* The disks are read after the guest was started, so that an internal snapshot is deleted beside it, by QEMU, which may take longer
 * than the save did. */
static int choose_cold(struct take *t, struct error *e)
{
	const struct vm_take *o = t->opts;
	uint64_t ms;

	t->out->via = o->via;
	if (o->via == VM_VIA_OVERLAY)
		return refuse_overlay(t, e);
	if (o->via != VM_VIA_ANY || o->keep || o->extract_stopped)
		return 0;
	if (estimate_ms(t, &ms, e))
		return -1;
	if (ms < SHORT_MS)
		return 0;
	if (refuse_overlay(t, e)) {
		vm_note(t->vm, "deleting the internal snapshots will hold the guest for about %llu ms; by overlay: %s",
			(unsigned long long)ms, e->msg);
		return 0;
	}
	t->out->via = VM_VIA_OVERLAY;
	vm_note(t->vm, "cold by overlay: deleting internal snapshots would hold the guest for about %llu ms",
		(unsigned long long)ms);
	return 0;
}

/* Instant, else live, else cold, by what the disks allow. */
static int choose_auto(struct take *t, struct error *e)
{
	t->out->mode = VM_INSTANT;
	if (!choose_via(t, e))
		return 0;
	if (t->opts->via != VM_VIA_ANY || (e->code != ERR_UNSUPPORTED && e->code != ERR_LIMIT))
		return -1;
	t->out->mode = t->opts->keep || t->opts->memory ? VM_COLD : VM_LIVE;
	t->out->via = VM_VIA_ANY;
	vm_note(t->vm, "%s, not instant: %s", vm_mode_name(t->out->mode), e->msg);
	return 0;
}

static int refuse_busy(const struct take *t, struct error *e)
{
	if (t->domain.job)
		return err_set(e, ERR_BUSY, "domain '%s': a job runs on it (%s)", t->domain.name, t->domain.job);
	for (unsigned i = 0; i < t->part_count; i++)
		if (t->parts[i].disk->busy)
			return err_set(e, ERR_BUSY, "disk %s: a block job runs on it", t->parts[i].disk->target);
	return 0;
}

/* The file systems of a guest that shut itself down are at rest; of one that was stopped, or saved, nobody can put them there. */
static int choose_quiesced(const struct take *t, struct error *e)
{
	if (t->opts->quiesce == VM_QUIESCE_NO || vm_active(t->vm))
		return 0;
	t->out->quiesced = t->domain.ended_well;
	if (t->domain.ended_well)
		return 0;
	if (t->opts->quiesce == VM_QUIESCE_REQUIRED)
		return err_set(e, ERR_UNSUPPORTED,
			"domain '%s' is %s, and not known to have shut itself down: its file systems may not be at "
			"rest",
			t->domain.name, t->domain.saved ? "saved" : "shut off");
	vm_note(t->vm, "not quiesced: the guest is %s, and not known to have shut itself down",
		t->domain.saved ? "saved" : "shut off");
	return 0;
}

/* What a mode demands of the domain. */
static int refuse_mode(const struct take *t, struct error *e)
{
	if (t->opts->keep && t->out->mode == VM_LIVE)
		return err_set(e, ERR_UNSUPPORTED, "a live snapshot leaves nothing in the disks that could be kept");
	if (t->opts->keep && !all_qcow2(t))
		return err_set(e, ERR_UNSUPPORTED, "only qcow2 disks keep a snapshot inside");
	if (t->out->mode == VM_COLD && vm_active(t->vm) && !t->domain.persistent)
		return err_set(e, ERR_UNSUPPORTED, "domain '%s' is transient: it would be gone when it is stopped",
			t->domain.name);
	return 0;
}

int take_choose(struct take *t, struct error *e)
{
	const struct vm_take *o = t->opts;

	if (t->domain.state == DRIVER_BETWEEN)
		return err_set(e, ERR_UNSUPPORTED, "domain '%s' is neither running, paused nor shut off",
			t->domain.name);
	if (refuse_busy(t, e))
		return -1;
	t->out->mode = t->domain.state == DRIVER_SHUT_OFF ? VM_COLD : o->mode;
	if (o->memory && o->mode == VM_LIVE && vm_active(t->vm)) /* no copy of disks ends with the memory */
		t->out->mode = VM_INSTANT;
	if (t->out->mode == VM_AUTO ? choose_auto(t, e) : t->out->mode == VM_INSTANT && choose_via(t, e))
		return -1;
	if (refuse_mode(t, e) || (t->out->mode == VM_COLD && vm_active(t->vm) && choose_cold(t, e)))
		return -1;
	return choose_quiesced(t, e);
}
