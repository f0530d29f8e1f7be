/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk made longer and shorter (FORMAT.md §12.4), against plain bytes: what was cut off never comes back, nor does anything of a
 * longer backing file; snapshots keep their sizes; cut off or failing at any moment it has the old size or the new.
 */
#include "qcow2/edit.h"
#include "tests/unit/crash.h"
#include "tests/unit/image_builder.h"
#include "tests/unit/image_view.h"

#include <check.h>
#include <errno.h>

enum { LARGEST = 400 << 10, BACKING = 150 << 10 };

struct kind {
	uint32_t cluster_size, refcount_bits;
	unsigned version;
	bool extended_l2, backing;
};
static const struct kind kinds[] = {
	{512, 16, 3, false, false},
	{512, 16, 3, false, true},
	{512, 1, 3, false, false},
	{512, 64, 3, false, false},
	{4096, 16, 2, false, false},
	{4096, 16, 2, false, true},
	{4096, 64, 3, false, true},
	{16384, 16, 3, true, false},
	{16384, 16, 3, true, true},
	{65536, 16, 3, false, true},
};

struct state {
	uint8_t *bytes;
	uint64_t size;
};
struct subject {
	struct kind kind;
	struct chain *chain;
	struct io *fault, *backing;
	struct edit *ed;
	struct state disk, snapshot; /* bytes: LARGEST of them; snapshot: none while size is 0 */
	uint64_t random;
};

static uint64_t next_random(struct subject *s, uint64_t below)
{
	s->random = s->random * 6364136223846793005ull + 1442695040888963407ull;
	return (s->random >> 33) % below;
}

static void must(int failed, const struct error *e)
{
	if (failed)
		ck_abort_msg("%s", e->msg);
}

static void reopen(struct subject *s, struct io *file)
{
	struct io *none = NULL;
	struct error e;
	s->fault = file;
	s->chain = chain_of(&s->fault, &none, 1);
	must(edit_open(&s->ed, &s->chain->layers[0], &(struct edit_opts){.backing = s->backing}, &e), &e);
}

static void fill(struct subject *s, uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)next_random(s, 255) + 1;
}

static void subject_open(struct subject *s, const struct kind *k, uint64_t seed)
{
	struct image_create c;
	struct error e;
	struct io *file;
	*s = (struct subject){.kind = *k, .random = seed, .disk.size = 100 << 10};
	s->disk.bytes = calloc(1, LARGEST);
	s->snapshot.bytes = calloc(1, LARGEST);
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = s->disk.size;
	c.cluster_size = k->cluster_size;
	c.refcount_bits = k->refcount_bits;
	c.version = k->version;
	c.extended_l2 = k->extended_l2;
	if (k->backing) {
		AUTO_FREE uint8_t *bytes = malloc(BACKING);
		c.backing_name = "base.raw";
		c.backing_format = "raw";
		fill(s, bytes, BACKING);
		memcpy(s->disk.bytes, bytes, s->disk.size);
		must(io_memory_new(&s->backing, bytes, BACKING, "base.raw", &e), &e);
	}
	must(io_memory_new(&file, "", 0, "top", &e) || image_create_run(&c, file, NULL, &e), &e);
	reopen(s, io_fault_new(file));
}

static void subject_free(struct subject *s)
{
	chain_close(s->chain);
	io_close(s->backing);
	free(s->disk.bytes);
	free(s->snapshot.bytes);
}

/* ---- what is done ---- */

static void do_write(struct subject *s)
{
	uint64_t guest = next_random(s, s->disk.size), len = 1 + next_random(s, 12000);
	struct error e;
	len = min_u64(len, s->disk.size - guest);
	if (next_random(s, 4) == 0) {
		must(edit_zero(s->ed, guest, len, EDIT_MAY_UNMAP, &e), &e);
		memset(s->disk.bytes + guest, 0, len);
		return;
	}
	fill(s, s->disk.bytes + guest, len);
	must(edit_write(s->ed, s->disk.bytes + guest, len, guest, &e), &e);
}

