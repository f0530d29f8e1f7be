/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking, going back to and deleting internal snapshots (FORMAT.md §8, §12.4), against copies of the disk in memory: in random order
 * between writes of all sorts, and cut off or failing at any moment.
 */
#include "tests/unit/snapshot_model.h"

#include <errno.h>

static const struct kind kinds[] = {
	{512, 16, 3, false, DISK},
	{512, 2, 3, false, DISK},
	{512, 1, 3, false, DISK},
	{512, 8, 3, false, DISK - 512},
	{512, 32, 3, false, DISK},
	{1024, 64, 3, false, DISK},
	{4096, 16, 2, false, DISK},
	{4096, 4, 3, false, DISK},
	{16384, 16, 3, true, 3 * DISK},
	{65536, 16, 3, false, 3 * DISK},
};

START_TEST(random_operations_keep_every_state)
{
	struct model s;
	struct error e;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		model_open(&s, &kinds[_i], seed * 977);
		for (unsigned i = 0; i < 120; i++) {
			unsigned what = (unsigned)model_random(&s, 20), threads = (unsigned)model_random(&s, 3);
			const unsigned most = s.kind.refcount_bits == 2 ? 2 : MAX_STATES;
			if (what == 0 && s.count < most)
				must(model_create(&s, threads, &e) < 0 && !(most == 2 && e.code == ERR_LIMIT), &e);
			else if (what == 1 && s.count)
				must(model_apply(&s, (unsigned)model_random(&s, s.count), threads, &e), &e);
			else if (what == 2 && s.count)
				must(model_delete(&s, (unsigned)model_random(&s, s.count), threads, &e), &e);
			else if (what == 4 && s.count && s.count < most)
				must(model_switch(&s, (unsigned)model_random(&s, s.count), threads, &e) < 0 &&
						!(most == 2 && e.code == ERR_LIMIT),
					&e);
			else if (what == 3)
				must(model_resize(&s, 512 * (1 + (uint32_t)model_random(&s, DISK / 256)), &e), &e);
			else
				model_write(&s);
			if (i % 10 == 9)
				model_expect(&s);
		}
		model_expect(&s);
		must(edit_close(s.ed, &e), &e);
		model_free(&s);
	}
}
END_TEST

START_TEST(a_snapshot_that_cannot_be_counted_changes_nothing)
{
	struct model s;
	struct error e;
	const struct kind narrow = {4096, 1, 3, false, DISK};
	const struct snapshot_new n = {.name = "new", .icount = UINT64_MAX}, wide = {.name = "new", .widen = true};
	uint8_t *before, *after;
	model_open(&s, &narrow, 5);
	for (unsigned i = 0; i < 8; i++)
		model_write(&s);
	model_expect(&s);
	const uint64_t len = model_bytes(&s, &before)->size;
	io_fault_forget(s.fault);
	ck_assert_int_eq(edit_snapshot_create(s.ed, &n, &e), -1);
	ck_assert_int_eq(e.code, ERR_LIMIT);
	ck_assert_ptr_nonnull(strstr(e.msg, "refcounts of 1 bits"));
	ck_assert_uint_eq(io_fault_count(s.fault, FAULT_WRITE), 0);
	ck_assert(model_bytes(&s, &after)->size == len && memcmp(before, after, len) == 0);
	free(before);
	free(after);
	must(edit_snapshot_create(s.ed, &wide, &e), &e);
	ck_assert_uint_eq(s.ed->q->h.refcount_order, 1);
	must(edit_close(s.ed, &e), &e);
	model_free(&s);
}
END_TEST

