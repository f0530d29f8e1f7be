/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: a machine's snapshots made into a bundle beside the guest that writes, and a machine made of it. At each step something
 * fails, or is cancelled, or the command dies; so at each line of the journal. The bundle is whole or not there; the machine is there
 * with all its snapshots, byte for byte, or nothing is.
 */
#include "tests/unit/bundle_cases.h"
#include "tests/unit/vm_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

Suite *suite_vm_bundle(void);

static void enter(void)
{
	bundle_tree(w);
	ck_assert_int_eq(mkdir("out", 0700), 0);
}

/* ---- nothing happens ---- */

static const char *const bundles[] = {"out/bundle", "out/bundle.tar"};
enum { SINGLE, TREE, KINDS, RENAMED = 2 };

START_TEST(test_there_and_back)
{
	const bool all = (_i & 1) == TREE;
	const char *bundle = bundles[_i >> 2], *name = _i & RENAMED ? "copy" : NULL;
	bool left;
	struct stat st;

#ifndef HAVE_LIBARCHIVE
	if (strstr(bundle, ".tar"))
		return;
#endif
	OK(bundle_export(w, bundle, all, &e));
	ck_assert(w->state == DRIVER_RUNNING && !lstat(bundle, &st));
	ck_assert_uint_eq(bundle_names("out"), 1);
	ck_assert_uint_eq(bundle_names("state"), 4); /* lock, catalog, memory, NVRAM */
	ck_assert_int_eq(bundle_export(w, bundle, all, &e), -1);
	ck_assert_int_eq(e.code, ERR_USAGE);
	ck_assert_int_eq(bundle_import(w, bundle, NULL, &left, &e), -1); /* it is there */
	ck_assert_int_eq(e.code, ERR_USAGE);
	bundle_nothing_there(w);
	OK(bundle_import(w, bundle, name, &left, &e));
	ck_assert(!left && bundle_judge(w, all, "c", "done"));
	ck_assert_uint_eq(w->record_count, all ? BUNDLE_POINTS : 1);
	ck_assert_str_eq(w->name, name ? name : "machine");
	ck_assert((strcmp(w->uuid, WORLD_UUID) == 0) == !name);
	bundle_goes_on(w);
}
END_TEST

/* Memory is QEMU's to believe, and stays outside. */
START_TEST(test_untrusted)
{
	bool left;

	OK(bundle_export(w, "out/bundle", false, &e));
	bundle_nothing_there(w);
	bundle_trusts = false;
	OK(bundle_import(w, "out/bundle", NULL, &left, &e));
	ck_assert(!left && bundle_judge(w, false, "c", "untrusted"));
	bundle_goes_on(w);
}
END_TEST

/* Where bundles are is told with each point that is in them, once for each place. */
START_TEST(test_told)
{
	AUTO_FREE char *last = NULL;
	uint64_t bytes;

	OK(bundle_export(w, "out/bundle", false, &e));
	ck_assert_uint_eq(bundle_told(w, "a", &last, &bytes), 0);
	ck_assert_uint_eq(bundle_told(w, "c", &last, &bytes), 1);
	ck_assert(last[0] == '/' && bytes > WORLD_BYTES);
	ck_assert_str_eq(strrchr(last, '/'), "/bundle");
	OK(bundle_export(w, "out/other", true, &e));
	ck_assert_int_eq(rename("out/bundle", "out/moved"), 0);
	OK(bundle_export(w, "out/bundle", true, &e));
	for (unsigned i = 0; i < BUNDLE_POINTS; i++) {
		free(STEAL(last));
		ck_assert_uint_eq(bundle_told(w, bundle_points[i], &last, &bytes), 2);
	}
	ck_assert_int_eq(w->state, DRIVER_RUNNING);
}
END_TEST

/* A catalog of an earlier machine goes when the new one is there, and comes back when it is not. */
START_TEST(test_earlier_catalog)
{
	const char *catalog = "state/" WORLD_UUID ".snapshots";
	bool left;

	OK(bundle_export(w, "out/bundle", true, &e));
	for (unsigned k = 1; w->undefined || k == 1; k++) {
		bundle_nothing_there(w);
		OK(mkdir("state", 0700));
		FILE *f = fopen(catalog, "w");

		ck_assert(f && fputs("earlier", f) >= 0 && !fclose(f));
		w->at = k;
		w->event = EVENT_FAIL;
		(void)bundle_import(w, "out/bundle", NULL, &left, &e);
		OK(bundle_recover(w, &e));
		if (w->undefined) {
			f = fopen(catalog, "r");
			ck_assert_ptr_nonnull(f);
			ck_assert_int_eq(fgetc(f), 'e');
			fclose(f);
			ck_assert_uint_le(bundle_names("state"), 2);
		}
	}
	ck_assert(bundle_judge(w, true, "c", "done"));
}
END_TEST

