/* SPDX-License-Identifier: Apache-2.0
 *
 * Guest writes of all sorts, cut off at any moment and failing at any moment (FORMAT.md §12.4): what was flushed is there, what was
 * written since is old or new in each sector, counts are never too low, a snapshot keeps its bytes.
 */
#include "tests/unit/alloc_fault.h"
#include "tests/unit/edit_model.h"

#include <errno.h>

enum { SEGMENTS = 8, STEPS = 6 };

static void take_snapshot(struct edit_model *m)
{
	struct error e;
	const struct snapshot_new n = {.name = "s", .icount = UINT64_MAX};
	if (edit_snapshot_create(m->ed, &n, &e) < 0 && m->kind.refcount_bits <= 2 && e.code == ERR_LIMIT)
		return;
	need(edit_flush(m->ed, &e), &e);
	m->snapshot = memcpy(malloc(m->kind.size), m->versions[m->count - 1], m->kind.size);
}

/* Operations and a flush; every crash in between. */
static void segment(struct edit_model *m, uint64_t seed)
{
	struct error e;
	size_t count;
	const size_t len = (size_t)m->fault->size;
	AUTO_FREE uint8_t *start = malloc(len);
	need(io_read(m->fault, start, len, 0, &e), &e);
	io_fault_forget(m->fault);
	m->random = seed;
	for (unsigned i = 0; i < STEPS; i++)
		need(edit_model_step(m, &e), &e);
	need(edit_flush(m->ed, &e), &e);
	const struct fault_record *records = io_fault_records(m->fault, &count);
	crash_each(start, len, records, count, 12, edit_model_judge, m);
	edit_model_flushed(m);
}

START_TEST(a_crash_keeps_what_was_flushed)
{
	struct edit_model m;
	struct error e;
	edit_model_open(&m, &edit_kinds[_i], 1);
	for (unsigned i = 0; i < SEGMENTS; i++) {
		m.granule = i % 2 ? MODEL_SECTOR : 1;
		if (i == SEGMENTS / 2)
			take_snapshot(&m);
		segment(&m, (uint64_t)_i * 1000 + i);
	}
	need(edit_close(m.ed, &e), &e);
	edit_model_free(&m);
}
END_TEST

/* ---- faults ---- */

struct fault_seen {
	unsigned failed, went_on;
	bool met;
};

/* After an operation that failed: each sector is old or new, and the model goes on with what there is. */
static void settle(struct edit_model *m, unsigned before)
{
	struct error e;
	uint8_t *disk = malloc(m->kind.size);
	struct edit_model two = {.kind = m->kind, .count = 2, .granule = m->granule};
	two.versions[0] = m->versions[before];
	two.versions[1] = m->versions[m->count - 1];
	need(edit_read(m->ed, disk, m->kind.size, 0, &e), &e);
	edit_model_allows(&two, disk, "after a failure");
	m->versions[m->count++] = disk;
}

static void fault_steps(struct edit_model *m, struct fault_seen *seen, void (*off)(struct edit_model *))
{
	struct error e;
	for (unsigned i = 0; i < 10; i++) {
		const bool failed_before = seen->failed;
		const unsigned before = m->count - 1;
		const bool flush = i % 4 == 3;
		e = (struct error){0};
		if ((flush ? edit_flush(m->ed, &e) : edit_model_step(m, &e)) == 0) {
			seen->went_on += failed_before;
			if (flush)
				edit_model_flushed(m);
			continue;
		}
		ck_assert(e.code != ERR_OK && e.msg[0]);
		/* one fault, one failure; unless nothing more is written, which is told each time */
		ck_assert(!failed_before || m->ed->broken);
		seen->failed++;
		off(m);
		if (!flush)
			settle(m, before);
	}
}

static void judge_fault(struct edit_model *m, bool broken, const char *what)
{
	struct error e;
	struct edit *ed;
	struct io *copy = edit_model_copy(m->fault);
	AUTO_FREE uint8_t *disk = malloc(m->kind.size);
	if (!broken)
		edit_model_flushed(m);
	edit_model_judge(m, copy, what);
	struct chain *c = edit_model_look(m, copy, &ed, disk);
	need(edit_close(ed, &e), &e);
	chain_close(c);
}

