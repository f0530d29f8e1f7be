/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking, going back to and deleting internal snapshots (FORMAT.md §8, §12.4), against copies of the disk in memory: in random order
 * between writes of all sorts, and cut off or failing at any moment.
 */
#include "qcow2/edit.h"
#include "tests/unit/crash.h"
#include "tests/unit/image_builder.h"
#include "tests/unit/image_view.h"

#include <check.h>
#include <errno.h>

enum { MAX_STATES = 12, DISK = 96 << 10 };

struct kind {
	uint32_t cluster_size, refcount_bits;
	unsigned version;
	bool extended_l2;
	uint32_t size;
};
static const struct kind kinds[] = {
	{512, 16, 3, false, DISK},
	{512, 2, 3, false, DISK},
	{512, 8, 3, false, DISK - 512},
	{512, 32, 3, false, DISK},
	{1024, 64, 3, false, DISK},
	{4096, 16, 2, false, DISK},
	{4096, 4, 3, false, DISK},
	{16384, 16, 3, true, 3 * DISK},
	{65536, 16, 3, false, 3 * DISK},
};

struct state { /* what a snapshot, or the disk, shows */
	char name[16];
	uint8_t *bytes;
};
struct subject {
	struct kind kind;
	struct chain *chain;
	struct io *fault;
	struct edit *ed;
	uint8_t *disk;
	struct state snapshots[MAX_STATES];
	unsigned count, named;
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

static uint8_t *copy_of(const uint8_t *bytes, size_t len)
{
	uint8_t *out = malloc(len);
	NEED(out);
	return memcpy(out, bytes, len);
}

static void reopen(struct subject *s, struct io *file)
{
	struct io *none = NULL;
	struct error e;
	s->fault = file;
	s->chain = chain_of(&s->fault, &none, 1);
	must(edit_open(&s->ed, &s->chain->layers[0], NULL, &e), &e);
}

static void subject_open(struct subject *s, const struct kind *k, uint64_t seed)
{
	struct image_create c;
	struct error e;
	struct io *file;
	*s = (struct subject){.kind = *k, .random = seed};
	s->disk = calloc(1, k->size);
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = k->size;
	c.cluster_size = k->cluster_size;
	c.refcount_bits = k->refcount_bits;
	c.version = k->version;
	c.extended_l2 = k->extended_l2;
	must(io_memory_new(&file, "", 0, "top", &e) || image_create_run(&c, file, NULL, &e), &e);
	reopen(s, io_fault_new(file));
}

static void subject_free(struct subject *s)
{
	for (unsigned i = 0; i < s->count; i++)
		free(s->snapshots[i].bytes);
	chain_close(s->chain);
	free(s->disk);
}

/* ---- what is done ---- */

static void fill(struct subject *s, uint8_t *p, size_t len)
{
	const unsigned range = next_random(s, 3) ? 256 : 4;
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)next_random(s, range);
}

static void do_write(struct subject *s)
{
	uint64_t guest = next_random(s, s->kind.size), len = 1 + next_random(s, 12000);
	const uint64_t cluster = guest - guest % s->kind.cluster_size;
	struct error e;
	len = len < s->kind.size - guest ? len : s->kind.size - guest;
	switch (next_random(s, 5)) {
	case 0:
		must(edit_zero(s->ed, guest, len, EDIT_MAY_UNMAP, &e), &e);
		memset(s->disk + guest, 0, len);
		break;
	case 1:
		len = s->kind.cluster_size < s->kind.size - cluster ? s->kind.cluster_size : s->kind.size - cluster;
		fill(s, s->disk + cluster, len);
		must(edit_write_compressed(s->ed, s->disk + cluster, len, cluster, &e), &e);
		break;
	default:
		fill(s, s->disk + guest, len);
		must(edit_write(s->ed, s->disk + guest, len, guest, &e), &e);
	}
}

static int create(struct subject *s, unsigned threads, struct error *e)
{
	struct state *t = &s->snapshots[s->count];
	const struct snapshot_new n = {.name = t->name, .date_sec = 1, .icount = UINT64_MAX, .threads = threads};
	snprintf(t->name, sizeof t->name, "s%u", ++s->named);
	if (edit_snapshot_create(s->ed, &n, e) < 0)
		return -1;
	t->bytes = copy_of(s->disk, s->kind.size);
	s->count++;
	return 0;
}

static int apply(struct subject *s, unsigned index, unsigned threads, struct error *e)
{
	if (edit_snapshot_apply(s->ed, index, threads, e) < 0)
		return -1;
	memcpy(s->disk, s->snapshots[index].bytes, s->kind.size);
	return 0;
}

static int delete_one(struct subject *s, unsigned index, unsigned threads, struct error *e)
{
	if (edit_snapshot_delete(s->ed, index, threads, e) < 0)
		return -1;
	free(s->snapshots[index].bytes);
	s->count--;
	for (unsigned i = index; i < s->count; i++)
		s->snapshots[i] = s->snapshots[i + 1];
	return 0;
}

/* ---- what must be true ---- */

