/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: what is refused before anything is done to the machine, what is left out, and what is given up for want of space.
 */
#include "tests/unit/scratch.h"
#include "tests/unit/vm_fixture.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *suite_vm_refusals(void);

static const char *const second[] = {"vdb"}, *const unknown[] = {"vda", "vdz"};

static void foreign_job(struct world *m, struct vm_take *t)
{
	(void)t;
	m->foreign_job = true;
}
static void block_job(struct world *m, struct vm_take *t)
{
	(void)t;
	m->disks[1].job = DRIVER_OTHER_JOB;
}
static void readonly(struct world *m, struct vm_take *t)
{
	m->disks[1].readonly = true;
	t->disks = second;
	t->disk_count = 1;
}
static void shareable(struct world *m, struct vm_take *t)
{
	readonly(m, t);
	m->disks[1].readonly = false;
	m->disks[1].shareable = true;
}
static void transient(struct world *m, struct vm_take *t)
{
	readonly(m, t);
	m->disks[1].readonly = false;
	m->disks[1].transient = true;
}
static void encrypted(struct world *m, struct vm_take *t)
{
	readonly(m, t);
	m->disks[1].readonly = false;
	m->disks[1].encrypted = true;
}
static void network(struct world *m, struct vm_take *t)
{
	readonly(m, t);
	m->disks[1].readonly = false;
	m->disks[1].network = true;
}
static void other_format(struct world *m, struct vm_take *t)
{
	readonly(m, t);
	m->disks[1].readonly = false;
	m->disks[1].other_format = true;
}
static void all_readonly(struct world *m, struct vm_take *t)
{
	(void)t;
	m->disks[0].readonly = m->disks[1].readonly = true;
}
static void no_such_disk(struct world *m, struct vm_take *t)
{
	(void)m;
	t->disks = unknown;
	t->disk_count = 2;
}
static void slash(struct world *m, struct vm_take *t)
{
	(void)m;
	t->name = "a/b";
}
static void dot(struct world *m, struct vm_take *t)
{
	(void)m;
	t->name = "..";
}
static void no_name(struct world *m, struct vm_take *t)
{
	(void)m;
	t->name = "";
}
static void control(struct world *m, struct vm_take *t)
{
	(void)m;
	t->name = "a\nb";
}
static void long_name(struct world *m, struct vm_take *t)
{
	static char name[300];

	(void)m;
	memset(name, 'x', sizeof name - 1);
	t->name = name;
}
static void name_exists(struct world *m, struct vm_take *t)
{
	(void)t;
	world_instant(m);
	for (unsigned i = 0; i < m->disk_count; i++)
		ck_assert_int_eq(world_snapshot(m->disks[i].in_use.images[0].path, "s", true, &e), 0);
	m->kept = "s";
}
static void external(struct world *m, struct vm_take *t)
{
	m->external_records = true;
	t->mode = VM_INSTANT;
	t->via = VM_VIA_OVERLAY;
}
static void keep_live(struct world *m, struct vm_take *t)
{
	(void)m;
	t->mode = VM_LIVE;
	t->keep = true;
}
static void keep_overlay(struct world *m, struct vm_take *t)
{
	(void)m;
	t->mode = VM_INSTANT;
	t->via = VM_VIA_OVERLAY;
	t->keep = true;
}
static void transient_cold(struct world *m, struct vm_take *t)
{
	m->transient = true;
	t->mode = VM_COLD;
}
static void between(struct world *m, struct vm_take *t)
{
	(void)t;
	m->state = DRIVER_BETWEEN;
}
static void nowhere(struct world *m, struct vm_take *t)
{
	(void)m;
	t->to = NULL;
}
static void one_stream(struct world *m, struct vm_take *t)
{
	(void)m;
	t->to = "-";
}
static void a_file(struct world *m, struct vm_take *t)
{
	(void)m;
	t->to = "base.qcow2";
}
static void manifest(struct world *m, struct vm_take *t)
{
	(void)m;
	t->to = ".earlier";
	mkdir(".earlier", 0700);
	scratch_file(".earlier/manifest.json", "{}", 2);
}
static void unknown_backing(struct world *m, struct vm_take *t)
{
	m->network_below = true;
	t->mode = VM_LIVE;
	t->compress = true;
}
static void no_agent(struct world *m, struct vm_take *t)
{
	m->agent = false;
	t->quiesce = VM_QUIESCE_REQUIRED;
}
static void freeze_fails(struct world *m, struct vm_take *t)
{
	m->no_freeze = true;
	t->quiesce = VM_QUIESCE_REQUIRED;
}
static void copies_break(struct world *m, struct vm_take *t)
{
	t->mode = VM_LIVE;
	m->copies_break = true;
}
static void full(struct world *m, struct vm_take *t)
{
	(void)t;
	m->free_bytes = 10 << 20; /* of 1 GiB */
}
static void full_for_copies(struct world *m, struct vm_take *t)
{
	t->mode = VM_LIVE;
	m->free_bytes = ((1ull << 30) / 20 & ~4095ull) + 8192;
}

