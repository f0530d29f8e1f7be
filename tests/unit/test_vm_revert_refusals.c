/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: going back is refused before anything is done to the machine; and what recovery does with disks that somebody has used
 * while they were on their way.
 */
#include "snapshot/internal.h"
#include "tests/unit/revert_cases.h"
#include "tests/unit/vm_fixture.h"

#include <sys/wait.h>
#include <unistd.h>

Suite *suite_vm_revert_refusals(void);

static const char *top(unsigned disk)
{
	return w->disks[disk].defined.images[0].path;
}

/* ---- refused ---- */

static void no_snapshot(struct world *m, struct vm_revert *o)
{
	(void)o;
	OK(world_snapshot(m->disks[1].in_use.images[0].path, "s", false, &e));
}
static void unknown(struct world *m, struct vm_revert *o)
{
	(void)m;
	o->name = "another";
}
static void raw(struct world *m, struct vm_revert *o)
{
	(void)o;
	m->disks[1].in_use.images[0].format = m->disks[1].defined.images[0].format = DRIVER_RAW;
}
static void transient(struct world *m, struct vm_revert *o)
{
	(void)o;
	m->transient = true;
}
static void foreign_job(struct world *m, struct vm_revert *o)
{
	(void)o;
	m->foreign_job = true;
}
static void block_job(struct world *m, struct vm_revert *o)
{
	(void)o;
	m->disks[1].job = DRIVER_OTHER_JOB;
}
static void external(struct world *m, struct vm_revert *o)
{
	(void)o;
	m->external_records = true;
}
static void between(struct world *m, struct vm_revert *o)
{
	(void)o;
	m->state = DRIVER_BETWEEN;
}
static void other_definition(struct world *m, struct vm_revert *o)
{
	(void)o;
	m->disks[1].defined = m->disks[0].in_use;
}
static void taken_name(struct world *m, struct vm_revert *o)
{
	(void)m;
	o->first = true;
	o->present = "s";
}
static void bad_name(struct world *m, struct vm_revert *o)
{
	(void)m;
	o->first = true;
	o->present = "a/b";
}

static const struct {
	void (*set)(struct world *m, struct vm_revert *o);
	enum err_code code;
	const char *says;
} refused[] = {
	{no_snapshot, ERR_NOT_FOUND, "disk vdb: it has no snapshot 's'"},
	{unknown, ERR_NOT_FOUND, "disk vda: it has no snapshot 'another'"},
	{raw, ERR_UNSUPPORTED, "disk vdb: it is raw"},
	{transient, ERR_UNSUPPORTED, "transient"},
	{foreign_job, ERR_BUSY, "a job runs on it (migration)"},
	{block_job, ERR_BUSY, "disk vdb: a block job"},
	{external, ERR_UNSUPPORTED, "external snapshots"},
	{between, ERR_UNSUPPORTED, "neither running"},
	{other_definition, ERR_UNSUPPORTED, "disk vdb is on"},
	{taken_name, ERR_USAGE, "disk vda: it has a snapshot 's' already"},
	{bad_name, ERR_USAGE, "'a/b' cannot be"},
};

START_TEST(test_refused)
{
	struct vm_revert opts = {.name = "s"};
	struct world *then = &before;
	unsigned left;

	revert_case_set(w, &revert_cases[0]);
	refused[_i].set(w, &opts);
	*then = *w;
	ck_assert_int_eq(revert_run(w, &opts, &left, &e), -1);
	ck_assert_msg(e.code == refused[_i].code && strstr(e.msg, refused[_i].says), "%d: %s", e.code, e.msg);
	ck_assert_uint_eq(left, 0);
	ck_assert_int_eq(w->state, then->state);
	ck_assert(access("state/" WORLD_UUID ".journal", F_OK) != 0);
}
END_TEST

/* ---- used on the way ---- */

static void must_show(unsigned disk, const uint8_t *expected)
{
	uint8_t bytes[WORLD_BYTES];

	world_read(top(disk), DRIVER_QCOW2, NULL, bytes);
	ck_assert_msg(memcmp(bytes, expected, WORLD_BYTES) == 0, "disk %u", disk);
}

