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
	if (m->kind.data_file)
		return;
	if (edit_snapshot_create(m->ed, &n, &e) < 0 && m->kind.refcount_bits <= 2 && e.code == ERR_LIMIT)
		return;
	need(edit_flush(m->ed, &e), &e);
	m->snapshot = memcpy(malloc(m->kind.size), m->versions[m->count - 1], m->kind.size);
}

/* The image as another program left it, without its editor. */
static void leave_dirty(struct edit_model *m)
{
	struct error e;
	struct io *none = NULL;
	need(edit_close(m->ed, &e), &e);
	edit_model_make_dirty(m);
	m->chain->layers[0].file = NULL;
	m->chain->layers[0].data = NULL;
	chain_close(m->chain);
	m->chain = chain_of(&m->fault, &none, 1);
}

/* Operations and a flush; every crash in between. */
static void segment(struct edit_model *m, uint64_t seed)
{
	struct error e;
	size_t count;
	m->random = seed;
	if (m->kind.lazy)
		leave_dirty(m);
	const size_t len = (size_t)m->fault->size, data_len = m->data ? (size_t)m->data->size : 0;
	AUTO_FREE uint8_t *start = malloc(len), *data = malloc(data_len + 1);
	need(io_read(m->fault, start, len, 0, &e) || (m->data && io_read(m->data, data, data_len, 0, &e)), &e);
	io_fault_forget(m->fault);
	if (m->kind.lazy)
		need(edit_open(&m->ed, &m->chain->layers[0], &(struct edit_opts){.backing = m->backing}, &e), &e);
	for (unsigned i = 0; i < STEPS; i++)
		need(edit_model_step(m, &e), &e);
	need(edit_flush(m->ed, &e), &e);
	const struct fault_record *records = io_fault_records(m->fault, &count);
	const struct crash_start starts[] = {{start, len}, {data, data_len}};
	crash_each_of(starts, m->data ? 2 : 1, records, count, 12, edit_model_judge, m);
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
	edit_model_look_at_raw(&m, m.data, "at the end");
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

/* What fails: the k-th call of an operation, or the k-th allocation. */
struct fault {
	enum fault_op op; /* FAULT_OPS: an allocation */
	bool data;        /* of the data file */
	unsigned k;
	int sys_errno;
};

static void judge_fault(struct edit_model *m, bool broken, const char *what)
{
	struct error e;
	struct edit *ed;
	struct io *files[] = {edit_model_copy(m->fault), m->data ? edit_model_copy(m->data) : NULL};
	AUTO_FREE uint8_t *disk = malloc(m->kind.size);
	if (!broken)
		edit_model_flushed(m);
	edit_model_judge(m, files, what);
	struct chain *c = edit_model_look(m, files[0], files[1], &ed, disk);
	need(edit_close(ed, &e), &e);
	chain_close(c);
}

static void no_more(struct edit_model *m)
{
	for (enum fault_op op = 0; op < FAULT_OPS; op++) {
		io_fault_fail(m->fault, op, 0, 0, false);
		if (m->data)
			io_fault_fail(m->data, op, 0, 0, false);
	}
	alloc_fault_at(0);
}

static unsigned calls(const struct edit_model *m, const struct fault *f)
{
	return f->op < FAULT_OPS ? io_fault_count(f->data ? m->data : m->fault, f->op) : alloc_fault_met();
}

static void plan_fault(struct edit_model *m, const struct fault *f)
{
	if (f->op < FAULT_OPS)
		io_fault_fail(f->data ? m->data : m->fault, f->op, f->k, f->sys_errno, false);
	else
		alloc_fault_at(f->k);
}

/* Opening repairs first. False: it failed. */
static bool open_dirty(struct edit_model *m)
{
	struct error e = {0};
	if (edit_open(&m->ed, &m->chain->layers[0], &(struct edit_opts){.backing = m->backing}, &e) == 0)
		return true;
	ck_assert(e.code != ERR_OK && e.msg[0]);
	m->ed = NULL;
	return false;
}

/* The same operations with the k-th call of some kind failing. */
static struct fault_seen with_fault(const struct edit_kind *kind, const struct fault *f)
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
	if (kind->lazy)
		leave_dirty(&m);
	const unsigned from = calls(&m, f);
	plan_fault(&m, f);
	if (kind->lazy && !open_dirty(&m))
		seen.failed++;
	else
		fault_steps(&m, &seen, no_more);
	const bool failed = edit_close(m.ed, &e) < 0;
	seen.met = seen.failed || failed || calls(&m, f) >= from + (f->op < FAULT_OPS ? f->k : 1);
	seen.failed += failed;
	no_more(&m);
	snprintf(what, sizeof what, "fault %u of kind %d", f->k, f->op);
	judge_fault(&m, failed || m.count > 1, what);
	edit_model_free(&m);
	return seen;
}

static void each_fault(const struct edit_kind *kind, struct fault f)
{
	for (f.data = false;; f.data = true) {
		struct fault_seen all = {0};
		for (f.k = 1;; f.k++) {
			struct fault_seen seen = with_fault(kind, &f);
			if (!seen.met)
				break;
			all.failed += seen.failed > 0;
			all.went_on += seen.went_on > 0;
		}
		/* the entries of a raw data file are all there from the beginning */
		ck_assert(all.failed > 0 || (kind->data_raw && !f.data));
		/* no space for data, or no memory: the next operation works */
		if ((f.op == FAULT_WRITE && f.data == kind->data_file) || f.op == FAULT_OPS)
			ck_assert_uint_gt(all.went_on, 0);
		if (f.data || !kind->data_file || f.op == FAULT_OPS)
			break;
	}
}

START_TEST(a_write_that_fails_harms_nothing)
{
	each_fault(&edit_kinds[_i], (struct fault){.op = FAULT_WRITE, .sys_errno = ENOSPC});
}
END_TEST

START_TEST(a_flush_that_fails_harms_nothing)
{
	each_fault(&edit_kinds[_i], (struct fault){.op = FAULT_FLUSH, .sys_errno = EIO});
}
END_TEST

START_TEST(a_read_that_fails_harms_nothing)
{
	struct fault f = {.op = FAULT_READ, .sys_errno = EIO};
	do {
		for (f.k = 1; f.k < 40 && with_fault(&edit_kinds[_i], &f).met;)
			f.k++;
		f.data = !f.data;
	} while (f.data && edit_kinds[_i].data_file);
}
END_TEST

START_TEST(memory_that_is_not_there_harms_nothing)
{
	each_fault(&edit_kinds[_i], (struct fault){.op = FAULT_OPS});
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