static const struct {
	void (*set)(struct world *m, struct vm_take *t);
	enum err_code code;
	const char *text; /* in the message */
} refused[] = {
	{foreign_job, ERR_BUSY, "migration"},
	{block_job, ERR_BUSY, "vdb"},
	{readonly, ERR_UNSUPPORTED, "vdb: read-only"},
	{shareable, ERR_UNSUPPORTED, "vdb: shared"},
	{transient, ERR_UNSUPPORTED, "vdb: transient"},
	{encrypted, ERR_UNSUPPORTED, "vdb: encrypted"},
	{network, ERR_UNSUPPORTED, "vdb: not a local"},
	{other_format, ERR_UNSUPPORTED, "vdb: neither"},
	{all_readonly, ERR_UNSUPPORTED, "no disk"},
	{no_such_disk, ERR_NOT_FOUND, "vdz"},
	{slash, ERR_USAGE, "a/b"},
	{dot, ERR_USAGE, "'..'"},
	{no_name, ERR_USAGE, "''"},
	{control, ERR_USAGE, "control"},
	{long_name, ERR_USAGE, "200"},
	{name_exists, ERR_USAGE, "'s' already"},
	{external, ERR_UNSUPPORTED, "external"},
	{keep_live, ERR_UNSUPPORTED, "kept"},
	{keep_overlay, ERR_UNSUPPORTED, "kept"},
	{transient_cold, ERR_UNSUPPORTED, "transient"},
	{between, ERR_UNSUPPORTED, "neither running"},
	{nowhere, ERR_USAGE, "neither kept"},
	{one_stream, ERR_USAGE, "stream"},
	{a_file, ERR_USAGE, "base.qcow2"},
	{manifest, ERR_USAGE, "manifest.json exists"},
	{unknown_backing, ERR_UNSUPPORTED, "backing file"},
	{no_agent, ERR_UNSUPPORTED, "agent"},
	{freeze_fails, ERR_IO, "freeze"},
	{copies_break, ERR_IO, "at its end"},
	{full, ERR_LIMIT, "free"},
	{full_for_copies, ERR_LIMIT, "free"},
};

static const struct vm_case plain = {
	"plain", BEFORE_RUNNING, false, VM_AUTO, VM_VIA_ANY, false, false, false, false, NO_MEMORY};

START_TEST(test_refused)
{
	struct vm_take t;
	unsigned left;

	vm_case_set(w, &plain);
	vm_case_options(&plain, &t);
	refused[_i].set(w, &t);
	before = *w;
	ck_assert_int_eq(vm_run(w, &t, &left, &e), -1);
	ck_assert_msg(e.code == refused[_i].code && strstr(e.msg, refused[_i].text), "%d %s", e.code, e.msg);
	ck_assert_uint_eq(left, 0);
	world_judge(w, &before, refused[_i].text);
	world_judge_output(w, false, refused[_i].text);
	if (refused[_i].set == manifest)
		ck_assert_int_eq(access(".earlier/manifest.json", F_OK), 0);
}
END_TEST