/* The command dies when one disk is back, and the other not yet. */
static void die_half_way(void)
{
	enum { SECOND_DISK = 10 }; /* two calls a line: begin, internal, internal, reverted, reverted */
	unsigned left;
	int status;

	revert_case_set(w, &revert_cases[4]);
	journal_fault_at(SECOND_DISK, JOURNAL_FAULT_DIE_AFTER, false);
	pid_t child = fork();

	if (!child)
		_exit(revert_case_run(w, &revert_cases[4], &left, &e) ? 1 : 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == DIED);
	must_show(0, w->disks[0].instant);
	must_show(1, w->disks[1].content);
	before = *w;
}

/* Somebody starts the guest, which writes. */
static void use(void)
{
	w->state = DRIVER_RUNNING;
	world_tick(w);
	w->state = DRIVER_SHUT_OFF;
}

static void refused_to_recover(void)
{
	uint8_t used[2][WORLD_BYTES];

	for (unsigned i = 0; i < 2; i++)
		world_read(top(i), DRIVER_QCOW2, NULL, used[i]);
	ck_assert_int_eq(vm_run_recover(w, &e), -1);
	ck_assert_msg(e.code == ERR_CHANGED && strstr(e.msg, "was written to"), "%s", e.msg);
	for (unsigned i = 0; i < 2; i++) {
		must_show(i, used[i]);
		ck_assert(world_has_snapshot(top(i), "kept"));
	}
}

static void must_be_done(void)
{
	OK(vm_run_recover(w, &e));
	ck_assert(access("state/" WORLD_UUID ".journal", F_OK) != 0);
	for (unsigned i = 0; i < 2; i++)
		ck_assert(!world_has_snapshot(top(i), "kept"));
	ck_assert_int_eq(w->state, DRIVER_SHUT_OFF);
}

START_TEST(test_used_and_given_up)
{
	die_half_way();
	use();
	refused_to_recover();
	for (unsigned i = 0; i < 2; i++)
		OK(disk_snapshot_apply(top(i), IO_LOCK_WRITE, "kept", NULL, &e));
	must_be_done();
	for (unsigned i = 0; i < 2; i++)
		must_show(i, before.disks[i].content);
}
END_TEST

START_TEST(test_used_and_wanted)
{
	uint8_t used[2][WORLD_BYTES];

	die_half_way();
	use();
	refused_to_recover();
	for (unsigned i = 0; i < 2; i++) {
		world_read(top(i), DRIVER_QCOW2, NULL, used[i]);
		OK(world_snapshot(top(i), "kept", false, &e));
	}
	must_be_done();
	for (unsigned i = 0; i < 2; i++)
		must_show(i, used[i]);
}
END_TEST

/* While the guest runs nothing can be done, and nothing is lost. */
START_TEST(test_started_meanwhile)
{
	die_half_way();
	w->state = DRIVER_RUNNING;
	ck_assert_int_eq(vm_run_recover(w, &e), -1);
	w->state = DRIVER_SHUT_OFF;
	for (unsigned i = 0; i < 2; i++)
		ck_assert(world_has_snapshot(top(i), "kept"));
}
END_TEST

/* The domain is gone: its disks come back all the same. */
START_TEST(test_undefined)
{
	struct vm_opts o = {.driver = scripted_driver_new(w), .state_dir = "state", .retry_ms = 1};

	die_half_way();
	w->undefined = true;
	journal_fault_at(0, JOURNAL_FAULT_NONE, false);
	OK(vm_recover_undefined(&o, WORLD_UUID, &e));
	driver_close(o.driver);
	for (unsigned i = 0; i < 2; i++) {
		must_show(i, before.disks[i].content);
		ck_assert(!world_has_snapshot(top(i), "kept"));
	}
}
END_TEST

Suite *suite_vm_revert_refusals(void)
{
	Suite *s = suite_create("vm_revert_refusals");
	TCase *t = tcase_create("refusals");

	vm_fixture(t, 60);
	tcase_add_loop_test(t, test_refused, 0, sizeof refused / sizeof *refused);
	tcase_add_test(t, test_used_and_given_up);
	tcase_add_test(t, test_used_and_wanted);
	tcase_add_test(t, test_started_meanwhile);
	tcase_add_test(t, test_undefined);
	suite_add_tcase(s, t);
	return s;
}
