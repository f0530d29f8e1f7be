/* SPDX-License-Identifier: Apache-2.0
 *
 * commit and rebase of chains in memory: whatever a crash or a failure leaves, the disk shows what it showed, and each file is one
 * that a check can put right (FORMAT.md §12.4). The base is durable before the first change of the image above it.
 */
#include "convert/convert.h"
#include "qcow2/edit.h"
#include "tests/unit/crash.h"
#include "tests/unit/image_builder.h"
#include "tests/unit/image_view.h"

#include <check.h>
#include <errno.h>

enum { LARGEST = 300 << 10, LAYERS = 3 };

struct kind {
	uint32_t cluster_size[LAYERS]; /* of top, middle, base; 0: raw */
	uint64_t size[LAYERS];
	unsigned version;
	bool extended_l2;
};
static const struct kind kinds[] = {
	{{512, 4096, 512}, {100 << 10, 100 << 10, 100 << 10}, 3, false},
	{{512, 512, 0}, {200 << 10, 60 << 10, 100 << 10}, 3, false},
	{{4096, 512, 65536}, {100 << 10, 200 << 10, 50 << 10}, 3, false},
	{{65536, 4096, 4096}, {(200 << 10) + 512, 30208, 150 << 10}, 2, false},
	{{16384, 16384, 16384}, {250 << 10, 200 << 10, 100 << 10}, 3, true},
};