/* Three snapshots share what the disk has no more, and refcounts were made just as wide as that needs. */
START_TEST(going_back_that_cannot_be_counted_changes_nothing)
{
	struct model s;
	struct error e;
	const struct kind k = {4096, 16, 3, false, DISK};
	uint8_t *before, *after;
	model_open(&s, &k, 9);
	for (unsigned i = 0; i < 8; i++)
		model_write(&s);
	for (unsigned i = 0; i < 3; i++)
		must(model_create(&s, 0, &e), &e);
	memset(s.disk, 0, s.kind.size);
	must(edit_zero(s.ed, 0, s.kind.size, EDIT_MAY_UNMAP, &e) || edit_flush(s.ed, &e) || edit_flush(s.ed, &e), &e);
	must(edit_set_refcount_bits(s.ed, 2, &e), &e);
	model_expect(&s);
	const uint64_t len = model_bytes(&s, &before)->size;
	ck_assert_int_eq(edit_snapshot_apply(s.ed, 1, false, 0, &e), -1);
	ck_assert_int_eq(e.code, ERR_LIMIT);
	ck_assert_ptr_nonnull(strstr(e.msg, "--widen: 4 bits"));
	ck_assert(model_bytes(&s, &after)->size == len && memcmp(before, after, len) == 0);
	free(before);
	free(after);
	must(edit_snapshot_apply(s.ed, 1, true, 0, &e), &e);
	model_go_back(&s, 1);
	ck_assert_uint_eq(s.ed->q->h.refcount_order, 2);
	model_expect(&s);
	must(edit_close(s.ed, &e), &e);
	model_free(&s);
}
END_TEST

struct step {
	enum { CREATE, APPLY, SWITCH, DELETE, WRITES, RESIZE } what;
	unsigned index;
};
/* Every operation with every kind of sharing: the sequence of old that finds bits that were not cleared, then more. */
static const struct step steps[] = {{WRITES, 12}, {CREATE, 0}, {CREATE, 0}, {WRITES, 12}, {DELETE, 0}, {APPLY, 0},
	{WRITES, 6}, {RESIZE, 260}, {WRITES, 6}, {CREATE, 0}, {APPLY, 0}, {DELETE, 1}, {WRITES, 4}, {DELETE, 0},
	{WRITES, 4}, {CREATE, 0}, {WRITES, 4}, {SWITCH, 0}, {WRITES, 4}, {DELETE, 1}, {RESIZE, 300}, {WRITES, 4},
	{SWITCH, 0}, {DELETE, 0}};

static int do_step(struct model *s, const struct step *step, struct error *e)
{
	switch (step->what) {
	case CREATE:
		return model_create(s, 0, e);
	case APPLY:
		return model_apply(s, step->index, 0, e);
	case SWITCH:
		return model_switch(s, step->index, 0, e);
	case DELETE:
		return model_delete(s, step->index, 0, e);
	case RESIZE:
		return model_resize(s, 512 * step->index, e) < 0 ? -1 : edit_flush(s->ed, e);
	case WRITES:
		for (unsigned i = 0; i < step->index; i++)
			model_write(s);
		return edit_flush(s->ed, e);
	}
	return 0;
}

START_TEST(a_crash_leaves_each_state_old_or_new)
{
	struct model s, before;
	struct error e;
	model_open(&s, &kinds[_i], 7 + (uint64_t)_i);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		struct expectation x = {.before = &before, .after = &s};
		size_t count;
		if (steps[i].what >= WRITES) {
			must(do_step(&s, &steps[i], &e), &e);
			continue;
		}
		model_expect(&s);
		model_remember(&before, &s);
		const size_t len = (size_t)s.fault->size;
		AUTO_FREE uint8_t *start = malloc(len);
		must(io_read(s.fault, start, len, 0, &e), &e);
		io_fault_forget(s.fault);
		must(do_step(&s, &steps[i], &e) || edit_flush(s.ed, &e), &e);
		const struct fault_record *records = io_fault_records(s.fault, &count);
		crash_each(start, len, records, count, 20, model_judge, &x);
		ck_assert_uint_gt(x.judged, 10);
		model_forget(&before);
	}
	model_expect(&s);
	must(edit_close(s.ed, &e), &e);
	model_free(&s);
}
END_TEST

/* ---- refcounts of another width ---- */

