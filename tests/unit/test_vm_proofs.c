/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: what recovery takes for ours, and what it leaves alone; an overlay that the hypervisor forgot.
 */
#include "qcow2/edit.h"
#include "snapshot/internal.h"
#include "tests/unit/scratch.h"
#include "tests/unit/vm_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

Suite *suite_vm_proofs(void);

static const char journal[] = "state/" WORLD_UUID ".journal", overlay[] = "vda.qcow2.qsnap-s";

/* The command dies before (after) the step `op`, the `nth` of that name. */
static void die(const struct vm_case *c, const char *op, unsigned nth, enum world_event event)
{
	unsigned seen = 0, left;

	for (unsigned k = 1; seen < nth; k++) {
		int status;

		vm_case_set(w, c);
		before = *w;
		w->at = k;
		w->event = event;
		pid_t child = fork();

		ck_assert_int_ge(child, 0);
		if (!child)
			_exit(vm_case_run(w, c, &left, &e) ? 1 : 0);
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert_uint_ge(w->steps, k);
		seen += strcmp(w->last_op, op) == 0;
	}
}

static bool same_bytes(const char *path, const char *text)
{
	size_t len;
	AUTO_FREE char *bytes = scratch_read(path, &len);

	return len == strlen(text) && memcmp(bytes, text, len) == 0;
}

/* ---- files and snapshots with the names of ours ---- */

START_TEST(test_other_file)
{
	static const char text[] = "somebody else's";

	die(vm_case_named("live"), "copy", 2, EVENT_DIE);
	ck_assert_int_eq(access(overlay, F_OK), 0); /* the copy of vda */
	world_crash(w);
	unlink(overlay);
	scratch_file(overlay, text, sizeof text - 1);
	ck_assert_msg(!vm_run_recover(w, &e), "%s", e.msg);
	ck_assert(same_bytes(overlay, text));
	ck_assert_int_ne(access("vdb.qcow2.qsnap-s", F_OK), 0); /* that one was ours */
	ck_assert_int_ne(access(journal, F_OK), 0);
}
END_TEST

START_TEST(test_file_in_the_way)
{
	static const char text[] = "somebody else's";
	struct vm_take t;
	unsigned left;

	vm_case_set(w, vm_case_named("internal"));
	vm_case_options(vm_case_named("internal"), &t);
	mkdir("out", 0700);
	scratch_file("out/vdb.qcow2", text, sizeof text - 1);
	ck_assert_int_eq(vm_run(w, &t, &left, &e), -1);
	ck_assert_uint_eq(left, 0);
	ck_assert(same_bytes("out/vdb.qcow2", text));
}
END_TEST

static void makes_a_file(struct world *m)
{
	(void)m;
	mkdir("out", 0700);
	scratch_file("out/vdb.qcow2", "theirs", 6);
}

/* It comes at any step, after we had looked. */
START_TEST(test_file_comes)
{
	const struct vm_case *c = vm_case_named("internal");
	unsigned left, refused = 0;

	for (unsigned k = 1;; k++) {
		vm_case_set(w, c);
		before = *w;
		w->at = k;
		w->event = EVENT_HOOK;
		w->hook = makes_a_file;
		int failed = vm_case_run(w, c, &left, &e);
		bool reached = w->steps >= k;

		ck_assert(failed || !reached || !same_bytes("out/vdb.qcow2", "theirs") ||
			  access("out/manifest.json", F_OK) == 0);
		ck_assert_uint_eq(left, 0);
		if (failed) {
			ck_assert_msg(e.code == ERR_USAGE && strstr(e.msg, "exists"), "%s", e.msg);
			ck_assert(same_bytes("out/vdb.qcow2", "theirs"));
			refused++;
		}
		world_judge(w, &before, "a file comes");
		if (!reached)
			break;
	}
	ck_assert_uint_gt(refused, 5);
}
END_TEST

static unsigned snapshots_named(const char *path, const char *name)
{
	AUTO_FREE char *id = NULL;
	int64_t date;
	int there = disk_snapshot_find(path, name, &id, &date, &e);

	ck_assert_msg(there >= 0, "%s", e.msg);
	return (unsigned)there;
}

