/* SPDX-License-Identifier: Apache-2.0
 *
 * check -r, FORMAT.md §12.5: each damage is put right on each kind of image, what states read as stays, a second check is clean;
 * the same after a crash at any write and after a failure of any.
 */
#include "qcow2/check.h"
#include "qcow2/edit.h"
#include "tests/unit/crash.h"
#include "tests/unit/damage.h"
#include "tests/unit/image_view.h"

#include <check.h>
#include <errno.h>

struct report {
	uint64_t hash; /* of all findings in order */
	struct check_result r;
	struct error e;
};

static void note(void *ctx, const struct finding *f)
{
	struct report *p = ctx;
	for (const char *c = f->text; *c; c++)
		p->hash = (p->hash ^ (uint8_t)*c) * 0x100000001b3ull;
}

/* A repair, or a check if `mode` is -1. */
static int run(struct io *file, int mode, unsigned threads, struct report *p)
{
	struct layer l = {.file = file, .data = file, .format = IMAGE_QCOW2};
	const struct check_opts opts = {.threads = threads, .found = note, .ctx = p};
	int rc;
	*p = (struct report){.hash = 0xcbf29ce484222325ull};
	rc = qcow2_open(&l.q, file, QCOW2_OPEN_INSPECT | (mode < 0 ? 0 : QCOW2_OPEN_REPAIR), &p->e);
	if (rc == 0 && mode < 0)
		rc = qcow2_check(&l, &opts, &p->r, &p->e);
	else if (rc == 0)
		rc = qcow2_repair(&l, (enum repair_mode)mode, &opts, &p->r, &p->e);
	qcow2_close(l.q);
	return rc;
}

static struct io *memory(const uint8_t *bytes, size_t len)
{
	struct error e;
	struct io *io;
	ck_assert_int_eq(io_memory_new(&io, bytes, len, "image", &e), 0);
	return io;
}

static bool all_clean(const struct check_result *r)
{
	return !r->corruptions && !r->leaks && !r->check_errors;
}

/* A second check finds nothing, nor does the simple look, no mark is left, and nothing reads otherwise. */
static void expect_repaired(const struct damaged *d, struct io *file, const char *what)
{
	struct image_view v;
	struct report p;
	if (run(file, -1, 0, &p) < 0 || !all_clean(&p.r))
		ck_abort_msg("%s: still %llu corruptions, %llu leaks %s", what, (unsigned long long)p.r.corruptions,
			(unsigned long long)p.r.leaks, p.e.msg);
	image_view_open(&v, io_memory_bytes(file), file->size);
	ck_assert_uint_eq(v.h.incompatible & (INCOMPAT_DIRTY | INCOMPAT_CORRUPT), 0);
	image_view_close(&v);
	damaged_expect_states(d, file, what);
}

static void repair_and_expect(const struct damaged *d, struct io *file, const char *what)
{
	struct report p;
	if (run(file, REPAIR_ALL, 0, &p) < 0)
		ck_abort_msg("%s: %s", what, p.e.msg);
	if (!all_clean(&p.r))
		ck_abort_msg("%s: not all repaired", what);
	expect_repaired(d, file, what);
}

/* The image with damage `i`; false: this kind cannot have it. */
static bool make(struct damaged *d, const struct damaged *sound, unsigned i)
{
	damaged_copy(d, sound);
	if (!damages[i].make || damages[i].make(d))
		return true;
	damaged_free(d);
	return false;
}

