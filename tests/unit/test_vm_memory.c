/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: memory that cannot be taken, that is not what was taken when it is asked for again, or that the guest does not go on from;
 * and how it goes with its snapshot.
 */
#include "snapshot/internal.h"
#include "tests/unit/revert_cases.h"
#include "tests/unit/scratch.h"
#include "tests/unit/vm_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

Suite *suite_vm_memory(void);

static const struct revert_case kept = {
	{.name = "kept", .before = BEFORE_RUNNING}, VM_AS_BEFORE, false, false, true, false, false};

/* ---- refused ---- */

static void shut_off(struct world *m, struct vm_take *t)
{
	(void)t;
	m->state = DRIVER_SHUT_OFF;
}
static void a_disk_less(struct world *m, struct vm_take *t)
{
	static const char *const only[] = {"vda"};

	(void)m;
	t->disks = only;
	t->disk_count = 1;
}
static void shared_disk(struct world *m, struct vm_take *t)
{
	(void)t;
	m->disks[1].shareable = true;
}
static void nowhere(struct world *m, struct vm_take *t)
{
	(void)m;
	t->keep = false;
	t->to = "-";
}
static void paused(struct world *m, struct vm_take *t)
{
	m->state = DRIVER_PAUSED;
	m->paused_by_user = true;
	t->mode = VM_INSTANT;
}
static void device(struct world *m, struct vm_take *t)
{
	m->device = m->device_attached = true;
	t->mode = VM_LIVE;
}
static void full(struct world *m, struct vm_take *t)
{
	t->mode = VM_INSTANT;
	m->free_bytes = ((1ull << 30) / 20 & ~4095ull) + 8192;
}
static void fills(struct world *m, struct vm_take *t)
{
	(void)t;
	m->memory_fills = true;
}
static void changes_fast(struct world *m, struct vm_take *t)
{
	t->max_pause = 2;
	m->memory_ms = 1501;
}
static void file_there(struct world *m, struct vm_take *t)
{
	(void)m;
	t->to = ".there/";
	mkdir(".there", 0700);
	scratch_file(".there/memory.save", "x", 1);
}

static const struct {
	void (*set)(struct world *m, struct vm_take *t);
	enum err_code code;
	const char *says;
} refused[] = {
	{shut_off, ERR_UNSUPPORTED, "no memory"},
	{a_disk_less, ERR_UNSUPPORTED, "vdb is left out"},
	{shared_disk, ERR_UNSUPPORTED, "vdb is shared"},
	{nowhere, ERR_USAGE, "stream"},
	{paused, ERR_UNSUPPORTED, "is paused: its memory can be taken cold"},
	{device, ERR_UNSUPPORTED, "device of the host"},
	{full, ERR_LIMIT, "are free"},
	{file_there, ERR_USAGE, "memory.save exists"},
	{fills, ERR_IO, "large"},
	{changes_fast, ERR_LIMIT, "more than the 2 s"},
};

START_TEST(test_refused)
{
	const struct vm_case c = {.before = BEFORE_RUNNING, .memory = MEMORY, .keep = true};
	struct world then;
	struct vm_take t;
	unsigned left;

	vm_case_set(w, &c);
	vm_case_options(&c, &t);
	refused[_i].set(w, &t);
	then = *w;
	ck_assert_int_eq(vm_run(w, &t, &left, &e), -1);
	ck_assert_msg(e.code == refused[_i].code && strstr(e.msg, refused[_i].says), "%d %s", e.code, e.msg);
	ck_assert_uint_eq(left, 0);
	world_judge(w, &then, refused[_i].says);
	world_judge_output(w, false, refused[_i].says);
}
END_TEST

/* ---- on its way ---- */

static const struct vm_case beside = {.name = "beside", .before = BEFORE_RUNNING, .memory = MEMORY, .keep = true};

START_TEST(test_longer)
{
	struct world then;
	struct vm_take t;
	unsigned left;

	vm_case_set(w, &beside);
	vm_case_options(&beside, &t);
	t.max_pause = 2;
	w->memory_ms = 1500;
	then = *w;
	OK(vm_run(w, &t, &left, &e));
	ck_assert_uint_eq(w->memory_patience, 1500);
	vm_case_judge(w, &then, &beside, true, "held for longer");
}
END_TEST

static const struct vm_case paused_for_it = {.name = "paused for it",
	.before = BEFORE_RUNNING,
	.memory = MEMORY_PAUSED,
	.keep = true};

static void is_migrated(struct world *m)
{
	if (strcmp(m->last_op, "memory_begin") != 0)
		return;
	m->memory = MEMORY_HELD; /* by somebody else */
	m->state = DRIVER_PAUSED;
	m->memory_holds = m->paused_by_user = true;
}