struct subject {
	const struct kind *kind;
	struct io *files[LAYERS]; /* each behind a recording io */
	struct chain *chain;
	uint8_t *disk; /* what the top shows */
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

static void write_some(struct subject *s, struct edit *ed, uint64_t size)
{
	uint8_t bytes[9000];
	struct error e;
	for (unsigned i = 0; i < 12; i++) {
		uint64_t guest = next_random(s, size), len = min_u64(1 + next_random(s, sizeof bytes), size - guest);
		memset(bytes, (int)next_random(s, 4) + 1, sizeof bytes);
		if (i % 4 == 3)
			must(edit_zero(ed, guest, len, EDIT_MAY_UNMAP, &e), &e);
		else
			must(edit_write(ed, bytes, len, guest, &e), &e);
	}
}

static struct io *new_raw(struct subject *s, uint64_t size)
{
	struct io *file;
	struct error e;
	AUTO_FREE uint8_t *bytes = calloc(1, size);
	for (uint64_t i = 0; i < size; i += 1000)
		memset(bytes + i, (int)next_random(s, 4), min_u64(1000, size - i));
	must(io_memory_new(&file, bytes, size, "raw", &e), &e);
	return file;
}

static struct io *new_qcow2(struct subject *s, unsigned layer, const char *backing)
{
	struct image_create c;
	struct io *file, *none = NULL;
	struct error e;
	struct edit *ed;
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = s->kind->size[layer];
	c.cluster_size = s->kind->cluster_size[layer];
	c.version = s->kind->version;
	c.extended_l2 = s->kind->extended_l2;
	c.backing_name = backing;
	c.backing_format = backing ? "raw" : NULL;
	must(io_memory_new(&file, "", 0, "image", &e) || image_create_run(&c, file, NULL, &e), &e);
	struct chain *alone = chain_of(&file, &none, 1);
	struct io *zeros = NULL;
	if (backing)
		must(io_memory_new(&zeros, s->disk, LARGEST, "below", &e), &e);
	must(edit_open(&ed, &alone->layers[0], &(struct edit_opts){.backing = zeros}, &e), &e);
	write_some(s, ed, c.size);
	must(edit_close(ed, &e), &e);
	io_close(zeros);
	alone->layers[0].file = alone->layers[0].data = NULL;
	chain_close(alone);
	return file;
}

/* Reads a chain whose files are the caller's; of its top a snapshot, or -1. */
static uint64_t read_state(struct io **files, unsigned count, int snapshot, uint8_t *out)
{
	struct chain *c = chain_of(files, NULL, count);
	struct io *image;
	struct error e;
	if (snapshot >= 0)
		must(qcow2_snapshot_select(c->layers[0].q, (uint32_t)snapshot, &e), &e);
	c->size = snapshot >= 0 ? c->layers[0].q->size : c->size;
	c->layers[0].size = c->size;
	must(chain_io(&image, c, &e) || io_read(image, out, c->size, 0, &e), &e);
	uint64_t size = c->size;
	io_close(image);
	for (unsigned i = 0; i < count; i++)
		c->layers[i].file = c->layers[i].data = NULL;
	chain_close(c);
	return size;
}

static uint64_t read_chain(struct io **files, unsigned count, uint8_t *out)
{
	return read_state(files, count, -1, out);
}

static struct io *copy_of(struct io *file)
{
	struct io *copy;
	struct error e;
	AUTO_FREE uint8_t *bytes = malloc(file->size + 1);
	must(io_read(file, bytes, file->size, 0, &e) || io_memory_new(&copy, bytes, file->size, "copy", &e), &e);
	return copy;
}

static void subject_make(struct subject *s, const struct kind *k, uint64_t seed, bool one_record)
{
	struct io *none[LAYERS] = {NULL};
	*s = (struct subject){.kind = k, .random = seed, .disk = calloc(1, LARGEST)};
	for (unsigned i = LAYERS; i-- > 0;) {
		struct io *file =
			k->cluster_size[i] ? new_qcow2(s, i, i + 1 < LAYERS ? "below" : NULL) : new_raw(s, k->size[i]);
		s->files[i] = one_record && i == 0 ? io_fault_beside(file, s->files[LAYERS - 1]) : io_fault_new(file);
	}
	read_chain(s->files, LAYERS, s->disk);
	s->chain = chain_of(s->files, none, LAYERS);
}

static void subject_open(struct subject *s, const struct kind *k, uint64_t seed)
{
	subject_make(s, k, seed, false);
}

static void subject_free(struct subject *s)
{
	chain_close(s->chain);
	free(s->disk);
}

static void expect_disk(struct subject *s, struct io *top, struct io *base, const char *what)
{
	struct io *files[LAYERS] = {top, s->files[1], base};
	AUTO_FREE uint8_t *bytes = calloc(1, LARGEST);
	uint64_t size = read_chain(files, LAYERS, bytes);
	if (size != s->kind->size[0] || memcmp(bytes, s->disk, size))
		ck_abort_msg("%s: the disk is another one", what);
}

static void expect_file(struct io *file)
{
	struct image_view v;
	image_view_open_crashed(&v, io_memory_bytes(file), file->size);
	image_view_close(&v);
}

/* ---- commit ---- */

struct expectation {
	struct subject *s;
	struct io *other; /* the file that is not being judged, as it was then */
	bool of_top, raw;
	unsigned judged;
};

static void judge_commit(void *ctx, struct io *file, const char *what)
{
	struct expectation *x = ctx;
	if (!x->raw)
		expect_file(file);
	expect_disk(x->s, x->of_top ? file : x->other, x->of_top ? x->other : file, what);
	x->judged++;
}

static int commit(struct subject *s, unsigned threads, struct error *e)
{
	const struct commit_opts o = {.image = s->chain, .base = LAYERS - 1, .threads = threads};
	struct commit_opts into_base = o;
	/* As commit without -b does it with a chain of two: the top is emptied once all of it lies below. */
	into_base.keep = true;
	if (convert_commit(&into_base, e))
		return -1;
	into_base.base = 1;
	into_base.keep = false;
	return convert_commit(&into_base, e);
}

static void judge_records(struct expectation *x, struct io *before, struct io *fault)
{
	size_t count;
	const struct fault_record *records = io_fault_records(fault, &count);
	crash_each(io_memory_bytes(before), before->size, records, count, 20, judge_commit, x);
}

START_TEST(commit_keeps_the_disk_at_every_moment)
{
	struct subject s;
	struct error e;
	subject_open(&s, &kinds[_i], 7 + (uint64_t)_i);
	struct io *top = copy_of(s.files[0]), *base = copy_of(s.files[LAYERS - 1]);
	const struct commit_opts o = {.image = s.chain, .base = LAYERS - 1, .keep = true};
	must(convert_commit(&o, &e), &e);
	struct expectation x = {.s = &s, .other = top, .raw = !s.kind->cluster_size[LAYERS - 1]};
	judge_records(&x, base, s.files[LAYERS - 1]);
	ck_assert_uint_eq(io_fault_count(s.files[0], FAULT_WRITE), 0);
	ck_assert_uint_gt(x.judged, 10);
	expect_disk(&s, s.files[0], s.files[LAYERS - 1], "in the end");
	io_close(top);
	io_close(base);
	subject_free(&s);
}
END_TEST

/* Two layers: the middle one takes what the top has, which is emptied. */
START_TEST(the_top_is_emptied_only_when_the_base_is_durable)
{
	struct subject s;
	struct error e;
	size_t count;
	subject_open(&s, &kinds[_i], 70 + (uint64_t)_i);
	struct io *top = copy_of(s.files[0]);
	const struct commit_opts o = {.image = s.chain, .base = 1, .threads = 2};
	io_fault_fail(s.files[0], FAULT_WRITE, 1, EIO, true);
	ck_assert_int_lt(convert_commit(&o, &e), 0);
	const struct fault_record *r = io_fault_records(s.files[1], &count);
	ck_assert_uint_gt(count, 0);
	ck_assert_int_eq(r[count - 1].op, FAULT_FLUSH);
	/* Again, all the way: the base has it all, the top goes cluster by cluster. */
	io_fault_forget(s.files[0]);
	must(convert_commit(&o, &e), &e);
	struct expectation x = {.s = &s, .other = s.files[LAYERS - 1], .of_top = true};
	judge_records(&x, top, s.files[0]);
	ck_assert_uint_gt(x.judged, 5);
	AUTO_FREE uint8_t *bytes = calloc(1, LARGEST);
	read_chain(s.files + 1, LAYERS - 1, bytes);
	ck_assert_int_eq(memcmp(bytes, s.disk, s.kind->size[0]), 0);
	io_close(top);
	subject_free(&s);
}
END_TEST

START_TEST(a_fault_in_commit_keeps_the_disk)
{
	static const enum fault_op ops[] = {FAULT_READ, FAULT_WRITE, FAULT_FLUSH, FAULT_TRUNCATE, FAULT_ZERO};
	bool met = true;
	for (unsigned i = 0; i < LAYERS * sizeof ops / sizeof *ops; i++) {
		enum fault_op op = ops[i / LAYERS];
		met = true;
		for (unsigned k = 1; met && k < 400; k += 1 + k / 16) {
			struct subject s;
			struct error e;
			subject_open(&s, &kinds[_i], 700 + (uint64_t)_i);
			for (unsigned l = 0; l < LAYERS; l++)
				io_fault_forget(s.files[l]);
			io_fault_fail(s.files[i % LAYERS], op, k, op == FAULT_WRITE ? ENOSPC : EIO, false);
			int failed = commit(&s, k % 3, &e);
			met = io_fault_count(s.files[i % LAYERS], op) >= k;
			/* A look ahead may fail without a word and be done again. */
			ck_assert_msg(op == FAULT_READ ? met || !failed : (failed < 0) == met,
				"file %u, op %d, k %u: %d, %s", i % LAYERS, (int)op, k, failed, failed ? e.msg : "");
			io_fault_fail(s.files[i % LAYERS], op, 0, 0, false);
			expect_disk(&s, s.files[0], s.files[LAYERS - 1], "after a fault");
			subject_free(&s);
		}
	}
}
END_TEST

/* ---- rebase ---- */

struct rebase_case {
	struct subject *s;
	struct io *onto; /* NULL: none */
	unsigned judged;
	uint8_t *snapshots[2]; /* what they show; NULL: there are none */
	uint64_t snapshot_size;
};

static void expect_snapshots(const struct rebase_case *x, struct io **files, unsigned count, const char *what)
{
	AUTO_FREE uint8_t *bytes = calloc(1, LARGEST);
	for (int i = 0; i < 2 && x->snapshots[i]; i++)
		if (read_state(files, count, i, bytes) != x->snapshot_size ||
			memcmp(bytes, x->snapshots[i], x->snapshot_size) != 0)
			ck_abort_msg("%s: snapshot %d is another one", what, i);
}

/* Two snapshots of the top, which share tables with each other and with the disk; `sparse`: the first one has none of its own. */
static void take_snapshots(struct rebase_case *x, bool sparse)
{
	struct subject *s = x->s;
	struct edited d;
	struct error e;
	must(edited_open(&d, s->chain, 0, NULL, &e) || (sparse && edit_empty(d.ed, &e)), &e);
	for (int i = 0; i < 2; i++) {
		const struct snapshot_new n = {.name = i ? "b" : "a", .icount = UINT64_MAX};
		uint8_t byte = (uint8_t)(0x70 + i);
		must(edit_snapshot_create(d.ed, &n, &e) || edit_flush(d.ed, &e), &e);
		x->snapshots[i] = calloc(1, LARGEST);
		x->snapshot_size = read_chain(s->files, LAYERS, x->snapshots[i]);
		must(edit_write(d.ed, &byte, 1, next_random(s, s->kind->size[0]), &e), &e);
	}
	must(edited_close(&d, &e), &e);
	read_chain(s->files, LAYERS, s->disk);
	io_fault_forget(s->files[0]);
}

static void judge_rebase(void *ctx, struct io *file, const char *what)
{
	struct rebase_case *x = ctx;
	struct io *old[LAYERS] = {file, x->s->files[1], x->s->files[2]}, *new[2] = {file, x->onto};
	AUTO_FREE uint8_t *bytes = calloc(1, LARGEST);
	struct qcow2 *q;
	struct error e;
	expect_file(file);
	must(qcow2_open(&q, file, 0, &e), &e);
	bool is_old = q->backing_name && strcmp(q->backing_name, "below") == 0;
	bool is_new = x->onto ? q->backing_name && strcmp(q->backing_name, "onto") == 0 : !q->backing_name;
	if (!is_old && !is_new)
		ck_abort_msg("%s: backing file '%s'", what, q->backing_name ? q->backing_name : "");
	qcow2_close(q);
	uint64_t size = is_old ? read_chain(old, LAYERS, bytes) : read_chain(new, x->onto ? 2 : 1, bytes);
	if (size != x->s->kind->size[0] || memcmp(bytes, x->s->disk, size))
		ck_abort_msg("%s: on the %s backing file the disk is another one", what, is_old ? "old" : "new");
	if (is_old)
		expect_snapshots(x, old, LAYERS, what);
	else
		expect_snapshots(x, new, x->onto ? 2 : 1, what);
	x->judged++;
}

static int rebase(struct rebase_case *x, unsigned threads, struct error *e)
{
	struct io *none = NULL;
	struct chain *onto = x->onto ? chain_of(&x->onto, &none, 1) : NULL;
	const struct rebase_opts o = {.image = x->s->chain,
		.onto = onto,
		.backing_name = onto ? "onto" : NULL,
		.backing_format = onto ? "raw" : NULL,
		.flatten_snapshots = x->snapshots[0] != NULL,
		.threads = threads};
	int failed = convert_rebase(&o, e);
	if (onto) {
		onto->layers[0].file = onto->layers[0].data = NULL;
		chain_close(onto);
	}
	return failed;
}

/* The base and the top, at one moment. */
static void judge_flattened_commit(void *ctx, struct io *const *files, const char *what)
{
	struct rebase_case *x = ctx;
	struct io *layers[LAYERS] = {files[1], x->s->files[1], files[0]};
	expect_file(files[1]);
	if (x->s->kind->cluster_size[LAYERS - 1])
		expect_file(files[0]);
	expect_disk(x->s, files[1], files[0], what);
	expect_snapshots(x, layers, LAYERS, what);
	x->judged++;
}

/* Clusters of their own first, durable, then the base changes. */
START_TEST(flattened_snapshots_stay_while_the_base_changes)
{
	for (unsigned sparse = 0; sparse < 2 && !kinds[_i].extended_l2; sparse++) {
		struct subject s;
		struct error e;
		size_t count;
		subject_make(&s, &kinds[_i], 47 + (uint64_t)_i, true);
		struct rebase_case x = {.s = &s};
		take_snapshots(&x, sparse);
		io_fault_forget(s.files[LAYERS - 1]);
		struct io *top = copy_of(s.files[0]), *base = copy_of(s.files[LAYERS - 1]);
		const struct commit_opts o = {
			.image = s.chain, .base = LAYERS - 1, .keep = true, .flatten_snapshots = true};
		must(convert_commit(&o, &e), &e);
		const struct fault_record *records = io_fault_records(s.files[LAYERS - 1], &count);
		const struct crash_start start[] = {
			{io_memory_bytes(base), base->size}, {io_memory_bytes(top), top->size}};
		crash_each_of(start, 2, records, count, 10, judge_flattened_commit, &x);
		ck_assert_uint_gt(x.judged, 10);
		struct io *done[] = {copy_of(s.files[LAYERS - 1]), copy_of(s.files[0])};
		judge_flattened_commit(&x, done, "in the end");
		io_close(done[0]);
		io_close(done[1]);
		io_close(top);
		io_close(base);
		free(x.snapshots[0]);
		free(x.snapshots[1]);
		subject_free(&s);
	}
}
END_TEST

START_TEST(rebase_keeps_the_disk_at_every_moment)
{
	for (unsigned to = 0; to < 3; to++) {
		struct subject s;
		struct error e;
		size_t count;
		subject_open(&s, &kinds[_i], 17 + (uint64_t)_i);
		struct rebase_case x = {.s = &s, .onto = to ? new_raw(&s, to == 1 ? 50 << 10 : 250 << 10) : NULL};
		struct io *top = copy_of(s.files[0]);
		must(rebase(&x, to, &e), &e);
		const struct fault_record *records = io_fault_records(s.files[0], &count);
		crash_each(io_memory_bytes(top), top->size, records, count, 20, judge_rebase, &x);
		ck_assert_uint_gt(x.judged, 1);
		ck_assert_uint_eq(io_fault_count(s.files[1], FAULT_WRITE), 0);
		io_close(top);
		top = copy_of(s.files[0]);
		judge_rebase(&x, top, "in the end");
		io_close(top);
		io_close(x.onto);
		subject_free(&s);
	}
}
END_TEST

START_TEST(flattened_snapshots_stay_at_every_moment)
{
	for (unsigned to = 0; to < 3 && !kinds[_i].extended_l2; to++) {
		struct subject s;
		struct error e;
		size_t count;
		subject_open(&s, &kinds[_i], 27 + (uint64_t)_i);
		struct rebase_case x = {.s = &s, .onto = to ? new_raw(&s, to == 1 ? 50 << 10 : 250 << 10) : NULL};
		take_snapshots(&x, to != 1);
		struct io *top = copy_of(s.files[0]);
		must(rebase(&x, to, &e), &e);
		const struct fault_record *records = io_fault_records(s.files[0], &count);
		crash_each(io_memory_bytes(top), top->size, records, count, 10, judge_rebase, &x);
		ck_assert_uint_gt(x.judged, 1);
		io_close(top);
		for (unsigned k = 1; k < 200; k += 1 + k / 8) {
			struct subject f;
			subject_open(&f, &kinds[_i], 27 + (uint64_t)_i);
			struct rebase_case y = {.s = &f, .onto = x.onto};
			take_snapshots(&y, to != 1);
			io_fault_fail(f.files[0], k % 2 ? FAULT_WRITE : FAULT_FLUSH, 1 + k / 2, k % 2 ? ENOSPC : EIO,
				false);
			(void)rebase(&y, 0, &e);
			io_fault_fail(f.files[0], k % 2 ? FAULT_WRITE : FAULT_FLUSH, 0, 0, false);
			top = copy_of(f.files[0]);
			judge_rebase(&y, top, "after a fault");
			io_close(top);
			free(y.snapshots[0]);
			free(y.snapshots[1]);
			subject_free(&f);
		}
		free(x.snapshots[0]);
		free(x.snapshots[1]);
		io_close(x.onto);
		subject_free(&s);
	}
}
END_TEST

/* Holes of an image that stood alone read as zeros; over a backing file they have to say so. */
START_TEST(rebase_from_nothing_keeps_zeros)
{
	struct subject s = {.kind = &kinds[_i], .random = 5, .disk = calloc(1, LARGEST)};
	struct io *file = new_qcow2(&s, 0, NULL), *none = NULL;
	struct rebase_case x = {.s = &s, .onto = new_raw(&s, 150 << 10)};
	struct io *chain[2] = {file, x.onto};
	AUTO_FREE uint8_t *bytes = calloc(1, LARGEST);
	struct error e;
	read_chain(&file, 1, s.disk);
	s.chain = chain_of(&file, &none, 1);
	must(rebase(&x, 2, &e), &e);
	expect_file(file);
	read_chain(chain, 2, bytes);
	ck_assert_int_eq(memcmp(bytes, s.disk, s.kind->size[0]), 0);
	io_close(x.onto);
	subject_free(&s);
}
END_TEST

START_TEST(a_fault_in_rebase_keeps_the_disk)
{
	static const enum fault_op ops[] = {FAULT_READ, FAULT_WRITE, FAULT_FLUSH};
	for (unsigned i = 0; i < sizeof ops / sizeof *ops; i++) {
		bool met = true;
		for (unsigned k = 1; met && k < 400; k += 1 + k / 16) {
			struct subject s;
			struct error e;
			subject_open(&s, &kinds[_i], 170 + (uint64_t)_i);
			struct rebase_case x = {.s = &s, .onto = new_raw(&s, 120 << 10)};
			io_fault_forget(s.files[0]);
			io_fault_fail(s.files[0], ops[i], k, ops[i] == FAULT_WRITE ? ENOSPC : EIO, false);
			int failed = rebase(&x, k % 3, &e);
			met = io_fault_count(s.files[0], ops[i]) >= k;
			ck_assert(ops[i] == FAULT_READ ? met || !failed : (failed < 0) == met);
			io_fault_fail(s.files[0], ops[i], 0, 0, false);
			struct io *top = copy_of(s.files[0]);
			judge_rebase(&x, top, "after a fault");
			io_close(top);
			io_close(x.onto);
			subject_free(&s);
		}
	}
}
END_TEST

Suite *suite_commit_rebase(void);
Suite *suite_commit_rebase(void)
{
	const int n = sizeof kinds / sizeof *kinds;
	Suite *s = suite_create("commit_rebase");
	TCase *t = tcase_create("chains");

	tcase_set_timeout(t, 240);
	tcase_add_loop_test(t, commit_keeps_the_disk_at_every_moment, 0, n);
	tcase_add_loop_test(t, the_top_is_emptied_only_when_the_base_is_durable, 0, n);
	tcase_add_loop_test(t, a_fault_in_commit_keeps_the_disk, 0, n);
	tcase_add_loop_test(t, rebase_keeps_the_disk_at_every_moment, 0, n);
	tcase_add_loop_test(t, flattened_snapshots_stay_at_every_moment, 0, n);
	tcase_add_loop_test(t, flattened_snapshots_stay_while_the_base_changes, 0, n);
	tcase_add_loop_test(t, rebase_from_nothing_keeps_zeros, 0, n);
	tcase_add_loop_test(t, a_fault_in_rebase_keeps_the_disk, 0, n);
	suite_add_tcase(s, t);
	return s;
}
