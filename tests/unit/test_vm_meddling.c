/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: somebody else does something to the machine in the middle, and recovery of a machine that is not what it was; deleting
 * a snapshot, with each step failing and dying. No write of the guest is lost, and nothing is done to a file that is not the disk's.
 */
#include "tests/unit/scratch.h"
#include "tests/unit/vm_fixture.h"

#include <sys/wait.h>
#include <unistd.h>

Suite *suite_vm_meddling(void);

/* ---- somebody else, at each step ---- */

static void started(struct world *m)
{
	if (m->state != DRIVER_SHUT_OFF || !m->saved)
		return;
	m->state = m->saved_paused ? DRIVER_PAUSED : DRIVER_RUNNING;
	m->saved = false;
	world_tick(m);
}

static void saved_state_removed(struct world *m)
{
	if (!m->saved || strcmp(m->last_op, "start") == 0) /* between a look and a start nobody can know */
		return;
	m->saved = false;
	before.state = DRIVER_SHUT_OFF; /* it cannot come back as it was, and is not started as another */
}

static void paused(struct world *m)
{
	if (m->state != DRIVER_RUNNING || strcmp(m->last_op, "suspend") == 0)
		return;
	m->state = before.state = DRIVER_PAUSED;
	m->paused_by_user = before.paused_by_user = true;
	if (!m->instant_was)
		world_instant(m);
}

static const struct {
	const char *name;
	const char *in;
	void (*hook)(struct world *m);
} meddlers[] = {
	{"cold", "somebody starts it", started},
	{"cold, kept", "somebody starts it", started},
	{"cold, a raw disk", "somebody starts it", started},
	{"cold, extracted while stopped", "somebody starts it", started},
	{"cold, extracted while stopped", "somebody removes the saved state", saved_state_removed},
	{"cold, kept", "somebody removes the saved state", saved_state_removed},
	{"live, a raw disk", "somebody pauses it", paused},
	{"overlay, a raw disk", "somebody pauses it", paused},
	{"internal, kept", "somebody pauses it", paused},
	{"internal, memory, kept", "somebody pauses it", paused},
};

START_TEST(test_meddled)
{
	struct vm_case c = *vm_case_named(meddlers[_i].name);
	struct error later;
	unsigned left, k = 0;
	char what[1200];

	c.quiesce = c.quiesce && meddlers[_i].hook != paused; /* no paused guest thaws anything */
	do {
		vm_case_set(w, &c);
		before = *w;
		before.device_attached = w->device_attached = !strstr(meddlers[_i].in, "removes");
		w->device = w->device_attached;
		w->at = ++k;
		w->event = EVENT_HOOK;
		w->hook = meddlers[_i].hook;
		int failed = vm_case_run(w, &c, &left, &e);
		bool reached = w->steps >= k;

		snprintf(what, sizeof what, "%s: %s at step %u (%s)", c.name, meddlers[_i].in, k,
			failed ? e.msg : "done");
		ck_assert_msg(!failed || reached, "%s", what);
		if (vm_run_recover(w, &later))
			ck_abort_msg("%s; recovery: %s", what, later.msg);
		vm_case_judge(w, &before, &c, !failed, what);
		if (!reached)
			break;
	} while (true);
	ck_assert_uint_gt(k, 5);
}
END_TEST

/* ---- the definition is late ---- */