START_TEST(refcounts_become_wider_and_narrower)
{
	struct model s, before;
	struct error e;
	model_open(&s, &kinds[_i], 700 + (uint64_t)_i);
	for (unsigned i = 0; i < 12; i++)
		model_write(&s);
	for (unsigned bits = 1; bits <= 64; bits = bits < 64 ? bits * 2 : 128) {
		struct expectation x = {.before = &before, .after = &s};
		uint8_t *start;
		size_t count;
		if (s.kind.version < 3 && bits != 16) {
			ck_assert_int_eq(edit_set_refcount_bits(s.ed, bits, &e), -1);
			ck_assert_int_eq(e.code, ERR_UNSUPPORTED);
			continue;
		}
		model_expect(&s);
		model_remember(&before, &s);
		const uint64_t len = model_bytes(&s, &start)->size;
		io_fault_forget(s.fault);
		int rc = edit_set_refcount_bits(s.ed, bits, &e);
		ck_assert(rc == 0 || (bits <= 4 && e.code == ERR_LIMIT));
		must(edit_flush(s.ed, &e), &e);
		ck_assert(rc < 0 || s.ed->q->h.refcount_order == (unsigned)__builtin_ctz(bits));
		const struct fault_record *records = io_fault_records(s.fault, &count);
		crash_each(start, len, records, count, 10, model_judge, &x);
		free(start);
		model_forget(&before);
		if (bits >= 8)
			must(model_create(&s, 0, &e), &e);
		model_write(&s);
	}
	ck_assert_int_eq(edit_set_refcount_bits(s.ed, 3, &e), -1);
	model_expect(&s);
	must(edit_close(s.ed, &e), &e);
	model_free(&s);
}
END_TEST

/* ---- faults ---- */

/* What the operation does to the model alone. */
static void after_step(struct model *s, const struct step *step)
{
	if (step->what == CREATE || step->what == SWITCH)
		model_add(s);
	if (step->what == APPLY || step->what == SWITCH)
		model_go_back(s, step->index);
	if (step->what == DELETE)
		model_remove(s, step->index);
}

/* The operation with its k-th write or flush failing; false: it did not get that far. */
static bool with_fault(const struct model *model, const uint8_t *start, size_t len, const struct step *step,
	enum fault_op op, unsigned k)
{
	struct model s, after;
	struct expectation x = {.before = model, .after = &after};
	struct error e, unsaid;
	struct io *file;
	model_remember(&s, model);
	model_remember(&after, model);
	after_step(&after, step);
	must(io_memory_new(&file, start, len, "top", &e), &e);
	model_reopen(&s, io_fault_new(file));
	io_fault_fail(s.fault, op, k, op == FAULT_WRITE ? ENOSPC : EIO, false);
	bool failed = do_step(&s, step, &e) < 0;
	failed = edit_close(s.ed, &unsaid) < 0 || failed;
	const bool met = io_fault_count(s.fault, op) >= k;
	ck_assert(failed == met);
	AUTO_FREE uint8_t *bytes = malloc(s.fault->size);
	must(io_read(s.fault, bytes, s.fault->size, 0, &e), &e);
	must(io_memory_new(&file, bytes, s.fault->size, "after a fault", &e), &e);
	model_judge(&x, file, "after a fault");
	io_close(file);
	chain_close(s.chain);
	model_forget(&s);
	model_forget(&after);
	return met;
}

START_TEST(a_fault_leaves_each_state_old_or_new)
{
	struct model s;
	struct error e;
	model_open(&s, &kinds[_i], 70 + (uint64_t)_i);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		model_expect(&s);
		const size_t len = (size_t)s.fault->size;
		AUTO_FREE uint8_t *start = malloc(len);
		must(io_read(s.fault, start, len, 0, &e), &e);
		for (unsigned k = 1; steps[i].what < WRITES && with_fault(&s, start, len, &steps[i], FAULT_WRITE, k);)
			k++;
		for (unsigned k = 1; steps[i].what < WRITES && with_fault(&s, start, len, &steps[i], FAULT_FLUSH, k);)
			k++;
		must(do_step(&s, &steps[i], &e), &e);
	}
	model_expect(&s);
	must(edit_close(s.ed, &e), &e);
	model_free(&s);
}
END_TEST

Suite *suite_snapshot_edit(void);
Suite *suite_snapshot_edit(void)
{
	const int n = sizeof kinds / sizeof *kinds;
	Suite *s = suite_create("snapshot_edit");
	TCase *t = tcase_create("states");
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, random_operations_keep_every_state, 0, n);
	tcase_add_test(t, a_snapshot_that_cannot_be_counted_changes_nothing);
	tcase_add_test(t, going_back_that_cannot_be_counted_changes_nothing);
	tcase_add_loop_test(t, refcounts_become_wider_and_narrower, 0, n);
	tcase_add_loop_test(t, a_crash_leaves_each_state_old_or_new, 0, n);
	tcase_add_loop_test(t, a_fault_leaves_each_state_old_or_new, 0, n);
	suite_add_tcase(s, t);
	return s;
}