/* ---- something does ---- */

enum {
	EVENTS_OF_STEPS = 4,
	LINE_FAILS = EVENTS_OF_STEPS,
	LINES_FAIL,
	FIRST_DEATH,
	HAPPENINGS = FIRST_DEATH + VM_DEATHS
};

static void plan(int what, unsigned k)
{
	w->steps = 0;
	if (what < EVENTS_OF_STEPS)
		vm_fault_at(w, what, k, NULL);
	else if (what < FIRST_DEATH)
		journal_fault_at(k, JOURNAL_FAULT_FAILS, what == LINES_FAIL);
	else
		vm_death_at(w, what - FIRST_DEATH, k);
}

static bool was_reached(int what, unsigned k)
{
	return what < EVENTS_OF_STEPS || (what >= FIRST_DEATH && what - FIRST_DEATH < DIE_AT_LINE)
		       ? w->steps >= k
		       : journal_fault_calls() >= k;
}

static int run_export(const void *unused)
{
	(void)unused;
	return bundle_export(w, "out/bundle", false, &e);
}

static int run_import(const void *unused)
{
	bool left;

	(void)unused;
	return bundle_import(w, "out/bundle", NULL, &left, &e);
}

/* 1: done; 0: it failed, or died. *reached: there was such a moment. */
static bool happens(int (*run)(const void *unused), int what, unsigned k, bool *reached, const char *text)
{
	plan(what, k);
	if (what < FIRST_DEATH) {
		bool done = !run(NULL);

		*reached = was_reached(what, k);
		ck_assert_msg(done || *reached, "%s: %s", text, e.msg);
		return done;
	}
	bool died = vm_case_dies(run, NULL, text);

	*reached = died || (what - FIRST_DEATH < DIE_AT_LINE && was_reached(what, k));
	return !died;
}

START_TEST(test_import)
{
	bool reached = true;
	char what[80];
	unsigned k = 1;

	OK(bundle_export(w, "out/bundle", true, &e));
	for (; reached; k++) {
		bundle_nothing_there(w);
		snprintf(what, sizeof what, "import: happening %d at %u", _i, k);
		bool done = happens(run_import, _i, k, &reached, what);

		if (bundle_recover(w, &e))
			ck_abort_msg("%s: recovery: %s", what, e.msg);
		ck_assert_msg(bundle_judge(w, true, "c", what) || !done, "%s: done, and nothing is there", what);
	}
	ck_assert_uint_gt(k, 5);
}
END_TEST

START_TEST(test_export)
{
	bool reached = true;
	char what[80];
	unsigned k = 1;

	for (; reached; k++) {
		struct stat st;

		snprintf(what, sizeof what, "export: happening %d at %u", _i, k);
		bool done = happens(run_export, _i, k, &reached, what);

		if (bundle_recover(w, &e))
			ck_abort_msg("%s: recovery: %s", what, e.msg);
		bool there = !lstat("out/bundle", &st);

		ck_assert_msg(there || !done, "%s: done, and nothing is there", what);
		ck_assert_msg(bundle_names("out") == there, "%s: %u names in out/", what, bundle_names("out"));
		ck_assert_msg(bundle_names("state") == 4, "%s: %u names in state/", what, bundle_names("state"));
		if (there) {
			ck_assert_uint_eq(bundle_names("out/bundle"), 6); /* manifest, definition, images, memory */
			ck_assert_int_eq(rename("out/bundle", what), 0);
		}
	}
	ck_assert_uint_gt(k, 3);
}
END_TEST

Suite *suite_vm_bundle(void)
{
	Suite *s = suite_create("vm_bundle");
	TCase *t = tcase_create("bundle");

	vm_fixture(t, 120);
	tcase_add_checked_fixture(t, enter, NULL);
	tcase_add_loop_test(t, test_there_and_back, 0, 8);
	tcase_add_test(t, test_untrusted);
	tcase_add_test(t, test_told);
	tcase_add_test(t, test_earlier_catalog);
	tcase_add_loop_test(t, test_import, 0, HAPPENINGS);
	tcase_add_loop_test(t, test_export, 0, HAPPENINGS);
	suite_add_tcase(s, t);
	return s;
}
