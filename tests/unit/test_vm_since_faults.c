/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: each step of an increment fails, or the command dies there, or in a line of its journal: the earlier snapshot and its images are
 * as they were, and the new one is whole or not there.
 */
#include "tests/unit/since_cases.h"
#include "tests/unit/vm_fixture.h"

#include <unistd.h>

Suite *suite_vm_since_faults(void);

/* What "a" has is as it was; "b" is whole, or nothing of it is there. */
static void judge(const struct vm_case *c, const uint8_t (*first)[WORLD_BYTES], bool done, const char *what)
{
	const bool whole = access(".b/manifest.json", F_OK) == 0;

	ck_assert_msg(whole || !done, "%s: nothing was made", what);
	w->kept = whole ? "b" : NULL;
	w->more = 1;
	world_judge(w, &before, what);
	for (unsigned i = 0; i < w->disk_count; i++) {
		uint8_t bytes[WORLD_BYTES];
		char path[64];

		snprintf(path, sizeof path, ".a/%s.qcow2", w->disks[i].target);
		since_expect_disk(path, first[i], what);
		world_read(w->disks[i].defined.images[0].path, DRIVER_QCOW2, "a", bytes);
		ck_assert_msg(memcmp(bytes, first[i], WORLD_BYTES) == 0, "%s: snapshot a shows something else", what);
	}
	if (whole)
		since_expect_images(w, ".b", what);
	else
		ck_assert_msg(access(".b/vda.qcow2", F_OK) != 0 && access(".b/vdb.qcow2", F_OK) != 0,
			"%s: an image is left", what);
	(void)c;
}

static int take_b(const void *c)
{
	return since_take(w, c, "b", "a", ".b", &e);
}

enum { AT_STEP = VM_FAULTS, IN_LINE, MOMENTS };

static void plan(int moment, unsigned k)
{
	if (moment < VM_FAULTS)
		vm_fault_at(w, moment, k, world_crash);
	else
		vm_death_at(w, moment == AT_STEP ? DIE_AT_STEP : DIE_IN_LINE, k);
}

/* Whether there was such a moment. */
static bool one(const struct vm_case *c, int moment, unsigned k)
{
	static uint8_t first[WORLD_DISKS][WORLD_BYTES];
	char what[200];
	bool done, reached;

	since_begin(w, c);
	for (unsigned i = 0; i < w->disk_count; i++)
		memcpy(first[i], w->disks[i].instant, WORLD_BYTES);
	before = *w;
	plan(moment, k);
	snprintf(what, sizeof what, "%s: %s %u", c->name, moment < VM_FAULTS ? vm_faults[moment].name : "died at", k);
	if (moment < VM_FAULTS) {
		done = take_b(c) == 0;
		reached = w->steps >= k;
	} else {
		done = !vm_case_dies(take_b, c, what);
		reached = !done;
	}
	if (w->state == DRIVER_SHUT_OFF && moment == VM_FAULTS - 1 && reached)
		before.state = DRIVER_SHUT_OFF;
	if (vm_run_recover(w, &e))
		ck_abort_msg("%s: recovery: %s", what, e.msg);
	judge(c, (const uint8_t(*)[WORLD_BYTES])first, done, what);
	return reached;
}

START_TEST(test_moment)
{
	unsigned k = 1;

	while (one(&since_ways[_i / MOMENTS], _i % MOMENTS, k))
		k++;
	ck_assert_uint_gt(k, 4);
}
END_TEST

Suite *suite_vm_since_faults(void)
{
	Suite *s = suite_create("vm_since_faults");
	TCase *t = tcase_create("since_faults");

	vm_fixture(t, 120);
	tcase_add_loop_test(t, test_moment, 0, 2 * MOMENTS);
	suite_add_tcase(s, t);
	return s;
}
