/* SPDX-License-Identifier: Apache-2.0
 *
 * trim, FORMAT.md §7.4 and §12.3: on each kind of image leaks are freed and what is free is zeroed or cut off, with no other byte read
 * differently; any other damage is refused; the same after a crash at any write and after a failure of any.
 */
#include "qcow2/trim.h"

#include "qcow2/check.h"
#include "tests/unit/crash.h"
#include "tests/unit/damage.h"
#include "tests/unit/image_view.h"

#include <check.h>
#include <errno.h>

enum { LEAKS = 1 }; /* in damages */

static struct io *memory(const uint8_t *bytes, size_t len)
{
	struct error e;
	struct io *io;
	ck_assert_int_eq(io_memory_new(&io, bytes, len, "image", &e), 0);
	return io;
}

static int trim(struct io *file, unsigned threads, struct trim_result *r, struct error *e)
{
	char path[] = "memory";
	struct layer l = {.path = path, .file = file, .data = file, .format = IMAGE_QCOW2};
	int rc = qcow2_open(&l.q, file, QCOW2_OPEN_INSPECT, e);
	if (rc == 0)
		rc = qcow2_trim(&l, threads, NULL, r, e);
	qcow2_close(l.q);
	return rc;
}

static int check(struct io *file, struct check_result *r)
{
	struct layer l = {.file = file, .data = file, .format = IMAGE_QCOW2};
	const struct check_opts opts = {.threads = 0};
	struct error e;
	int rc = qcow2_open(&l.q, file, QCOW2_OPEN_INSPECT, &e);
	if (rc == 0)
		rc = qcow2_check(&l, &opts, r, &e);
	qcow2_close(l.q);
	return rc;
}

/* Sound, nothing free has a byte, the file ends with what is in use. */
static void expect_trimmed(const struct damaged *d, struct io *file, const char *what)
{
	const uint8_t *bytes = io_memory_bytes(file);
	struct image_view v;
	image_view_open(&v, bytes, file->size);
	for (uint64_t i = 0; i < v.clusters; i++) {
		const uint64_t at = i << v.g.cluster_bits;
		if (!v.found[i] && !mem_is_zero(bytes + at, (size_t)min_u64(v.g.cluster_size, file->size - at)))
			ck_abort_msg("%s: cluster %llu is not empty", what, (unsigned long long)i);
	}
	ck_assert_msg(v.found[v.clusters - 1], "%s: the tail is there", what);
	image_view_close(&v);
	damaged_expect_states(d, file, what);
}

static void trim_and_expect(const struct damaged *d, struct io *file, const char *what)
{
	struct trim_result r;
	struct error e;
	if (trim(file, 0, &r, &e) < 0)
		ck_abort_msg("%s: %s", what, e.msg);
	expect_trimmed(d, file, what);
}

/* Puts bytes wherever nothing is referred to, and behind the end. */
static void fill_free(struct damaged *d)
{
	enum { MORE = 3 };
	struct image_view v;
	image_view_open_crashed(&v, d->bytes, d->len);
	const uint64_t size = v.g.cluster_size, end = v.clusters * size;
	uint8_t *bytes = malloc(end + MORE * size);
	ck_assert_ptr_nonnull(bytes);
	memset(bytes, 0xee, end + MORE * size);
	for (uint64_t i = 0; i < v.clusters; i++)
		if (v.found[i])
			memcpy(bytes + i * size, d->bytes + i * size, min_u64(size, d->len - i * size));
	image_view_close(&v);
	free(d->bytes);
	d->bytes = bytes;
	d->len = end + MORE * size;
}

/* An image with leaks and bytes in all that is free. */
static void wasteful(struct damaged *d, const struct damaged *sound)
{
	damaged_copy(d, sound);
	ck_assert(damages[LEAKS].make(d));
	fill_free(d);
}

START_TEST(what_is_free_is_given_back)
{
	struct damaged sound, d;
	struct trim_result serial, parallel;
	struct check_result found;
	struct error e;
	damaged_new(&sound, &damage_kinds[_i], 7000 + (uint64_t)_i);
	wasteful(&d, &sound);
	AUTO_IO struct io *file = memory(d.bytes, d.len);
	AUTO_IO struct io *again = memory(d.bytes, d.len);
	ck_assert_int_eq(check(file, &found), 0);
	ck_assert_uint_gt(found.leaks, 0);
	ck_assert_msg(trim(file, 0, &serial, &e) == 0, "%s", e.msg);
	expect_trimmed(&d, file, "trimmed");
	ck_assert_uint_eq(serial.truncated, d.len - file->size);
	ck_assert_uint_ge(serial.truncated, 3 * (uint64_t)damage_kinds[_i].cluster_size);
	ck_assert_uint_le(serial.freed, found.leaks * damage_kinds[_i].cluster_size);
	/* the same with threads */
	ck_assert_int_eq(trim(again, 3, &parallel, &e), 0);
	ck_assert(serial.freed == parallel.freed && serial.punched == parallel.punched);
	ck_assert_uint_eq(file->size, again->size);
	ck_assert(memcmp(io_memory_bytes(file), io_memory_bytes(again), file->size) == 0);
	/* and again: neither freed nor shortened */
	ck_assert_int_eq(trim(again, 0, &parallel, &e), 0);
	ck_assert(parallel.freed == 0 && parallel.truncated == 0);
	ck_assert(memcmp(io_memory_bytes(file), io_memory_bytes(again), file->size) == 0);
	damaged_free(&d);
	damaged_free(&sound);
}
END_TEST