/* The state as the reading engine shows it; NULL when it is `want`, else where they differ. */
static const char *shows(struct io *file, int snapshot, const uint8_t *want, uint32_t size)
{
	struct io *none = NULL, *image;
	struct error e;
	struct chain *c = chain_of(&file, &none, 1);
	AUTO_FREE uint8_t *bytes = malloc(size);
	if (snapshot >= 0)
		must(qcow2_snapshot_select(c->layers[0].q, (uint32_t)snapshot, &e), &e);
	c->size = c->layers[0].size = c->layers[0].q->size;
	const char *wrong = c->size == size ? NULL : "size";
	must(chain_io(&image, c, &e), &e);
	if (!wrong)
		must(io_read(image, bytes, size, 0, &e), &e);
	if (!wrong && memcmp(bytes, want, size) != 0)
		wrong = "content";
	io_close(image);
	c->layers[0].file = NULL; /* the caller's */
	if (c->layers[0].data == file)
		c->layers[0].data = NULL;
	chain_close(c);
	return wrong;
}

static void expect_all(struct subject *s)
{
	struct image_view v;
	struct error e;
	AUTO_FREE uint8_t *bytes = malloc(s->fault->size);
	must(edit_flush(s->ed, &e), &e);
	must(edit_close(s->ed, &e), &e);
	must(io_read(s->fault, bytes, s->fault->size, 0, &e), &e);
	image_view_open(&v, bytes, s->fault->size);
	ck_assert_uint_eq(v.h.snapshot_count, s->count);
	image_view_close(&v);
	ck_assert_ptr_null(shows(s->fault, -1, s->disk, s->kind.size));
	for (unsigned i = 0; i < s->count; i++) {
		const char *wrong = shows(s->fault, (int)i, s->snapshots[i].bytes, s->kind.size);
		ck_assert_msg(!wrong, "snapshot %s: %s", s->snapshots[i].name, wrong);
	}
	must(edit_open(&s->ed, &s->chain->layers[0], NULL, &e), &e);
}

START_TEST(random_operations_keep_every_state)
{
	struct subject s;
	struct error e;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		subject_open(&s, &kinds[_i], seed * 977);
		for (unsigned i = 0; i < 120; i++) {
			unsigned what = (unsigned)next_random(&s, 20), threads = (unsigned)next_random(&s, 3);
			const unsigned most = s.kind.refcount_bits == 2 ? 2 : MAX_STATES;
			if (what == 0 && s.count < most)
				must(create(&s, threads, &e) < 0 && !(most == 2 && e.code == ERR_LIMIT), &e);
			else if (what == 1 && s.count)
				must(apply(&s, (unsigned)next_random(&s, s.count), threads, &e), &e);
			else if (what == 2 && s.count)
				must(delete_one(&s, (unsigned)next_random(&s, s.count), threads, &e), &e);
			else
				do_write(&s);
			if (i % 10 == 9)
				expect_all(&s);
		}
		expect_all(&s);
		must(edit_close(s.ed, &e), &e);
		subject_free(&s);
	}
}
END_TEST

/* ---- crashes ---- */

struct expectation {
	const struct kind *kind;
	const struct subject *before, *after;
	unsigned judged;
};

static bool is_state(struct io *file, int snapshot, const struct state *states, unsigned count, const char *name,
	uint32_t size)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(states[i].name, name) == 0)
			return !shows(file, snapshot, states[i].bytes, size);
	return false;
}

static void judge(void *ctx, struct io *file, const char *what)
{
	struct expectation *x = ctx;
	struct image_view v;
	struct error e;
	struct qcow2 *q;
	const uint32_t size = x->kind->size;
	image_view_open_crashed(&v, io_memory_bytes(file), file->size);
	image_view_close(&v);
	if (shows(file, -1, x->before->disk, size) && shows(file, -1, x->after->disk, size))
		ck_abort_msg("%s: the disk is neither old nor new", what);
	must(qcow2_open(&q, file, 0, &e), &e);
	const unsigned count = q->snapshot_count;
	if (count != x->before->count && count != x->after->count)
		ck_abort_msg("%s: %u snapshots", what, count);
	for (unsigned i = 0; i < count; i++)
		if (!is_state(file, (int)i, x->before->snapshots, x->before->count, q->snapshots[i].name, size) &&
			!is_state(file, (int)i, x->after->snapshots, x->after->count, q->snapshots[i].name, size))
			ck_abort_msg("%s: snapshot %s is neither old nor new", what, q->snapshots[i].name);
	qcow2_close(q);
	x->judged++;
}

/* A copy of what the model says, without the image. */
static void remember(struct subject *to, const struct subject *s)
{
	*to = *s;
	to->disk = copy_of(s->disk, s->kind.size);
	for (unsigned i = 0; i < s->count; i++)
		to->snapshots[i].bytes = copy_of(s->snapshots[i].bytes, s->kind.size);
}

static void forget(struct subject *s)
{
	for (unsigned i = 0; i < s->count; i++)
		free(s->snapshots[i].bytes);
	free(s->disk);
}