static void no_more(struct edit_model *m)
{
	for (enum fault_op op = 0; op < FAULT_OPS; op++)
		io_fault_fail(m->fault, op, 0, 0, false);
	alloc_fault_at(0);
}

/* The same operations with the k-th call of some kind failing. */
static struct fault_seen with_fault(const struct edit_kind *kind, int op, unsigned k, int sys_errno)
{
	struct edit_model m;
	struct error e;
	struct fault_seen seen = {0};
	char what[60];
	edit_model_open(&m, kind, 5);
	for (unsigned i = 0; i < 3; i++)
		need(edit_model_step(&m, &e), &e);
	take_snapshot(&m);
	need(edit_flush(m.ed, &e), &e);
	edit_model_flushed(&m);
	if (op < FAULT_OPS)
		io_fault_fail(m.fault, (enum fault_op)op, k, sys_errno, false);
	else
		alloc_fault_at(k);
	const unsigned from = op < FAULT_OPS ? io_fault_count(m.fault, (enum fault_op)op) : 0;
	fault_steps(&m, &seen, no_more);
	const bool failed = edit_close(m.ed, &e) < 0;
	seen.met = seen.failed || failed ||
		   (op < FAULT_OPS ? io_fault_count(m.fault, (enum fault_op)op) >= from + k : alloc_fault_met());
	no_more(&m);
	snprintf(what, sizeof what, "fault %u of kind %d", k, op);
	judge_fault(&m, failed || m.count > 1, what);
	edit_model_free(&m);
	return seen;
}

static void each_fault(const struct edit_kind *kind, int op, int sys_errno, unsigned step)
{
	struct fault_seen all = {0};
	for (unsigned k = 1;; k += step) {
		struct fault_seen seen = with_fault(kind, op, k, sys_errno);
		if (!seen.met)
			break;
		all.failed += seen.failed > 0;
		all.went_on += seen.went_on > 0;
	}
	ck_assert_uint_gt(all.failed, 0);
	/* no space for data, or no memory: the next operation works */
	if (op == FAULT_WRITE || op >= FAULT_OPS)
		ck_assert_uint_gt(all.went_on, 0);
}

START_TEST(a_write_that_fails_harms_nothing)
{
	each_fault(&edit_kinds[_i], FAULT_WRITE, ENOSPC, 1);
}
END_TEST

START_TEST(a_flush_that_fails_harms_nothing)
{
	each_fault(&edit_kinds[_i], FAULT_FLUSH, EIO, 1);
}
END_TEST

START_TEST(a_read_that_fails_harms_nothing)
{
	struct fault_seen seen;
	for (unsigned k = 1; k < 40; k++) {
		seen = with_fault(&edit_kinds[_i], FAULT_READ, k, EIO);
		if (!seen.met)
			break;
	}
}
END_TEST

START_TEST(memory_that_is_not_there_harms_nothing)
{
	each_fault(&edit_kinds[_i], FAULT_OPS, 0, 1);
}
END_TEST

Suite *suite_edit_crash(void);
Suite *suite_edit_crash(void)
{
	Suite *s = suite_create("edit_crash");
	TCase *t = tcase_create("crashes and faults");
	tcase_set_timeout(t, 200);
	tcase_add_loop_test(t, a_crash_keeps_what_was_flushed, 0, (int)edit_kind_count);
	tcase_add_loop_test(t, a_write_that_fails_harms_nothing, 0, (int)edit_kind_count);
	tcase_add_loop_test(t, a_flush_that_fails_harms_nothing, 0, (int)edit_kind_count);
	tcase_add_loop_test(t, a_read_that_fails_harms_nothing, 0, (int)edit_kind_count);
	tcase_add_loop_test(t, memory_that_is_not_there_harms_nothing, 0, (int)edit_kind_count);
	suite_add_tcase(s, t);
	return s;
}