/* Until it happens at a step where the snapshot is refused for it, as `e` says; what waits for recovery then. */
static unsigned refused_by(const struct vm_case *c, void (*hook)(struct world *m))
{
	unsigned left, refused_at = 0;

	for (unsigned k = 1; !refused_at; k++) {
		vm_case_set(w, c);
		w->at = k;
		w->event = EVENT_HOOK;
		w->hook = hook;
		if (vm_case_run(w, c, &left, &e))
			refused_at = k;
		ck_assert_uint_ge(w->steps, k);
	}
	return left;
}

static void another_top(struct world *m)
{
	size_t len;
	AUTO_FREE char *bytes = NULL;

	if (strcmp(m->last_op, "memory_look") != 0 || m->memory != MEMORY_RUNS)
		return;
	bytes = scratch_read("vdb.qcow2", &len);
	scratch_file("other.qcow2", bytes, len);
	strcpy(m->disks[1].in_use.images[0].path, "other.qcow2");
}

/* The snapshot would be in another file than the journal says. */
START_TEST(test_other_disk)
{
	unsigned left = refused_by(&beside, another_top);

	ck_assert_msg(e.code == ERR_CHANGED && strstr(e.msg, "vdb was changed"), "%s", e.msg);
	ck_assert(!left && w->state == DRIVER_RUNNING && w->memory == MEMORY_STAYS);
	ck_assert(!world_has_snapshot("vdb.qcow2", "s") && !world_has_snapshot("other.qcow2", "s"));
}
END_TEST

/* What somebody else does with it is not ended. */
START_TEST(test_goes_elsewhere)
{
	refused_by(&beside, is_migrated);
	ck_assert_msg(e.code == ERR_BUSY, "%s", e.msg);
	ck_assert_int_eq(w->memory, MEMORY_HELD);
}
END_TEST

static void is_suspended(struct world *m)
{
	if (strcmp(m->last_op, "memory_still") != 0)
		return;
	m->state = DRIVER_PAUSED;
	m->paused_by_user = true;
}

/* It stays so, and nothing is taken of it. */
START_TEST(test_suspended_before)
{
	unsigned left = refused_by(_i ? &paused_for_it : &beside, is_suspended);

	ck_assert_int_eq(e.code, ERR_CHANGED);
	ck_assert(!left && w->state == DRIVER_PAUSED && w->paused_by_user && w->memory == MEMORY_STAYS);
	ck_assert(!world_has_snapshot("vda.qcow2", "s"));
}
END_TEST

static void is_resumed(struct world *m)
{
	if (strcmp(m->last_op, "memory_look") != 0 || m->memory != MEMORY_RUNS)
		return;
	m->state = DRIVER_RUNNING;
	m->paused_by_user = false;
}

/* What it has changed since is not in its memory's file. */
START_TEST(test_resumed_meanwhile)
{
	unsigned left = refused_by(&paused_for_it, is_resumed);

	ck_assert_int_eq(e.code, ERR_CHANGED);
	ck_assert(!left && w->state == DRIVER_RUNNING && w->memory == MEMORY_STAYS);
	ck_assert(!world_has_snapshot("vda.qcow2", "s"));
}
END_TEST

/* ---- a kept one ---- */

static int points_deed(struct vm *vm, void *arg)
{
	return vm_points(vm, arg, &e);
}

static int delete_deed(struct vm *vm, void *arg)
{
	return vm_delete(vm, arg, &e);
}

/* Sets the machine up, and tells the file. */
static void keep_one(char memory[WORLD_PATH], char nvram[WORLD_PATH])
{
	struct vm_catalog c;

	revert_case_set(w, &kept);
	OK(vm_with(w, false, points_deed, &c, &e));
	ck_assert_uint_eq(c.count, 1);
	ck_assert_int_eq(c.points[0].state, VM_POINT_WHOLE);
	snprintf(memory, WORLD_PATH, "%s", c.points[0].memory);
	snprintf(nvram, WORLD_PATH, "%s", c.points[0].nvram);
	vm_catalog_free(&c);
}

static void is(enum vm_point_state state, const char *why)
{
	struct vm_catalog c;

	OK(vm_with(w, false, points_deed, &c, &e));
	ck_assert_int_eq(c.points[0].state, state);
	ck_assert_msg(strstr(c.points[0].why, why) != NULL, "%s", c.points[0].why);
	ck_assert(c.points[0].disks_whole);
	vm_catalog_free(&c);
}

static int back(bool without)
{
	const struct vm_revert opts = {.name = "s", .without_memory = without};
	unsigned left;

	return revert_run(w, &opts, &left, &e);
}

static void change_byte(const char *path)
{
	FILE *f = fopen(path, "r+");

	ck_assert_ptr_nonnull(f);
	int byte = fgetc(f);

	rewind(f);
	fputc(byte ^ 1, f);
	ck_assert_int_eq(fclose(f), 0);
}

