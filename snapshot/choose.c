/* SPDX-License-Identifier: Apache-2.0
 *
 * Which mode it is to be. QEMU takes an internal snapshot of a running guest while the guest stands still, for as long as
 * reading and writing all its L2 tables takes; so their count is what decides.
 */
#include "snapshot/internal.h"

/* Measured with QEMU 7.2 and 10.0: a table of 64 KiB takes 0.8 ms while all fit in the 32 MiB of QEMU's cache, 4.4 ms beyond. */
enum { TABLE_US = 800, TABLE_BEYOND_US = 4400, TABLE_BYTES = 65536, CACHE_BYTES = 32 << 20, SHORT_MS = 50 };

static bool all_qcow2(const struct take *t)
{
	for (unsigned i = 0; i < t->part_count; i++)
		if (t->parts[i].format != DRIVER_QCOW2)
			return false;
	return true;
}

static int estimate_ms(const struct take *t, uint64_t *ms, struct error *e)
{
	uint64_t us = 0;

	for (unsigned i = 0; i < t->part_count; i++) {
		uint64_t tables, bytes, all;

		if (disk_tables(t->parts[i].path, &tables, &bytes, e))
			return -1;
		all = tables * bytes;
		us += div_round_up(all, TABLE_BYTES) * (all > CACHE_BYTES ? TABLE_BEYOND_US : TABLE_US);
	}
	*ms = us / 1000;
	return 0;
}

static int choose_via(struct take *t, struct error *e)
{
	const struct vm_take *o = t->opts;
	bool qcow2 = all_qcow2(t);
	uint64_t ms = 0, most = o->keep ? o->max_pause * 1000ull : SHORT_MS;

	if (o->via == VM_VIA_INTERNAL && !qcow2)
		return err_set(e, ERR_UNSUPPORTED, "internal snapshots need qcow2 disks");
	if (qcow2 && estimate_ms(t, &ms, e))
		return -1;
	t->out->via = o->via;
	if (o->via == VM_VIA_ANY)
		t->out->via = qcow2 && ms < most ? VM_VIA_INTERNAL : VM_VIA_OVERLAY;
	if (t->out->via == VM_VIA_OVERLAY && o->keep)
		return err_set(e, ERR_UNSUPPORTED,
			qcow2 ? "internal snapshots that stay would hold the guest for about %llu ms, more than the "
				"most that it may"
			      : "only qcow2 disks keep a snapshot inside",
			(unsigned long long)ms);
	if (t->out->via == VM_VIA_INTERNAL && ms > o->max_pause * 1000ull)
		return err_set(e, ERR_LIMIT,
			"internal snapshots would hold the guest for about %llu ms, more than the most that it may",
			(unsigned long long)ms);
	if (!qcow2)
		vm_note(t->vm, "instant by overlay: not all disks are qcow2");
	else
		vm_note(t->vm, "instant by %s: internal snapshots would hold the guest for about %llu ms",
			t->out->via == VM_VIA_INTERNAL ? "internal snapshots" : "overlay", (unsigned long long)ms);
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

int take_choose(struct take *t, struct error *e)
{
	const struct vm_take *o = t->opts;

	if (t->domain.state == DRIVER_BETWEEN)
		return err_set(e, ERR_UNSUPPORTED, "domain '%s' is neither running, paused nor shut off",
			t->domain.name);
	if (refuse_busy(t, e))
		return -1;
	t->out->mode = o->mode == VM_AUTO ? VM_INSTANT : o->mode;
	if (t->domain.state == DRIVER_SHUT_OFF)
		t->out->mode = VM_COLD;
	if (o->keep && t->out->mode == VM_LIVE)
		return err_set(e, ERR_UNSUPPORTED, "a live snapshot leaves nothing in the disks that could be kept");
	if (o->keep && !all_qcow2(t))
		return err_set(e, ERR_UNSUPPORTED, "only qcow2 disks keep a snapshot inside");
	return t->out->mode == VM_INSTANT ? choose_via(t, e) : 0;
}