/* Not asked for by name: left out, and the rest is done. */
START_TEST(test_left_out)
{
	struct vm_take t;
	unsigned left;

	vm_case_set(w, &plain);
	vm_case_options(&plain, &t);
	refused[2 + _i].set(w, &t);
	t.disks = NULL;
	t.disk_count = 0;
	before = *w;
	ck_assert_msg(!vm_run(w, &t, &left, &e), "%s", e.msg);
	world_judge(w, &before, refused[2 + _i].text);
	w->disk_count = 1; /* what the output is to have */
	world_judge_output(w, true, refused[2 + _i].text);
	w->disk_count = 2;
}
END_TEST

START_TEST(test_freeze_tried)
{
	struct vm_take t;
	unsigned left;

	vm_case_set(w, &vm_cases[_i]);
	vm_case_options(&vm_cases[_i], &t);
	t.quiesce = VM_QUIESCE_TRY;
	w->no_freeze = true;
	before = *w;
	ck_assert_msg(!vm_run(w, &t, &left, &e), "%s", e.msg);
	ck_assert_uint_eq(w->freezes, 0);
	vm_case_judge(w, &before, &vm_cases[_i], true, vm_cases[_i].name);
}
END_TEST

/* ---- space that goes while the guest writes ---- */

static void fills_up(struct world *m)
{
	m->free_bytes = 10 << 20;
}

START_TEST(test_fills_up)
{
	const struct vm_case *c = &vm_cases[_i];
	unsigned left, given_up = 0;

	if (c->mode != VM_LIVE && c->mode != VM_INSTANT)
		return;
	for (unsigned k = 1;; k++) {
		vm_case_set(w, c);
		before = *w;
		w->at = k;
		w->event = EVENT_HOOK;
		w->hook = fills_up;
		int failed = vm_case_run(w, c, &left, &e);
		bool reached = w->steps >= k;

		w->free_bytes = 0;
		if (failed) {
			given_up++;
			ck_assert_msg(e.code == ERR_LIMIT && strstr(e.msg, "free"), "%s: step %u: %s", c->name, k,
				e.msg);
		}
		ck_assert_uint_eq(left, 0); /* the snapshot is given up, not the guest */
		vm_case_judge(w, &before, c, !failed, c->name);
		if (!reached)
			break;
	}
	ck_assert_uint_gt(given_up, world_active(&before) ? 3 : 0);
}
END_TEST

/* The destination is full: at each write of it. */
START_TEST(test_destination_full)
{
	const struct vm_case *c = &vm_cases[_i];
	unsigned left, k = 0;
	int failed;

	do {
		vm_case_set(w, c);
		before = *w;
		image_fault_at(++k);
		failed = vm_case_run(w, c, &left, &e);
		image_fault_at(0);
		ck_assert(!failed || e.sys_errno == ENOSPC);
		ck_assert_uint_eq(left, 0);
		vm_case_judge(w, &before, c, !failed, c->name);
	} while (failed);
	ck_assert_uint_gt(k, 2);
}
END_TEST

Suite *suite_vm_refusals(void)
{
	Suite *s = suite_create("vm_refusals");
	TCase *t = tcase_create("refusals");

	vm_fixture(t, 120);
	tcase_add_loop_test(t, test_refused, 0, (int)(sizeof refused / sizeof *refused));
	tcase_add_loop_test(t, test_left_out, 0, 6);
	tcase_add_loop_test(t, test_freeze_tried, 0, vm_case_count);
	tcase_add_loop_test(t, test_destination_full, 0, vm_case_count);
	tcase_add_loop_test(t, test_fills_up, 0, vm_case_count); /* the modes of a guest that goes on meanwhile */
	suite_add_tcase(s, t);
	return s;
}