START_TEST(test_not_what_it_was)
{
	char memory[WORLD_PATH], nvram[WORLD_PATH];
	unsigned written;

	keep_one(memory, nvram);
	change_byte(_i & 1 ? nvram : memory);
	written = w->written;
	ck_assert_int_eq(back(false), -1);
	ck_assert_int_eq(e.code, ERR_CHANGED);
	ck_assert_ptr_nonnull(strstr(e.msg, "SHA-256"));
	ck_assert(!w->back && w->state == DRIVER_RUNNING && w->written >= written);
	OK(back(true));
	ck_assert(!w->restored && w->state == DRIVER_RUNNING);
}
END_TEST

START_TEST(test_gone)
{
	char memory[WORLD_PATH], nvram[WORLD_PATH];

	keep_one(memory, nvram);
	ck_assert_int_eq(truncate(memory, 10), 0);
	is(VM_POINT_FOREIGN, "is another file");
	ck_assert_int_eq(unlink(memory), 0);
	is(VM_POINT_PARTLY, "is gone");
	ck_assert_int_eq(back(false), -1);
	ck_assert_ptr_nonnull(strstr(e.msg, "without the memory"));
	ck_assert(!w->back && w->state == DRIVER_RUNNING);
	OK(back(true));
	ck_assert_int_eq(unlink(nvram), 0);
	is(VM_POINT_PARTLY, "is gone");
	OK(vm_with(w, false, delete_deed, (void *)"s", &e));
}
END_TEST

/* The disks are back then, and the guest is off until somebody says how to go on. */
START_TEST(test_does_not_go_on)
{
	char memory[WORLD_PATH], nvram[WORLD_PATH];
	unsigned left;

	keep_one(memory, nvram);
	w->bad_memory = true;
	ck_assert_int_eq(revert_run(w, &(struct vm_revert){.name = "s"}, &left, &e), -1);
	ck_assert_msg(strstr(e.msg, "--without-memory") != NULL, "%s", e.msg);
	ck_assert_uint_gt(left, 0);
	ck_assert_int_eq(w->state, DRIVER_SHUT_OFF);
	ck_assert_int_eq(vm_run_recover(w, &e), -1);
	if (_i)
		w->bad_memory = false;
	OK(vm_with(w, !_i, NULL, NULL, &e));
	ck_assert(w->state == DRIVER_RUNNING && w->back && w->restored == (bool)_i);
	ck_assert_int_eq(access(memory, F_OK), 0);
}
END_TEST

/* Its files go with it, and only then. */
START_TEST(test_deleted)
{
	char memory[WORLD_PATH], nvram[WORLD_PATH];

	keep_one(memory, nvram);
	OK(back(false));
	ck_assert(w->restored && !access(memory, F_OK) && !access(nvram, F_OK));
	if (_i)
		w->state = DRIVER_SHUT_OFF;
	OK(vm_with(w, false, delete_deed, (void *)"s", &e));
	ck_assert(access(memory, F_OK) && access(nvram, F_OK));
}
END_TEST

/* No second name can be had for what was saved: it is copied, and whoever changes the saved guest later does not change it. */
START_TEST(test_saved_is_copied)
{
	const struct vm_case c = {.name = "saved", .before = BEFORE_SAVED, .memory = MEMORY, .keep = true};
	char name[WORLD_PATH] = "";
	struct vm_catalog catalog;
	struct stat st;
	unsigned left;

	vm_case_set(w, &c);
	OK(vm_case_run(w, &c, &left, &e));
	OK(vm_with(w, false, points_deed, &catalog, &e));
	snprintf(name, sizeof name, "%s", catalog.points[0].memory);
	vm_catalog_free(&catalog);
	ck_assert_int_eq(stat(name, &st), 0);
	ck_assert_uint_eq(st.st_nlink, 1);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	change_byte(WORLD_SAVED);
	world_judge_memory(w, name, WORLD_NVRAM, "saved");
}
END_TEST

Suite *suite_vm_memory(void)
{
	Suite *s = suite_create("vm_memory");
	TCase *t = tcase_create("memory");

	vm_fixture(t, 60);
	tcase_add_loop_test(t, test_refused, 0, sizeof refused / sizeof *refused);
	tcase_add_test(t, test_longer);
	tcase_add_test(t, test_other_disk);
	tcase_add_test(t, test_goes_elsewhere);
	tcase_add_loop_test(t, test_suspended_before, 0, 2);
	tcase_add_test(t, test_resumed_meanwhile);
	tcase_add_loop_test(t, test_not_what_it_was, 0, 2);
	tcase_add_test(t, test_gone);
	tcase_add_loop_test(t, test_does_not_go_on, 0, 2);
	tcase_add_loop_test(t, test_deleted, 0, 2);
	tcase_add_test(t, test_saved_is_copied);
	suite_add_tcase(s, t);
	return s;
}