static void model_resize(struct state *d, uint64_t size)
{
	if (size < d->size)
		memset(d->bytes + size, 0, d->size - size);
	d->size = size;
}

static int resize(struct subject *s, uint64_t size, enum prealloc prealloc, struct error *e)
{
	if (edit_resize(s->ed, size, size < s->disk.size ? PREALLOC_OFF : prealloc, e))
		return -1;
	model_resize(&s->disk, size);
	return 0;
}

static void take_snapshot(struct subject *s)
{
	const struct snapshot_new n = {.name = "s", .date_sec = 1, .icount = UINT64_MAX};
	struct error e;
	must(edit_snapshot_create(s->ed, &n, &e), &e);
	memcpy(s->snapshot.bytes, s->disk.bytes, LARGEST);
	s->snapshot.size = s->disk.size;
}

/* ---- what must be true ---- */

static const char *shows(struct io *file, struct io *backing, int snapshot, const struct state *want)
{
	struct io *files[] = {file, backing}, *image;
	struct error e;
	struct chain *c = chain_of(files, NULL, backing ? 2 : 1);
	struct layer *top = &c->layers[0];
	AUTO_FREE uint8_t *bytes = malloc(LARGEST);
	if (snapshot >= 0)
		must(qcow2_snapshot_select(top->q, (uint32_t)snapshot, &e), &e);
	c->size = top->size = top->q->size;
	const char *wrong = c->size == want->size ? NULL : "size";
	must(chain_io(&image, c, &e), &e);
	if (!wrong)
		must(io_read(image, bytes, want->size, 0, &e), &e);
	if (!wrong && memcmp(bytes, want->bytes, want->size) != 0)
		wrong = "content";
	io_close(image);
	for (unsigned i = 0; i < c->count; i++)
		c->layers[i].file = c->layers[i].data = NULL; /* the caller's */
	chain_close(c);
	return wrong;
}

static void expect_all(struct subject *s)
{
	struct image_view v;
	struct error e;
	must(edit_close(s->ed, &e), &e);
	AUTO_FREE uint8_t *bytes = malloc(s->fault->size);
	must(io_read(s->fault, bytes, s->fault->size, 0, &e), &e);
	image_view_open(&v, bytes, s->fault->size);
	image_view_close(&v);
	ck_assert_ptr_null(shows(s->fault, s->backing, -1, &s->disk));
	if (s->snapshot.size)
		ck_assert_ptr_null(shows(s->fault, s->backing, 0, &s->snapshot));
	must(edit_open(&s->ed, &s->chain->layers[0], &(struct edit_opts){.backing = s->backing}, &e), &e);
}

static uint64_t some_size(struct subject *s)
{
	return 512 * (1 + next_random(s, LARGEST / 512));
}

START_TEST(what_was_cut_off_stays_away)
{
	struct subject s;
	struct error e;
	for (uint64_t seed = 1; seed <= 6; seed++) {
		subject_open(&s, &kinds[_i], seed * 977);
		for (unsigned i = 0; i < 60; i++) {
			bool may_snapshot = !s.snapshot.size && s.kind.version == 3 && s.kind.refcount_bits > 1;
			if (i == 20 && seed % 2 && may_snapshot)
				take_snapshot(&s);
			else if (next_random(&s, 4) == 0)
				must(resize(&s, some_size(&s), (enum prealloc)next_random(&s, 4), &e), &e);
			else
				do_write(&s);
			if (i % 5 == 4)
				expect_all(&s);
		}
		expect_all(&s);
		must(edit_close(s.ed, &e), &e);
		subject_free(&s);
	}
}
END_TEST

/* ---- crashes and faults ---- */

struct expectation {
	const struct subject *s; /* its disk: the new one */
	struct state before;
	unsigned judged;
};