struct step {
	enum { CREATE, APPLY, DELETE, WRITES } what;
	unsigned index;
};
/* Every operation with every kind of sharing: the sequence of old that finds bits that were not cleared, then more. */
static const struct step steps[] = {{WRITES, 12}, {CREATE, 0}, {CREATE, 0}, {WRITES, 12}, {DELETE, 0}, {APPLY, 0},
	{WRITES, 6}, {CREATE, 0}, {APPLY, 0}, {DELETE, 1}, {WRITES, 4}, {DELETE, 0}, {WRITES, 4}};

static int do_step(struct subject *s, const struct step *step, struct error *e)
{
	switch (step->what) {
	case CREATE:
		return create(s, 0, e);
	case APPLY:
		return apply(s, step->index, 0, e);
	case DELETE:
		return delete_one(s, step->index, 0, e);
	case WRITES:
		for (unsigned i = 0; i < step->index; i++)
			do_write(s);
		return edit_flush(s->ed, e);
	}
	return 0;
}

START_TEST(a_crash_leaves_each_state_old_or_new)
{
	struct subject s, before;
	struct error e;
	subject_open(&s, &kinds[_i], 7 + (uint64_t)_i);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		struct expectation x = {.kind = &kinds[_i], .before = &before, .after = &s};
		size_t count;
		if (steps[i].what == WRITES) {
			must(do_step(&s, &steps[i], &e), &e);
			continue;
		}
		expect_all(&s);
		remember(&before, &s);
		const size_t len = (size_t)s.fault->size;
		AUTO_FREE uint8_t *start = malloc(len);
		must(io_read(s.fault, start, len, 0, &e), &e);
		io_fault_forget(s.fault);
		must(do_step(&s, &steps[i], &e) || edit_flush(s.ed, &e), &e);
		const struct fault_record *records = io_fault_records(s.fault, &count);
		crash_each(start, len, records, count, 20, judge, &x);
		ck_assert_uint_gt(x.judged, 10);
		forget(&before);
	}
	expect_all(&s);
	must(edit_close(s.ed, &e), &e);
	subject_free(&s);
}
END_TEST

/* ---- faults ---- */

/* What the operation does to the model alone. */
static void model_step(struct subject *s, const struct step *step)
{
	if (step->what == CREATE) {
		struct state *t = &s->snapshots[s->count++];
		snprintf(t->name, sizeof t->name, "s%u", ++s->named);
		t->bytes = copy_of(s->disk, s->kind.size);
	} else if (step->what == APPLY) {
		memcpy(s->disk, s->snapshots[step->index].bytes, s->kind.size);
	} else {
		free(s->snapshots[step->index].bytes);
		s->count--;
		for (unsigned i = step->index; i < s->count; i++)
			s->snapshots[i] = s->snapshots[i + 1];
	}
}

/* The operation with its k-th write or flush failing; false: it did not get that far. */
static bool with_fault(const struct subject *model, const uint8_t *start, size_t len, const struct step *step,
	enum fault_op op, unsigned k)
{
	struct subject s, after;
	struct expectation x = {.kind = &model->kind, .before = model, .after = &after};
	struct error e, unsaid;
	struct io *file;
	remember(&s, model);
	remember(&after, model);
	model_step(&after, step);
	must(io_memory_new(&file, start, len, "top", &e), &e);
	reopen(&s, io_fault_new(file));
	io_fault_fail(s.fault, op, k, op == FAULT_WRITE ? ENOSPC : EIO, false);
	bool failed = do_step(&s, step, &e) < 0;
	failed = edit_close(s.ed, &unsaid) < 0 || failed;
	const bool met = io_fault_count(s.fault, op) >= k;
	ck_assert(failed == met);
	AUTO_FREE uint8_t *bytes = malloc(s.fault->size);
	must(io_read(s.fault, bytes, s.fault->size, 0, &e), &e);
	must(io_memory_new(&file, bytes, s.fault->size, "after a fault", &e), &e);
	judge(&x, file, "after a fault");
	io_close(file);
	chain_close(s.chain);
	forget(&s);
	forget(&after);
	return met;
}

START_TEST(a_fault_leaves_each_state_old_or_new)
{
	struct subject s;
	struct error e;
	subject_open(&s, &kinds[_i], 70 + (uint64_t)_i);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		expect_all(&s);
		const size_t len = (size_t)s.fault->size;
		AUTO_FREE uint8_t *start = malloc(len);
		must(io_read(s.fault, start, len, 0, &e), &e);
		for (unsigned k = 1; steps[i].what != WRITES && with_fault(&s, start, len, &steps[i], FAULT_WRITE, k);)
			k++;
		for (unsigned k = 1; steps[i].what != WRITES && with_fault(&s, start, len, &steps[i], FAULT_FLUSH, k);)
			k++;
		must(do_step(&s, &steps[i], &e), &e);
	}
	expect_all(&s);
	must(edit_close(s.ed, &e), &e);
	subject_free(&s);
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
	tcase_add_loop_test(t, a_crash_leaves_each_state_old_or_new, 0, n);
	tcase_add_loop_test(t, a_fault_leaves_each_state_old_or_new, 0, n);
	suite_add_tcase(s, t);
	return s;
}