/* Ours was deleted, and somebody made another one of that name. */
START_TEST(test_other_snapshot)
{
	die(vm_case_named(_i ? "cold" : "internal"), _i ? "start" : "internal_delete", 1, EVENT_DIE);
	if (!_i)
		world_crash(w);
	ck_assert(!world_snapshot("vda.qcow2", "x", true, &e) && !world_snapshot("vda.qcow2", "s", false, &e) &&
		  !world_snapshot("vda.qcow2", "s", true, &e) && !world_snapshot("vda.qcow2", "x", false, &e));
	ck_assert_msg(!vm_run_recover(w, &e), "%s", e.msg);
	ck_assert_uint_eq(snapshots_named("vda.qcow2", "s"), 1);
	ck_assert_uint_eq(snapshots_named("vdb.qcow2", "s"), 0); /* that one was ours */
	ck_assert_int_ne(access(journal, F_OK), 0);
}
END_TEST

static const char *at_op;

static void makes_a_snapshot(struct world *m)
{
	if (strcmp(m->last_op, at_op) == 0 && world_snapshot("vdb.qcow2", "s", true, &e))
		ck_abort_msg("%s", e.msg);
}

/* Between our look and our deed: it is theirs. */
START_TEST(test_snapshot_comes)
{
	const struct vm_case *c = vm_case_named(_i ? "cold" : "internal");
	unsigned left, refused = 0;

	at_op = _i ? "save" : "internal_create";
	for (unsigned k = 1; !refused; k++) {
		vm_case_set(w, c);
		before = *w;
		w->at = k;
		w->event = EVENT_HOOK;
		w->hook = makes_a_snapshot;
		int failed = vm_case_run(w, c, &left, &e);

		ck_assert_uint_ge(w->steps, k);
		if (!failed)
			continue;
		refused++;
		ck_assert_msg(e.code == ERR_USAGE && strstr(e.msg, "already"), "%s", e.msg);
		ck_assert_uint_eq(left, 0);
		ck_assert_uint_eq(snapshots_named("vda.qcow2", "s"), 0);
		ck_assert_uint_eq(snapshots_named("vdb.qcow2", "s"), 1);
	}
}
END_TEST

/* ---- what holds still while the guest is off ---- */

static unsigned extractions;

static void tries_to_write(void *ctx, const char *step, const char *disk)
{
	AUTO_IO struct io *file = NULL;
	struct error busy;

	(void)ctx;
	if (strcmp(step, "extract") != 0 || strcmp(disk, "vdb") != 0)
		return;
	extractions++;
	ck_assert_int_eq(io_file_open(&file, "vdb.raw", IO_OPEN_WRITE, &busy), 0);
	ck_assert_int_eq(io_lock(file, IO_LOCK_WRITE, &busy), -1);
	ck_assert_int_eq(busy.code, ERR_BUSY);
}

START_TEST(test_raw_is_held)
{
	const struct vm_case *c = vm_case_named(_i ? "cold, a raw disk" : "shut off, a raw disk");
	struct vm_opts o = {.domain = "machine", .state_dir = "state", .voice.step = tries_to_write};
	struct vm_taken taken;
	struct vm_take t;
	struct vm *vm;

	extractions = 0;
	vm_case_set(w, c);
	before = *w;
	vm_case_options(c, &t);
	t.quiesce = VM_QUIESCE_NO;
	o.driver = scripted_driver_new(w);
	ck_assert(!vm_open(&vm, &o, &e));
	ck_assert_msg(!vm_take(vm, &t, &taken, &e), "%s", e.msg);
	vm_taken_free(&taken);
	vm_close(vm);
	driver_close(o.driver);
	ck_assert_uint_eq(extractions, 1);
	vm_case_judge(w, &before, c, true, c->name);
}
END_TEST