/* What a crash left behind the end must not show when the disk grows again. */
static void grow_again(const struct subject *s, struct io *file, const struct state *shown, const char *what)
{
	struct state want = {calloc(1, LARGEST), LARGEST};
	struct subject t = {.backing = s->backing};
	struct io *copy;
	struct error e;
	memcpy(want.bytes, shown->bytes, shown->size);
	must(io_memory_new(&copy, io_memory_bytes(file), file->size, "copy", &e), &e);
	reopen(&t, copy);
	must(edit_resize(t.ed, LARGEST, PREALLOC_OFF, &e) || edit_close(t.ed, &e), &e);
	const char *wrong = shows(copy, s->backing, -1, &want);
	if (wrong)
		ck_abort_msg("%s, then grown: %s", what, wrong);
	chain_close(t.chain);
	free(want.bytes);
}

static void judge(void *ctx, struct io *file, const char *what)
{
	struct expectation *x = ctx;
	struct image_view v;
	image_view_open_crashed(&v, io_memory_bytes(file), file->size);
	image_view_close(&v);
	bool is_old = !shows(file, x->s->backing, -1, &x->before);
	if (!is_old && shows(file, x->s->backing, -1, &x->s->disk))
		ck_abort_msg("%s: the disk is neither old nor new", what);
	grow_again(x->s, file, is_old ? &x->before : &x->s->disk, what);
	if (x->s->snapshot.size && shows(file, x->s->backing, 0, &x->s->snapshot))
		ck_abort_msg("%s: the snapshot is another one", what);
	x->judged++;
}

static struct state copy_of(const struct state *d)
{
	struct state copy = {malloc(LARGEST), d->size};
	memcpy(copy.bytes, d->bytes, LARGEST);
	return copy;
}

static void crash_resize(struct subject *s, uint64_t size, enum prealloc prealloc)
{
	struct expectation x = {.s = s, .before = copy_of(&s->disk)};
	const size_t len = (size_t)s->fault->size;
	AUTO_FREE uint8_t *start = malloc(len);
	struct error e;
	size_t count;
	must(io_read(s->fault, start, len, 0, &e), &e);
	io_fault_forget(s->fault);
	must(resize(s, size, prealloc, &e) || edit_flush(s->ed, &e), &e);
	const struct fault_record *records = io_fault_records(s->fault, &count);
	crash_each(start, len, records, count, 20, judge, &x);
	free(x.before.bytes);
	ck_assert_uint_gt(x.judged, 1);
}

static const uint64_t sizes[] = {30208, 200 << 10, 99 << 10, LARGEST, 1024, 120 << 10};

START_TEST(a_crash_leaves_the_old_size_or_the_new)
{
	struct subject s;
	struct error e;
	for (unsigned p = PREALLOC_OFF; p <= PREALLOC_FULL; p++) {
		subject_open(&s, &kinds[_i], 7 + p);
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			for (unsigned k = 0; k < 10; k++)
				do_write(&s);
			if (i == 1 && s.kind.version == 3 && s.kind.refcount_bits > 1)
				take_snapshot(&s);
			expect_all(&s);
			crash_resize(&s, sizes[i], (enum prealloc)p);
		}
		expect_all(&s);
		must(edit_close(s.ed, &e), &e);
		subject_free(&s);
	}
}
END_TEST

/* False: it did not get as far as the k-th. */
static bool with_fault(const struct subject *s, const uint8_t *start, size_t len, uint64_t size, enum fault_op op,
	unsigned k)
{
	struct subject t = *s;
	struct expectation x = {.s = &t, .before = copy_of(&s->disk)};
	struct error e, unsaid;
	struct io *file;
	t.disk = copy_of(&s->disk);
	model_resize(&t.disk, size);
	must(io_memory_new(&file, start, len, "top", &e), &e);
	reopen(&t, io_fault_new(file));
	io_fault_fail(t.fault, op, k, op == FAULT_WRITE ? ENOSPC : EIO, false);
	bool failed = edit_resize(t.ed, size, PREALLOC_OFF, &e) < 0;
	failed = edit_close(t.ed, &unsaid) < 0 || failed;
	const bool met = io_fault_count(t.fault, op) >= k;
	ck_assert(failed == met);
	AUTO_FREE uint8_t *bytes = malloc(t.fault->size);
	must(io_read(t.fault, bytes, t.fault->size, 0, &e), &e);
	must(io_memory_new(&file, bytes, t.fault->size, "after a fault", &e), &e);
	judge(&x, file, "after a fault");
	io_close(file);
	chain_close(t.chain);
	free(t.disk.bytes);
	free(x.before.bytes);
	return met;
}