START_TEST(other_damage_is_refused)
{
	struct damaged sound, d;
	unsigned refused = 0;
	damaged_new(&sound, &damage_kinds[_i], 8000 + (uint64_t)_i);
	for (unsigned i = 0; i < damage_count; i++) {
		struct check_result before;
		struct trim_result r;
		struct error e;
		damaged_copy(&d, &sound);
		if (!damages[i].make || damages[i].make(&d)) {
			AUTO_IO struct io *file = memory(d.bytes, d.len);
			const bool checked = check(file, &before) == 0;
			const bool harm = !checked || before.check_errors || (before.corruptions && !before.leaks);
			const int rc = trim(file, 0, &r, &e);
			ck_assert_msg(!harm || rc < 0, "%s was not refused", damages[i].name);
			ck_assert_msg(!checked || before.corruptions || before.check_errors || rc == 0 ||
					      e.code == ERR_CORRUPT,
				"%s: %s", damages[i].name, e.msg);
			if (rc == 0)
				expect_trimmed(&d, file, damages[i].name);
			else
				ck_assert_msg(memcmp(io_memory_bytes(file), d.bytes, d.len) == 0, "%s",
					damages[i].name);
			refused += rc < 0;
		}
		damaged_free(&d);
	}
	ck_assert_uint_gt(refused, 3);
	damaged_free(&sound);
}
END_TEST

static void judge(void *ctx, struct io *file, const char *what)
{
	const struct damaged *d = ctx;
	struct image_view v;
	image_view_open_crashed(&v, io_memory_bytes(file), file->size);
	image_view_close(&v);
	damaged_expect_states(d, file, what);
	trim_and_expect(d, file, what);
}

START_TEST(a_crash_does_no_harm)
{
	struct damaged sound, d;
	struct trim_result r;
	struct error e;
	size_t count;
	damaged_new(&sound, &damage_kinds[_i], 9000 + (uint64_t)_i);
	wasteful(&d, &sound);
	AUTO_IO struct io *file = io_fault_new(memory(d.bytes, d.len));
	ck_assert_int_eq(trim(file, 0, &r, &e), 0);
	const struct fault_record *records = io_fault_records(file, &count);
	bool given = false;
	for (size_t i = 0; i < count; i++) {
		given |= records[i].op == FAULT_ZERO || records[i].op == FAULT_TRUNCATE;
		/* what is freed is free on the disk before anything is taken from it */
		ck_assert(!given || records[i].op != FAULT_WRITE);
		ck_assert(!given || i == 0 || records[i].op == FAULT_FLUSH || records[i - 1].op != FAULT_WRITE);
	}
	ck_assert(given);
	crash_each(d.bytes, d.len, records, count, 10, judge, &d);
	damaged_free(&d);
	damaged_free(&sound);
}
END_TEST

/* The k-th call fails; false: there are not so many. */
static bool with_fault(const struct damaged *d, enum fault_op op, unsigned k)
{
	struct trim_result r;
	struct error e;
	AUTO_IO struct io *file = io_fault_new(memory(d->bytes, d->len));
	io_fault_fail(file, op, k, op == FAULT_WRITE ? ENOSPC : EIO, false);
	const int rc = trim(file, 0, &r, &e);
	const bool met = io_fault_count(file, op) >= k;
	/* opening reads again what could not be read */
	ck_assert_msg(op == FAULT_READ || met == (rc < 0), "call %u of kind %d", k, (int)op);
	io_fault_fail(file, op, 0, 0, false);
	uint8_t *bytes = malloc(file->size);
	ck_assert_int_eq(io_read(file, bytes, file->size, 0, &e), 0);
	AUTO_IO struct io *left = memory(bytes, file->size);
	free(bytes);
	damaged_expect_states(d, left, "after a failure");
	trim_and_expect(d, left, "after a failure");
	return met;
}

START_TEST(a_failure_does_no_harm)
{
	static const enum fault_op ops[] = {FAULT_READ, FAULT_WRITE, FAULT_ZERO, FAULT_FLUSH, FAULT_TRUNCATE};
	struct damaged sound, d;
	damaged_new(&sound, &damage_kinds[_i], 10000 + (uint64_t)_i);
	wasteful(&d, &sound);
	for (unsigned o = 0; o < sizeof ops / sizeof *ops; o++) {
		unsigned k = 1;
		while (with_fault(&d, ops[o], k))
			k++;
		/* not each of the images has something free in its middle */
		ck_assert(k > 1 || ops[o] == FAULT_ZERO);
	}
	damaged_free(&d);
	damaged_free(&sound);
}
END_TEST

Suite *suite_trim(void);
Suite *suite_trim(void)
{
	Suite *s = suite_create("trim");
	TCase *t = tcase_create("trim");
	const int n = (int)damage_kind_count;
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, what_is_free_is_given_back, 0, n);
	tcase_add_loop_test(t, other_damage_is_refused, 0, n);
	tcase_add_loop_test(t, a_crash_does_no_harm, 0, n);
	tcase_add_loop_test(t, a_failure_does_no_harm, 0, n);
	suite_add_tcase(s, t);
	return s;
}