START_TEST(each_damage_is_repaired)
{
	struct damaged sound, d;
	damaged_new(&sound, &damage_kinds[_i], 1000 + (uint64_t)_i);
	for (unsigned i = 0; i < damage_count; i++) {
		struct report serial, parallel;
		if (!make(&d, &sound, i))
			continue;
		AUTO_IO struct io *file = memory(d.bytes, d.len);
		AUTO_IO struct io *again = memory(d.bytes, d.len);
		int rc = run(file, REPAIR_ALL, 0, &serial);
		ck_assert_msg(rc == 0, "%s: %s", damages[i].name, serial.e.msg);
		ck_assert_msg((serial.r.corruptions_fixed || serial.r.leaks_fixed) == (i != 0), "%s", damages[i].name);
		expect_repaired(&d, file, damages[i].name);
		/* the same with threads: findings, numbers, bytes */
		ck_assert_int_eq(run(again, REPAIR_ALL, 3, &parallel), 0);
		ck_assert_msg(serial.hash == parallel.hash, "%s: not the same with threads", damages[i].name);
		ck_assert(memcmp(&serial.r, &parallel.r, sizeof serial.r) == 0);
		ck_assert_uint_eq(file->size, again->size);
		ck_assert(memcmp(io_memory_bytes(file), io_memory_bytes(again), file->size) == 0);
		/* and nothing is left to do */
		ck_assert_int_eq(run(again, REPAIR_ALL, 0, &parallel), 0);
		ck_assert(!parallel.r.corruptions_fixed && !parallel.r.leaks_fixed);
		ck_assert(memcmp(io_memory_bytes(file), io_memory_bytes(again), file->size) == 0);
		damaged_free(&d);
	}
	damaged_free(&sound);
}
END_TEST

START_TEST(damages_together_are_repaired)
{
	struct damaged sound;
	damaged_new(&sound, &damage_kinds[_i], 2000 + (uint64_t)_i);
	for (unsigned n = 0; n < 60; n++) {
		struct damaged d;
		char what[100] = "";
		damaged_copy(&d, &sound);
		d.random += n;
		for (unsigned k = 1; k <= DAMAGE_WAYS; k++) {
			const unsigned i = (unsigned)damaged_random(&d, damage_count);
			if (damages[i].way != k)
				continue;
			damages[i].make(&d);
			snprintf(what + strlen(what), sizeof what - strlen(what), "%s, ", damages[i].name);
		}
		AUTO_IO struct io *file = memory(d.bytes, d.len);
		repair_and_expect(&d, file, what);
		damaged_free(&d);
	}
	damaged_free(&sound);
}
END_TEST

START_TEST(leaks_alone_never_do_harm)
{
	struct damaged sound, d;
	damaged_new(&sound, &damage_kinds[_i], 3000 + (uint64_t)_i);
	for (unsigned i = 0; i < damage_count; i++) {
		struct report before, repair, after = {0};
		if (!make(&d, &sound, i))
			continue;
		AUTO_IO struct io *file = memory(d.bytes, d.len);
		const bool checked = run(file, -1, 0, &before) == 0;
		const int rc = run(file, REPAIR_LEAKS, 0, &repair);
		if (rc < 0)
			ck_assert_msg(memcmp(io_memory_bytes(file), d.bytes, d.len) == 0, "%s", damages[i].name);
		if (checked && rc == 0) {
			ck_assert_int_eq(run(file, -1, 0, &after), 0);
			ck_assert_uint_eq(after.r.leaks, 0);
			ck_assert_uint_le(after.r.corruptions, before.r.corruptions);
			ck_assert_uint_eq(repair.r.leaks_fixed, before.r.leaks);
		}
		if (i == 1) /* nothing but leaks, and COPIED that follow from them */
			ck_assert(rc == 0 && (all_clean(&after.r) || _i == 1));
		damaged_expect_states(&d, file, damages[i].name);
		repair_and_expect(&d, file, damages[i].name);
		damaged_free(&d);
	}
	damaged_free(&sound);
}
END_TEST

/* ---- crashes and failures ---- */

static void judge(void *ctx, struct io *file, const char *what)
{
	const struct damaged *d = ctx;
	damaged_expect_states(d, file, what);
	repair_and_expect(d, file, what);
}

START_TEST(a_crash_leaves_what_can_be_repaired)
{
	struct damaged sound, d;
	damaged_new(&sound, &damage_kinds[_i], 4000 + (uint64_t)_i);
	for (unsigned i = 1; i < damage_count; i++) {
		struct report p;
		size_t count;
		if (!make(&d, &sound, i))
			continue;
		AUTO_IO struct io *file = io_fault_new(memory(d.bytes, d.len));
		ck_assert_int_eq(run(file, REPAIR_ALL, 0, &p), 0);
		const struct fault_record *records = io_fault_records(file, &count);
		ck_assert_uint_gt(count, 1);
		crash_each(d.bytes, d.len, records, count, 10, judge, &d);
		damaged_free(&d);
	}
	damaged_free(&sound);
}
END_TEST