static int in_child(int (*deed)(const struct vm_case *c), const struct vm_case *c)
{
	int status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (!child)
		_exit(deed(c));
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int take(const struct vm_case *c)
{
	unsigned left;

	return vm_case_run(w, c, &left, &e) ? 1 : 0;
}

/* All die when the guest has left the overlay, but its definition has not. */
START_TEST(test_late_definition)
{
	const struct vm_case *c = vm_case_named(_i & 1 ? "overlay, a raw disk" : "overlay");
	bool more = true;

	for (unsigned k = 1; more; k++) {
		char what[200];

		vm_case_set(w, c);
		before = *w;
		w->late_definition = true;
		w->at = k;
		w->event = _i & 2 ? EVENT_DIE : EVENT_DIE_AFTER;
		int status = in_child(take, c);

		more = w->steps >= k;
		snprintf(what, sizeof what, "%s: all died at step %u (%s)", c->name, k, w->last_op);
		ck_assert_msg(status == 0 || status == DIED, "%s: status %d", what, status);
		if (world_active(w) && status == DIED) {
			world_crash(w);
			before.state = DRIVER_SHUT_OFF;
		}
		if (vm_run_recover(w, &e))
			ck_abort_msg("%s: recovery: %s", what, e.msg);
		vm_case_judge(w, &before, c, status == 0, what);
	}
}
END_TEST

/* ---- another file in the place of the disk ---- */

static void copy_file(const char *from, const char *to)
{
	size_t len;
	AUTO_FREE char *bytes = scratch_read(from, &len);

	scratch_file(to, bytes, len);
}

static const char *const exchanged[] = {"internal", "overlay", "cold"};

START_TEST(test_exchanged)
{
	const struct vm_case *c = vm_case_named(exchanged[_i]);
	unsigned refused = 0;
	int status;

	for (unsigned k = 1;; k++) {
		vm_case_set(w, c);
		before = *w;
		w->at = k;
		w->event = EVENT_DIE_AFTER;
		status = in_child(take, c);
		if (w->steps < k)
			break;
		if (world_active(w)) {
			before.state = DRIVER_SHUT_OFF;
			world_crash(w); /* so that the file is not in use */
		}
		ck_assert_int_eq(rename("vda.qcow2", ".vda"), 0);
		copy_file(".vda", "vda.qcow2");
		if (vm_run_recover(w, &e)) {
			size_t len, was;
			AUTO_FREE char *now = scratch_read("vda.qcow2", &len), *then = scratch_read(".vda", &was);

			ck_assert_int_eq(e.code, ERR_CHANGED);
			ck_assert(len == was && !memcmp(now, then, len)); /* nothing was done to it */
			ck_assert_int_eq(access("state/" WORLD_UUID ".journal", F_OK), 0);
			refused++;
		}
		if (before.saved != w->saved) /* what was stopped was started nevertheless */
			ck_abort_msg("step %u: saved", k);
		if (world_active(w)) {
			before.state = DRIVER_SHUT_OFF;
			world_crash(w);
		}
		ck_assert_int_eq(rename(".vda", "vda.qcow2"), 0);
	}
	ck_assert_int_eq(status, 0);
	ck_assert_uint_gt(refused, 1);
}
END_TEST

/* ---- a hypervisor that does not know what its guest does ---- */

static void die_after(const struct vm_case *c, const char *op)
{
	for (unsigned k = 1;; k++) {
		vm_case_set(w, c);
		before = *w;
		w->at = k;
		w->event = EVENT_DIE_AFTER;
		int status = in_child(take, c);

		if (status == DIED && strcmp(w->last_op, op) == 0)
			return;
		ck_assert_uint_ge(w->steps, k);
	}
}

/* It was killed before it could write down that the guest is on an overlay, which is where the guest's writes go. */
START_TEST(test_unknown_overlay)
{
	static const char *const overlays[] = {"vda.qcow2.qsnap-s", "vdb.qcow2.qsnap-s"};
	struct io *guest[2];

	die_after(vm_case_named("overlay"), "overlay");
	for (unsigned i = 0; i < w->disk_count; i++) {
		w->disks[i].in_use = before.disks[i].in_use;
		w->disks[i].defined = before.disks[i].defined;
	}
	for (unsigned i = 0; i < 2; i++)
		ck_assert(!io_file_open(&guest[i], overlays[i], IO_OPEN_WRITE, &e) &&
			  !io_lock(guest[i], IO_LOCK_WRITE, &e));
	ck_assert_int_eq(vm_run_recover(w, &e), -1);
	ck_assert_msg(strstr(e.msg, "in use"), "%s", e.msg);
	ck_assert_int_eq(access(overlays[0], F_OK), 0);
	io_close(guest[0]);
	io_close(guest[1]);
	ck_assert_int_eq(vm_run_recover(w, &e), -1); /* it runs without what it wrote last */
	ck_assert_msg(e.code == ERR_CHANGED && strstr(e.msg, "without it"), "%s", e.msg);
	ck_assert(!access(overlays[0], F_OK) && !access(overlays[1], F_OK));
}
END_TEST

/* The same name in another file that the disk has by now: it is another snapshot. */
START_TEST(test_other_top)
{
	static const char other[] = "other.qcow2";

	die_after(vm_case_named("internal"), "internal_create");
	copy_file("vda.qcow2", other);
	strcpy(w->disks[0].in_use.images[0].path, other);
	ck_assert_int_eq(vm_run_recover(w, &e), -1);
	ck_assert_int_eq(e.code, ERR_CHANGED);
	ck_assert(!world_snapshot(other, "s", false, &e)); /* it is still there to be deleted */
}
END_TEST

/* Who recovers need not be in the folder that the names of the images were said in. */
START_TEST(test_other_folder)
{
	static const char key[] = "\"path\":\"";
	unsigned paths = 0;
	size_t len;

	die_after(vm_case_named("live"), "copy");
	AUTO_FREE char *journal = scratch_read("state/" WORLD_UUID ".journal", &len);

	journal[len - 1] = 0;
	for (const char *p = journal; (p = strstr(p, key)); p += sizeof key - 1, paths++)
		ck_assert_msg(p[sizeof key - 1] == '/', "%s", p);
	ck_assert_uint_ge(paths, 2);
	ck_assert_msg(!vm_run_recover(w, &e), "%s", e.msg);
}
END_TEST

/* ---- deleting ---- */

static int delete_kept(void)
{
	struct vm_opts o = {.driver = scripted_driver_new(w), .domain = "machine", .state_dir = "state", .retry_ms = 1};
	struct vm *vm;
	int failed = vm_open(&vm, &o, &e);

	if (!failed) {
		failed = vm_delete(vm, "s", &e);
		vm_close(vm);
	}
	driver_close(o.driver);
	return failed;
}

static int delete_in_child(const struct vm_case *c)
{
	(void)c;
	return delete_kept() ? 1 : 0;
}

static const char *const kept[] = {"internal, kept", "saved"};
static const enum world_event delete_events[] = {EVENT_FAIL, EVENT_FAIL_AFTER, EVENT_LOST, EVENT_DIE, EVENT_DIE_AFTER};

/* Deleted from all disks, or from none. */
START_TEST(test_deleted)
{
	const struct vm_case *c = vm_case_named(kept[_i % 2]);
	enum world_event event = delete_events[_i / 2];
	bool more = true;
	unsigned left;

	for (unsigned k = 1; more; k++) {
		char what[200];

		vm_case_set(w, c);
		before = *w;
		ck_assert_msg(!vm_case_run(w, c, &left, &e), "%s", e.msg);
		w->steps = 0;
		w->at = k;
		w->event = event;
		int failed = event < EVENT_DIE ? delete_kept() : in_child(delete_in_child, c);

		more = w->steps >= k;
		snprintf(what, sizeof what, "%s: event %d at step %u (%s)", c->name, event, k, w->last_op);
		ck_assert_msg(!failed || more, "%s: %s", what, e.msg);
		if (vm_run_recover(w, &e))
			ck_abort_msg("%s: recovery: %s", what, e.msg);
		w->kept = failed && w->record_count ? "s" : NULL;
		world_judge(w, &before, what);
		if (w->kept && delete_kept())
			ck_abort_msg("%s: again: %s", what, e.msg);
	}
}
END_TEST

START_TEST(test_no_such_snapshot)
{
	vm_case_set(w, &vm_cases[0]);
	ck_assert_int_eq(delete_kept(), -1);
	ck_assert_int_eq(e.code, ERR_NOT_FOUND);
}
END_TEST

Suite *suite_vm_meddling(void)
{
	Suite *s = suite_create("vm_meddling");
	TCase *t = tcase_create("meddling");

	vm_fixture(t, 120);
	tcase_add_loop_test(t, test_meddled, 0, (int)(sizeof meddlers / sizeof *meddlers));
	tcase_add_loop_test(t, test_late_definition, 0, 4);
	tcase_add_loop_test(t, test_exchanged, 0, 3);
	tcase_add_test(t, test_unknown_overlay);
	tcase_add_test(t, test_other_top);
	tcase_add_test(t, test_other_folder);
	tcase_add_loop_test(t, test_deleted, 0, 2 * (int)(sizeof delete_events / sizeof *delete_events));
	tcase_add_test(t, test_no_such_snapshot);
	suite_add_tcase(s, t);
	return s;
}