/* Who does not own the folder gets to the copy of a device in it. */
START_TEST(test_folder)
{
	struct stat st;

	die(vm_case_named(_i ? "overlay, a device" : "live, a device"), _i ? "overlay" : "copy", _i ? 1 : 2, EVENT_DIE);
	ck_assert_int_eq(stat("state", &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0711);
	ck_assert_int_eq(stat(journal, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	if (_i)
		return;
	struct stat disk;

	ck_assert(!stat("state/" WORLD_UUID "-vdb.qsnap-s", &st) && !stat("vdb.raw", &disk));
	ck_assert_uint_eq(st.st_mode, disk.st_mode);
}
END_TEST

/* A guest that is off: at rest if it shut itself down. */
START_TEST(test_off_and_quiesced)
{
	const struct vm_case *c = vm_case_named(_i & 2 ? "saved" : "shut off");
	struct vm_take t;
	unsigned left;

	vm_case_set(w, c);
	w->ended_well = _i & 1;
	vm_case_options(c, &t);
	t.quiesce = VM_QUIESCE_REQUIRED;
	ck_assert_int_eq(vm_run(w, &t, &left, &e), _i == 1 ? 0 : -1);
	ck_assert_msg(_i == 1 || (e.code == ERR_UNSUPPORTED && strstr(e.msg, "at rest")), "%s", e.msg);
}
END_TEST

/* ---- an overlay that is in no definition ---- */

static void forget_overlays(void)
{
	for (unsigned i = 0; i < w->disk_count; i++)
		w->disks[i].defined = before.disks[i].defined;
	world_crash(w);
	before.state = DRIVER_SHUT_OFF;
}

START_TEST(test_forgotten)
{
	die(vm_case_named("overlay"), "overlay", 1, EVENT_DIE_AFTER);
	forget_overlays();
	ck_assert_msg(!vm_run_recover(w, &e), "%s", e.msg);
	world_judge(w, &before, "forgotten overlays"); /* with what the guest wrote to them */
}
END_TEST

/* Recovery dies at each step, too. */
START_TEST(test_forgotten_and_died)
{
	bool reached = true;
	unsigned k;

	for (k = 1; reached; k++) {
		int status;

		die(vm_case_named("overlay"), "overlay", 1, EVENT_DIE_AFTER);
		forget_overlays();
		w->steps = 0;
		w->at = k;
		w->event = EVENT_DIE_AFTER;
		pid_t child = fork();

		ck_assert_int_ge(child, 0);
		if (!child) {
			unsigned left;

			_exit(vm_run(w, NULL, &left, &e) ? 1 : 0);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		reached = w->steps >= k;
		ck_assert_msg(!vm_run_recover(w, &e), "step %u: %s", k, e.msg);
		world_judge(w, &before, "forgotten overlays, and recovery died");
	}
	ck_assert_uint_gt(k, 4);
}
END_TEST

/* The guest ran without its overlay meanwhile: the two cannot be brought together, and neither is touched. */
START_TEST(test_forgotten_and_started)
{
	const struct timespec later[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) + 10}};
	size_t was, is;

	die(vm_case_named("overlay"), "overlay", 1, EVENT_DIE_AFTER);
	forget_overlays();
	ck_assert_int_eq(utimensat(AT_FDCWD, "vda.qcow2", later, 0), 0);
	AUTO_FREE char *then = scratch_read(overlay, &was);

	ck_assert_int_eq(vm_run_recover(w, &e), -1);
	ck_assert_msg(e.code == ERR_CHANGED && strstr(e.msg, "without it since"), "%s", e.msg);
	AUTO_FREE char *now = scratch_read(overlay, &is);

	ck_assert(was == is && !memcmp(then, now, is));
	ck_assert_int_eq(access("vdb.qcow2.qsnap-s", F_OK), -1); /* that one was committed */
	ck_assert_int_eq(access(journal, F_OK), 0);
	unlink(overlay); /* somebody decided */
	ck_assert_msg(!vm_run_recover(w, &e), "%s", e.msg);
	ck_assert_int_ne(access(journal, F_OK), 0);
}
END_TEST

/* No overlay of ours, or none that anything is in. */
START_TEST(test_not_an_overlay)
{
	static const char text[] = "somebody else's";

	die(vm_case_named("overlay"), "overlay", 1, EVENT_DIE);
	world_crash(w);
	if (_i)
		scratch_file(overlay, text, sizeof text - 1);
	else
		ck_assert(!world_overlay(overlay, &w->disks[0].defined.images[0], &e));
	ck_assert_msg(!vm_run_recover(w, &e), "%s", e.msg);
	ck_assert_int_eq(access(overlay, F_OK), _i ? 0 : -1);
	ck_assert(!_i || same_bytes(overlay, text));
	ck_assert_int_ne(access(journal, F_OK), 0);
}
END_TEST

/* A base of the base that the disk did not have is not opened, whatever the base says by now. */
START_TEST(test_other_chain)
{
	struct world_image other = {.format = DRIVER_QCOW2};

	die(vm_case_named("overlay"), "overlay", 1, EVENT_DIE_AFTER);
	world_crash(w);
	snprintf(other.path, sizeof other.path, "%.200s.other", w->disks[0].defined.images[2].path);
	AUTO_FREE char *bytes = NULL;
	size_t len;

	bytes = scratch_read("base.qcow2", &len);
	scratch_file(other.path, bytes, len);
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .write = true, .no_backing = true, .lock = IO_LOCK_NONE};
	AUTO_CHAIN struct chain *c = NULL;

	ck_assert(!chain_open(&c, "vda.qcow2", &opts, &e) && !convert_rebase(&(struct rebase_opts){.image = c,
										     .backing_name = other.path,
										     .backing_format = "qcow2",
										     .unsafe = true},
								     &e));
	chain_close(STEAL(c));
	ck_assert_int_eq(vm_run_recover(w, &e), -1);
	ck_assert_msg(e.code == ERR_DENIED && strstr(e.msg, ".other"), "%s", e.msg);
	ck_assert_int_eq(access(overlay, F_OK), 0);
}
END_TEST

/* ---- a domain that is gone ---- */

static const struct {
	const char *command, *op;
	unsigned nth;
	enum world_event event;
	bool overlay_stays;
} undefined_at[] = {
	{"cold", "start", 1, EVENT_DIE, false},
	{"internal", "internal_delete", 1, EVENT_DIE, false},
	{"internal, kept", "internal_create", 1, EVENT_DIE_AFTER, false},
	{"live", "copy", 2, EVENT_DIE, false},
	{"overlay", "overlay", 1, EVENT_DIE_AFTER, true},
};

START_TEST(test_undefined)
{
	struct vm_opts o = {.state_dir = "state"};

	die(vm_case_named(undefined_at[_i].command), undefined_at[_i].op, undefined_at[_i].nth, undefined_at[_i].event);
	ck_assert_int_eq(access(journal, F_OK), 0);
	w->at = 0;
	w->event = EVENT_NONE;
	world_crash(w);
	o.driver = scripted_driver_new(w);
	ck_assert_int_eq(vm_recover_undefined(&o, WORLD_UUID, &e), -1); /* it is there */
	ck_assert_msg(e.code == ERR_USAGE && strstr(e.msg, "is defined"), "%s", e.msg);
	w->undefined = true;
	ck_assert_int_eq(vm_run_recover(w, &e), -1);
	ck_assert_int_eq(e.code, ERR_NOT_FOUND);
	ck_assert_int_eq(access(journal, F_OK), 0);
	ck_assert_msg(!vm_recover_undefined(&o, WORLD_UUID, &e), "%s", e.msg);
	driver_close(o.driver);
	ck_assert_int_ne(access(journal, F_OK), 0);
	ck_assert_int_eq(access(overlay, F_OK) == 0, undefined_at[_i].overlay_stays);
	ck_assert_uint_eq(snapshots_named("vda.qcow2", "s"), 0);
	ck_assert_uint_eq(snapshots_named("vdb.qcow2", "s"), 0);
}
END_TEST

Suite *suite_vm_proofs(void)
{
	Suite *s = suite_create("vm_proofs");
	TCase *t = tcase_create("proofs");

	vm_fixture(t, 120);
	tcase_add_test(t, test_other_file);
	tcase_add_test(t, test_file_in_the_way);
	tcase_add_test(t, test_file_comes);
	tcase_add_loop_test(t, test_other_snapshot, 0, 2);
	tcase_add_loop_test(t, test_snapshot_comes, 0, 2);
	tcase_add_loop_test(t, test_raw_is_held, 0, 2);
	tcase_add_loop_test(t, test_folder, 0, 2);
	tcase_add_loop_test(t, test_off_and_quiesced, 0, 4);
	tcase_add_test(t, test_forgotten);
	tcase_add_test(t, test_forgotten_and_died);
	tcase_add_test(t, test_forgotten_and_started);
	tcase_add_loop_test(t, test_not_an_overlay, 0, 2);
	tcase_add_test(t, test_other_chain);
	tcase_add_loop_test(t, test_undefined, 0, (int)(sizeof undefined_at / sizeof *undefined_at));
	suite_add_tcase(s, t);
	return s;
}
