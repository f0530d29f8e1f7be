/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: what takes long: block jobs that do not catch up with the guest, a hypervisor that is away for a moment, a deletion.
 */
#include "qcow2/edit.h"
#include "snapshot/internal.h"
#include "tests/unit/vm_fixture.h"

Suite *suite_vm_patience(void);

/* ---- jobs that do not catch up ---- */

START_TEST(test_outrun)
{
	const struct vm_case *c = vm_case_named(_i ? "overlay, a raw disk" : "overlay");
	unsigned left;

	vm_case_set(w, c);
	before = *w;
	w->ready_polls = 1000000;
	w->patience_ms = 50;
	ck_assert_int_eq(vm_case_run(w, c, &left, &e), -1);
	ck_assert_msg(e.code == ERR_LIMIT && strstr(e.msg, "writes as fast"), "%s", e.msg);
	ck_assert_uint_eq(left, 2); /* both disks are on their overlays, without a job, and the guest runs */
	ck_assert_int_eq(w->state, DRIVER_RUNNING);
	for (unsigned i = 0; i < w->disk_count; i++)
		ck_assert(w->disks[i].job == DRIVER_NO_JOB && strstr(w->disks[i].defined.images[0].path, ".qsnap-s"));
	w->ready_polls = 3;
	ck_assert_msg(!vm_run_recover(w, &e), "%s", e.msg);
	vm_case_judge(w, &before, c, true, "outrun");
}
END_TEST

static void cancels_commit(struct world *m)
{
	if (m->disks[1].job == DRIVER_COMMIT)
		atomic_store(&m->cancel, true);
}

START_TEST(test_commit_cancelled)
{
	const struct vm_case *c = vm_case_named("overlay");
	unsigned left, cancelled = 0;

	for (unsigned k = 1; !cancelled; k++) {
		vm_case_set(w, c);
		before = *w;
		w->ready_polls = 5;
		w->at = k;
		w->event = EVENT_HOOK;
		w->hook = cancels_commit;
		int failed = vm_case_run(w, c, &left, &e);

		ck_assert_uint_ge(w->steps, k);
		if (failed) {
			ck_assert_msg(e.code == ERR_CANCELLED && strstr(e.msg, "still on the overlay"), "%s", e.msg);
			ck_assert_uint_ge(left, 1);
			cancelled++;
		}
		ck_assert_msg(!vm_run_recover(w, &e), "%s", e.msg);
		vm_case_judge(w, &before, c, true, "commit cancelled");
	}
}
END_TEST

START_TEST(test_synchronous)
{
	const struct vm_case *c = vm_case_named("live");
	unsigned left;

	vm_case_set(w, c);
	before = *w;
	w->ready_polls = 1000000;
	w->patience_ms = 50;
	ck_assert_msg(!vm_case_run(w, c, &left, &e), "%s", e.msg);
	vm_case_judge(w, &before, c, true, "synchronous");
}
END_TEST

/* ---- a hypervisor that is away for a moment ---- */

START_TEST(test_away)
{
	const struct vm_case *c = &vm_cases[_i];
	bool reached = true;
	unsigned left;

	for (unsigned k = 3; reached; k++) { /* from the first look of the command itself on */
		vm_case_set(w, c);
		before = *w;
		w->at = k;
		w->event = EVENT_LOST;
		w->lost_steps = 4;
		w->retry_ms = 100;
		int failed = vm_case_run(w, c, &left, &e);

		reached = w->steps >= k;
		ck_assert_msg(!left, "%s: away from step %u on: %u left: %s", c->name, k, left,
			failed ? e.msg : "done");
		vm_case_judge(w, &before, c, !failed, c->name);
	}
}
END_TEST

/* ---- how long QEMU would hold the guest ---- */

START_TEST(test_stall)
{
	enum { TABLES = 17, CLUSTER = 2 << 20 };
	const uint64_t span = (uint64_t)CLUSTER / 8 * CLUSTER;
	struct vm vm = {.opts = {.max_pause = 1}};
	struct image_create create;
	struct io *file;
	uint64_t ms;

	image_create_defaults(&create, IMAGE_QCOW2);
	create.size = TABLES * span;
	create.cluster_size = CLUSTER;
	ck_assert(!io_file_create(&file, "large.qcow2", &e) && !image_create_run(&create, file, NULL, &e));
	io_close(file);
	ck_assert(!stall_ms("large.qcow2", &ms, &e) && ms == 0);
	ck_assert_int_eq(stall_of_deletion(&vm, "vda", "large.qcow2", &e), 0);

	const struct chain_opts opts = {.format = IMAGE_QCOW2, .write = true, .lock = IO_LOCK_NONE};
	AUTO_CHAIN struct chain *c = NULL;
	struct edited ed;

	ck_assert(!chain_open(&c, "large.qcow2", &opts, &e) && !edited_open(&ed, c, 0, NULL, &e));
	for (unsigned i = 0; i < TABLES; i++)
		ck_assert(!edit_zero(ed.ed, i * span, CLUSTER, EDIT_SAY_ZERO, &e));
	ck_assert(!edited_close(&ed, &e));
	ck_assert(!stall_ms("large.qcow2", &ms, &e) && ms > 2000 && ms < 3000);
	ck_assert_int_eq(stall_of_deletion(&vm, "vda", "large.qcow2", &e), -1);
	ck_assert_msg(e.code == ERR_LIMIT && strstr(e.msg, "1 s"), "%s", e.msg);
	vm.opts.max_pause = 3;
	ck_assert_int_eq(stall_of_deletion(&vm, "vda", "large.qcow2", &e), 0);
	vm.opts.max_pause = 0; /* 30 */
	ck_assert_int_eq(stall_of_deletion(&vm, "vda", "large.qcow2", &e), 0);
}
END_TEST

Suite *suite_vm_patience(void)
{
	Suite *s = suite_create("vm_patience");
	TCase *t = tcase_create("patience");

	vm_fixture(t, 120);
	tcase_add_loop_test(t, test_outrun, 0, 2);
	tcase_add_test(t, test_commit_cancelled);
	tcase_add_test(t, test_synchronous);
	tcase_add_loop_test(t, test_away, 0, vm_case_count);
	tcase_add_test(t, test_stall);
	suite_add_tcase(s, t);
	return s;
}