/* The k-th call fails; false: there are not so many. */
static bool with_fault(const struct damaged *d, enum fault_op op, unsigned k, const char *what)
{
	struct report p;
	struct error e;
	AUTO_IO struct io *file = io_fault_new(memory(d->bytes, d->len));
	io_fault_fail(file, op, k, op == FAULT_WRITE ? ENOSPC : EIO, false);
	const int rc = run(file, REPAIR_ALL, 0, &p);
	const bool met = io_fault_count(file, op) >= k;
	/* what could not be read may just not have been looked at */
	ck_assert_msg(op == FAULT_READ || met == (rc < 0), "%s: call %u", what, k);
	io_fault_fail(file, op, 0, 0, false);
	uint8_t *bytes = malloc(file->size);
	ck_assert_int_eq(io_read(file, bytes, file->size, 0, &e), 0);
	AUTO_IO struct io *left = memory(bytes, file->size);
	free(bytes);
	damaged_expect_states(d, left, what);
	repair_and_expect(d, left, what);
	return met;
}

START_TEST(a_failure_leaves_what_can_be_repaired)
{
	static const enum fault_op ops[] = {FAULT_WRITE, FAULT_FLUSH, FAULT_READ};
	struct damaged sound, d;
	damaged_new(&sound, &damage_kinds[_i], 5000 + (uint64_t)_i);
	for (unsigned i = 1; i < damage_count; i++) {
		if (!make(&d, &sound, i))
			continue;
		for (unsigned o = 0; o < 3; o++)
			for (unsigned k = 1; with_fault(&d, ops[o], k, damages[i].name);)
				k++;
		damaged_free(&d);
	}
	damaged_free(&sound);
}
END_TEST

/* An image left by a crash with lazy refcounts, or one whose damage is no business of a writer. */
START_TEST(a_dirty_image_is_repaired_before_it_is_written_to)
{
	for (unsigned corrupt = 0; corrupt < 2; corrupt++) {
		struct damaged d;
		struct error e;
		struct edit *ed = NULL;
		char path[] = "memory";
		damaged_new(&d, &damage_kinds[0], 6000);
		for (unsigned i = 0; i < damage_count; i++)
			if (strcmp(damages[i].name, corrupt ? "marks" : "refcounts of 0") == 0)
				damages[i].make(&d);
		struct header h = d.h;
		h.incompatible |= INCOMPAT_DIRTY | (corrupt ? INCOMPAT_CORRUPT : 0);
		header_encode(&h, d.bytes);
		AUTO_IO struct io *file = memory(d.bytes, d.len);
		struct layer l = {.path = path, .file = file, .data = file, .format = IMAGE_QCOW2};
		ck_assert_int_eq(qcow2_open(&l.q, file, 0, &e), 0);
		l.size = l.q->size;
		ck_assert_int_eq(edit_open(&ed, &l, NULL, &e), corrupt ? -1 : 0);
		if (corrupt)
			ck_assert_int_eq(e.code, ERR_CORRUPT);
		ck_assert(memcmp(io_memory_bytes(file), d.bytes, d.len) == 0 || !corrupt);
		if (!corrupt)
			ck_assert_int_eq(edit_close(ed, &e), 0);
		qcow2_close(l.q);
		if (!corrupt)
			expect_repaired(&d, file, "dirty");
		damaged_free(&d);
	}
}
END_TEST

Suite *suite_repair(void);
Suite *suite_repair(void)
{
	Suite *s = suite_create("repair");
	TCase *t = tcase_create("repair");
	const int n = (int)damage_kind_count;
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, each_damage_is_repaired, 0, n);
	tcase_add_loop_test(t, damages_together_are_repaired, 0, n);
	tcase_add_loop_test(t, leaks_alone_never_do_harm, 0, n);
	tcase_add_loop_test(t, a_crash_leaves_what_can_be_repaired, 0, n);
	tcase_add_loop_test(t, a_failure_leaves_what_can_be_repaired, 0, n);
	tcase_add_test(t, a_dirty_image_is_repaired_before_it_is_written_to);
	suite_add_tcase(s, t);
	return s;
}
