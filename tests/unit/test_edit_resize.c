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
	bool extended_l2, backing, data_file;
};
static const struct kind kinds[] = {
	{512, 16, 3, false, false, false},
	{512, 16, 3, false, true, false},
	{512, 1, 3, false, false, false},
	{512, 64, 3, false, false, false},
	{4096, 16, 2, false, false, false},
	{4096, 16, 2, false, true, false},
	{4096, 64, 3, false, true, false},
	{16384, 16, 3, true, false, false},
	{16384, 16, 3, true, true, false},
	{65536, 16, 3, false, true, false},
	{512, 16, 3, false, false, true},
	{4096, 16, 3, false, true, true},
	{16384, 16, 3, true, false, true},
};

struct state {
	uint8_t *bytes;
	uint64_t size;
};
struct subject {
	struct kind kind;
	struct chain *chain;
	struct io *fault, *data, *backing; /* data: NULL without a data file */
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

static void reopen(struct subject *s, struct io *file, struct io *data)
{
	struct error e;
	s->fault = file;
	s->data = data;
	s->chain = chain_of(&s->fault, &s->data, 1);
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
	struct io *file, *data = NULL;
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
	c.data_file = k->data_file ? "data" : NULL;
	if (k->data_file)
		must(io_memory_new(&data, "", 0, "data", &e), &e);
	must(io_memory_new(&file, "", 0, "top", &e) || image_create_run(&c, file, data, &e), &e);
	file = io_fault_new(file);
	reopen(s, file, data ? io_fault_beside(data, file) : NULL);
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

static bool can_snapshot(const struct subject *s)
{
	return !s->snapshot.size && s->kind.version == 3 && s->kind.refcount_bits > 1 && !s->kind.data_file;
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

static const char *shows(struct io *const *ios, struct io *backing, int snapshot, const struct state *want)
{
	struct io *files[] = {ios[0], backing}, *data[] = {ios[1], NULL}, *image;
	struct error e;
	struct chain *c = chain_of(files, data, backing ? 2 : 1);
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
	struct io *const files[] = {s->fault, s->data};
	ck_assert_ptr_null(shows(files, s->backing, -1, &s->disk));
	if (s->snapshot.size)
		ck_assert_ptr_null(shows(files, s->backing, 0, &s->snapshot));
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
			bool may_snapshot = can_snapshot(&s);
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

static struct io *memory_copy(struct io *file)
{
	struct io *copy = NULL;
	struct error e;
	if (!file)
		return NULL;
	AUTO_FREE uint8_t *bytes = malloc(file->size + 1);
	must(io_read(file, bytes, file->size, 0, &e) || io_memory_new(&copy, bytes, file->size, "copy", &e), &e);
	return copy;
}

/* What a crash left behind the end must not show when the disk grows again. */
static void grow_again(const struct subject *s, struct io *const *files, const struct state *shown, const char *what)
{
	struct state want = {calloc(1, LARGEST), LARGEST};
	struct subject t = {.backing = s->backing};
	struct io *const copies[] = {memory_copy(files[0]), s->data ? memory_copy(files[1]) : NULL};
	struct error e;
	memcpy(want.bytes, shown->bytes, shown->size);
	reopen(&t, copies[0], copies[1]);
	must(edit_resize(t.ed, LARGEST, PREALLOC_OFF, &e) || edit_close(t.ed, &e), &e);
	const char *wrong = shows(copies, s->backing, -1, &want);
	if (wrong)
		ck_abort_msg("%s, then grown: %s", what, wrong);
	chain_close(t.chain);
	free(want.bytes);
}

static void judge(void *ctx, struct io *const *ios, const char *what)
{
	struct expectation *x = ctx;
	struct io *const files[] = {ios[0], x->s->data ? ios[1] : NULL};
	struct image_view v;
	image_view_open_crashed(&v, io_memory_bytes(files[0]), files[0]->size);
	image_view_close(&v);
	bool is_old = !shows(files, x->s->backing, -1, &x->before);
	if (!is_old && shows(files, x->s->backing, -1, &x->s->disk))
		ck_abort_msg("%s: the disk is neither old nor new", what);
	grow_again(x->s, files, is_old ? &x->before : &x->s->disk, what);
	if (x->s->snapshot.size && shows(files, x->s->backing, 0, &x->s->snapshot))
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
	AUTO_IO struct io *start = memory_copy(s->fault), *data = memory_copy(s->data);
	struct error e;
	size_t count;
	io_fault_forget(s->fault);
	must(resize(s, size, prealloc, &e) || edit_flush(s->ed, &e), &e);
	const struct fault_record *records = io_fault_records(s->fault, &count);
	struct crash_start starts[CRASH_FILES] = {{io_memory_bytes(start), start->size}};
	if (data)
		starts[1] = (struct crash_start){io_memory_bytes(data), data->size};
	crash_each_of(starts, data ? 2 : 1, records, count, 20, judge, &x);
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
			if (i == 1 && can_snapshot(&s))
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

struct fault {
	enum fault_op op;
	bool data; /* of the data file */
	unsigned k;
};

/* False: it did not get as far as the k-th. */
static bool with_fault(const struct subject *s, struct io *const *start, uint64_t size, const struct fault *f)
{
	struct subject t = *s;
	struct expectation x = {.s = &t, .before = copy_of(&s->disk)};
	struct error e, unsaid;
	t.disk = copy_of(&s->disk);
	model_resize(&t.disk, size);
	struct io *file = io_fault_new(memory_copy(start[0])), *data = memory_copy(start[1]);
	reopen(&t, file, data ? io_fault_beside(data, file) : NULL);
	struct io *failing = f->data ? t.data : t.fault;
	const unsigned from = io_fault_count(failing, f->op);
	io_fault_fail(failing, f->op, f->k, f->op == FAULT_WRITE ? ENOSPC : EIO, false);
	bool failed = edit_resize(t.ed, size, PREALLOC_OFF, &e) < 0;
	failed = edit_close(t.ed, &unsaid) < 0 || failed;
	const bool met = io_fault_count(failing, f->op) >= from + f->k;
	/* clusters that could not be given back to the file system are no failure */
	ck_assert(failed == met || (met && f->op == FAULT_ZERO));
	io_fault_fail(failing, f->op, 0, 0, false);
	struct io *files[] = {memory_copy(t.fault), memory_copy(t.data)};
	judge(&x, files, "after a fault");
	io_close(files[0]);
	io_close(files[1]);
	chain_close(t.chain);
	free(t.disk.bytes);
	free(x.before.bytes);
	return met;
}

static void each_fault(const struct subject *s, uint64_t size)
{
	static const enum fault_op ops[] = {FAULT_READ, FAULT_WRITE, FAULT_ZERO, FAULT_FLUSH, FAULT_TRUNCATE};
	struct io *start[] = {memory_copy(s->fault), memory_copy(s->data)};
	struct fault f = {.data = false};
	do {
		for (size_t o = 0; o < sizeof ops / sizeof *ops; o++) {
			f.op = ops[o];
			for (f.k = 1; with_fault(s, start, size, &f);)
				f.k++;
		}
		f.data = !f.data;
	} while (f.data && s->data);
	io_close(start[0]);
	io_close(start[1]);
}

START_TEST(a_fault_leaves_the_old_size_or_the_new)
{
	struct subject s;
	struct error e;
	subject_open(&s, &kinds[_i], 70);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (unsigned k = 0; k < 10; k++)
			do_write(&s);
		expect_all(&s);
		each_fault(&s, sizes[i]);
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
	static const struct kind narrow = {512, 64, 3, false, false, false};
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