START_TEST(a_fault_leaves_the_old_size_or_the_new)
{
	static const enum fault_op ops[] = {FAULT_WRITE, FAULT_FLUSH, FAULT_TRUNCATE};
	struct subject s;
	struct error e;
	subject_open(&s, &kinds[_i], 70);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (unsigned k = 0; k < 10; k++)
			do_write(&s);
		expect_all(&s);
		const size_t len = (size_t)s.fault->size;
		AUTO_FREE uint8_t *start = malloc(len);
		must(io_read(s.fault, start, len, 0, &e), &e);
		for (size_t o = 0; o < sizeof ops / sizeof *ops; o++)
			for (unsigned k = 1; with_fault(&s, start, len, sizes[i], ops[o], k);)
				k++;
		must(resize(&s, sizes[i], PREALLOC_OFF, &e), &e);
	}
	expect_all(&s);
	must(edit_close(s.ed, &e), &e);
	subject_free(&s);
}
END_TEST

/* An L1 table of many more clusters than one refcount block counts. */
START_TEST(tables_longer_than_a_refblock_counts)
{
	static const struct kind narrow = {512, 64, 3, false, false};
	static const uint64_t wide[] = {300 << 20, 100 << 20, 2ull << 30};
	struct subject s;
	struct error e;
	subject_open(&s, &narrow, 3);
	for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
		uint8_t byte = (uint8_t)i + 1;
		must(edit_resize(s.ed, wide[i], PREALLOC_OFF, &e), &e);
		must(edit_write(s.ed, &byte, 1, wide[i] - 1, &e) || edit_flush(s.ed, &e), &e);
	}
	/* and one of so many clusters in a row */
	must(edit_resize(s.ed, wide[2] + (4 << 20), PREALLOC_METADATA, &e), &e);
	must(edit_close(s.ed, &e), &e);
	AUTO_FREE uint8_t *bytes = malloc(s.fault->size);
	struct image_view v;
	must(io_read(s.fault, bytes, s.fault->size, 0, &e), &e);
	image_view_open(&v, bytes, s.fault->size);
	image_view_close(&v);
	subject_free(&s);
}
END_TEST

START_TEST(what_cannot_be_is_refused_untouched)
{
	struct subject s;
	struct error e;
	subject_open(&s, &kinds[4], 1);
	take_snapshot(&s);
	expect_all(&s);
	io_fault_forget(s.fault);
	/* as old versions wrote it: it would change with the disk */
	s.chain->layers[0].q->snapshots[0].entry.has_disk_size = false;
	ck_assert_int_lt(edit_resize(s.ed, 200 << 10, PREALLOC_OFF, &e), 0);
	ck_assert_int_lt(edit_resize(s.ed, 1000, PREALLOC_OFF, &e), 0);
	ck_assert_int_lt(edit_resize(s.ed, 1ull << 62, PREALLOC_OFF, &e), 0);
	ck_assert_uint_eq(io_fault_count(s.fault, FAULT_WRITE), 0);
	must(edit_close(s.ed, &e), &e);
	subject_free(&s);
}
END_TEST

Suite *suite_edit_resize(void);
Suite *suite_edit_resize(void)
{
	const int n = sizeof kinds / sizeof *kinds;
	Suite *s = suite_create("edit_resize");
	TCase *t = tcase_create("model");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, what_was_cut_off_stays_away, 0, n);
	tcase_add_loop_test(t, a_crash_leaves_the_old_size_or_the_new, 0, n);
	tcase_add_loop_test(t, a_fault_leaves_the_old_size_or_the_new, 0, n);
	tcase_add_test(t, tables_longer_than_a_refblock_counts);
	tcase_add_test(t, what_cannot_be_is_refused_untouched);
	suite_add_tcase(s, t);
	return s;
}
