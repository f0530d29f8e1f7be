/* SPDX-License-Identifier: Apache-2.0
 *
 * amend cut off at every moment (FORMAT.md §12.4), with writes lost, torn and in another order: each time the image opens, in its old
 * version or the new one, and its disk and its snapshots read the same; and failing at every write and flush: an error, and the same.
 */
#include "qcow2/edit_internal.h"
#include "tests/unit/crash.h"
#include "tests/unit/image_builder.h"
#include "tests/unit/image_view.h"

#include <check.h>
#include <errno.h>

enum { SIZE = 1 << 20, BACKING = SIZE / 2, STATES = 3 };

static const struct change {
	unsigned from_version, version, from_bits, bits;
	bool from_lazy, lazy, backing, data_file;
	unsigned snapshots; /* 2; 1: the second one only */
	uint32_t cluster;
} changes[] = {
	{3, 2, 16, 16, true, false, false, false, 0, 4096},
	{3, 2, 16, 16, false, false, true, false, 0, 4096},
	{3, 2, 64, 16, false, false, true, false, 0, 512},
	{2, 3, 16, 16, false, true, true, false, 0, 4096},
	{2, 3, 16, 1, false, false, false, false, 0, 512},
	{3, 3, 8, 32, false, true, true, false, 0, 65536},
	{3, 2, 16, 16, false, false, false, false, 2, 4096},
	{3, 2, 8, 16, true, false, true, false, 2, 512},
	{3, 2, 16, 16, false, false, false, false, 1, 4096},
	{3, 2, 16, 16, false, false, true, false, 1, 512},
	{2, 3, 16, 64, false, true, true, false, 2, 4096},
	{3, 3, 16, 2, false, true, false, false, 2, 16384},
	{3, 3, 16, 64, false, true, false, true, 0, 4096},
	{3, 3, 16, 8, true, false, true, true, 0, 65536},
};

/* What the disk shows, and each of two snapshots. */
static uint8_t models[STATES][SIZE], buf[SIZE];
static uint8_t *const model = models[0];

struct image {
	const struct change *c;
	struct io *file, *data, *backing; /* data: NULL without a data file */
};

static void must(int failed, const struct error *e)
{
	if (failed)
		ck_abort_msg("%s", e->msg);
}

static struct chain *open_image(const struct image *im, struct edit **ed)
{
	struct io *files[] = {im->file, im->backing}, *data[] = {im->data, NULL};
	struct chain *chain = chain_of(files, data, im->c->backing ? 2 : 1);
	struct error e;

	if (ed)
		must(edit_open(ed, &chain->layers[0], &(struct edit_opts){.backing = im->backing}, &e), &e);
	return chain;
}

/* The files stay. */
static void let_go(struct chain *chain)
{
	for (unsigned i = 0; i < chain->count; i++)
		chain->layers[i].file = chain->layers[i].data = NULL;
	chain_close(chain);
}

static void image_free(struct image *im)
{
	io_close(im->data);
	io_close(im->file);
	io_close(im->backing);
}

static void change_bytes(struct edit *ed, uint8_t byte, uint64_t guest, uint64_t len)
{
	struct error e;

	memset(model + guest, byte, len);
	if (byte)
		must(edit_write(ed, model + guest, len, guest, &e), &e);
	else
		must(edit_zero(ed, guest, len, guest % 8 ? EDIT_MAY_UNMAP : 0, &e), &e);
}

/* As QEMU does it: the entry keeps its cluster, which is data of a snapshot. */
static void zero_what_is_shared(struct edit *ed, uint64_t guest)
{
	const uint32_t size = ed->g.cluster_size;
	struct l2_entry x;
	struct table *t;
	struct error e;

	guest -= guest % size;
	memset(model + guest, 0, size);
	must(edit_begin_change(ed, &e) || map_table_for_write(ed, guest, &t, &e) || map_entry(ed, t, guest, &x, &e),
		&e);
	ck_assert(x.type == CLUSTER_NORMAL && !x.copied);
	map_set(ed, t, guest, x.host | ENTRY_ZERO, 0);
	table_put(t);
}

static void take_snapshot(struct edit *ed, unsigned state, const char *name)
{
	const struct snapshot_new n = {.name = name, .icount = UINT64_MAX};
	struct error e;

	must(edit_snapshot_create(ed, &n, &e), &e);
	memcpy(models[state], model, SIZE);
}

/* Data, zeros that hide the backing and keep their clusters or do not, and a part that lets it through; in snapshots other ones. */
static void fill(const struct image *im)
{
	struct edit *ed;
	struct chain *chain = open_image(im, &ed);
	struct error e;

	change_bytes(ed, 0x11, 1000, 100000);
	change_bytes(ed, 0, 65536, 131072);
	if (im->c->snapshots) {
		take_snapshot(ed, 1, "first");
		change_bytes(ed, 0, 16384, 16384);
		if (im->c->from_version == 3)
			zero_what_is_shared(ed, 40000);
		change_bytes(ed, 0x12, 131072, 8192);
		take_snapshot(ed, 2, "second");
		change_bytes(ed, 0x13, 20480, 4096);
		/* of the first one, and shared with the disk: a cluster that the second keeps for its zeros */
		must(edit_snapshot_apply(ed, 0, false, 0, &e), &e);
		memcpy(model, models[1], SIZE);
		if (im->c->snapshots == 1)
			must(edit_snapshot_delete(ed, 0, 0, &e), &e);
	}
	change_bytes(ed, 0, 700001, 70000);
	must(edit_close(ed, &e), &e);
	let_go(chain);
}

static void image_new(struct image *im, const struct change *c)
{
	struct image_create create;
	struct error e;

	*im = (struct image){.c = c};
	memset(model, c->backing ? 0x77 : 0, BACKING);
	memset(model + BACKING, 0, SIZE - BACKING);
	if (c->backing)
		must(io_memory_new(&im->backing, model, BACKING, "base.raw", &e), &e);
	image_create_defaults(&create, IMAGE_QCOW2);
	create.size = SIZE;
	create.cluster_size = c->cluster;
	create.version = c->from_version;
	create.refcount_bits = c->from_bits;
	create.lazy_refcounts = c->from_lazy;
	create.backing_name = c->backing ? "base.raw" : NULL;
	create.backing_format = c->backing ? "raw" : NULL;
	create.data_file = c->data_file ? "data" : NULL;
	if (c->data_file)
		must(io_memory_new(&im->data, "", 0, "data", &e), &e);
	must(io_memory_new(&im->file, "", 0, "top", &e) || image_create_run(&create, im->file, im->data, &e), &e);
	fill(im);
}

static struct io *copy_of(const struct io *memory)
{
	struct io *copy;
	struct error e;

	if (!memory)
		return NULL;
	must(io_memory_new(&copy, io_memory_bytes(memory), memory->size, "copy", &e), &e);
	return copy;
}

/* As the editor sees it, so after a repair where one is due. */
static void expect_disk(const struct image *im, const char *what)
{
	struct edit *ed;
	struct chain *chain = open_image(im, &ed);
	const struct qcow2 *q = chain->layers[0].q;
	struct error e;

	ck_assert(q->h.version == im->c->from_version || q->h.version == im->c->version);
	ck_assert_int_eq(q->backing_name != NULL, im->c->backing);
	ck_assert(!im->c->data_file || !strcmp(q->data_file_name, "data") || !strcmp(q->data_file_name, "other"));
	must(edit_read(ed, buf, SIZE, 0, &e), &e);
	if (memcmp(buf, model, SIZE) != 0)
		ck_abort_msg("%s: the disk is another one", what);
	must(edit_close(ed, &e), &e);
	let_go(chain);
}

static void expect_snapshot(const struct image *im, unsigned index, const char *what)
{
	const unsigned state = STATES - im->c->snapshots + index;
	struct chain *chain = open_image(im, NULL);
	struct io *image;
	struct error e;

	must(qcow2_snapshot_select(chain->layers[0].q, index, &e), &e);
	must(chain_io(&image, chain, &e) || io_read(image, buf, SIZE, 0, &e), &e);
	if (memcmp(buf, models[state], SIZE) != 0)
		ck_abort_msg("%s: snapshot %u is another one", what, state);
	io_close(image);
	let_go(chain);
}

/* ctx: the image as it was */
static void judge(void *ctx, struct io *const *files, const char *what)
{
	const struct image *was = ctx;
	const struct image im = {was->c, files[0], was->data ? files[1] : NULL, was->backing};
	struct image_view v;

	image_view_open_crashed(&v, io_memory_bytes(im.file), im.file->size);
	image_view_close(&v);
	for (unsigned i = 0; i < im.c->snapshots; i++)
		expect_snapshot(&im, i, what);
	expect_disk(&im, what);
	for (unsigned i = 0; i < im.c->snapshots; i++)
		expect_snapshot(&im, i, what);
}

/* 0, or the error's code. */
static int amend(const struct image *im)
{
	const struct change *c = im->c;
	struct image_amend a = {.version = c->version,
		.refcount_bits = c->bits,
		.lazy_refcounts = c->lazy,
		.size = SIZE,
		.data_file = c->data_file ? "other" : NULL};
	struct edit *ed;
	struct chain *chain = open_image(im, &ed);
	struct error e, first;
	int code = edit_amend(ed, &a, &first) ? (int)first.code : 0;

	if (edit_close(ed, &e) && !code)
		code = (int)e.code;
	let_go(chain);
	return code;
}

/* The same over copies that are recorded. */
static struct image recorded(const struct image *im)
{
	struct image r = *im;

	r.file = io_fault_new(copy_of(im->file));
	r.data = im->data ? io_fault_beside(copy_of(im->data), r.file) : NULL;
	return r;
}

static struct io *bytes_of(struct io *fault)
{
	struct error e;
	struct io *out;
	AUTO_FREE uint8_t *bytes = NULL;

	if (!fault)
		return NULL;
	bytes = malloc(fault->size + 1);
	must(io_read(fault, bytes, fault->size, 0, &e) || io_memory_new(&out, bytes, fault->size, "after", &e), &e);
	return out;
}

START_TEST(is_whole_at_every_moment)
{
	const struct change *c = &changes[_i];
	const struct fault_record *r;
	struct image im, done;
	struct image_view v;
	size_t count;

	image_new(&im, c);
	done = recorded(&im);
	ck_assert_int_eq(amend(&done), 0);
	r = io_fault_records(done.file, &count);
	ck_assert_uint_gt(count, 1);
	struct crash_start start[CRASH_FILES] = {{io_memory_bytes(im.file), im.file->size}};
	if (im.data)
		start[1] = (struct crash_start){io_memory_bytes(im.data), im.data->size};
	crash_each_of(start, im.data ? 2 : 1, r, count, 4, judge, &im);
	struct io *files[] = {bytes_of(done.file), bytes_of(done.data)};
	image_view_open(&v, io_memory_bytes(files[0]), files[0]->size);
	ck_assert_uint_eq(v.h.version, c->version);
	ck_assert_uint_eq(v.g.refcount_order, (unsigned)__builtin_ctz(c->bits));
	ck_assert_int_eq(v.h.compatible & COMPAT_LAZY_REFCOUNTS, c->lazy);
	image_view_close(&v);
	judge(&im, files, "at the end");
	io_close(files[0]);
	io_close(files[1]);
	done.backing = NULL;
	image_free(&done);
	image_free(&im);
}
END_TEST

START_TEST(fails_cleanly)
{
	static const enum fault_op ops[] = {FAULT_WRITE, FAULT_FLUSH};
	struct image im;
	unsigned failed = 0;

	image_new(&im, &changes[_i]);
	for (unsigned o = 0; o < 2; o++) {
		int code = 1;

		for (unsigned k = 1; code; k++) {
			struct image r = recorded(&im);

			io_fault_fail(r.file, ops[o], k, ENOSPC, false);
			code = amend(&r);
			ck_assert(code == 0 || code == ERR_IO);
			failed += code != 0;
			struct io *files[] = {bytes_of(r.file), bytes_of(r.data)};
			judge(&im, files, "after a failure");
			io_close(files[0]);
			io_close(files[1]);
			r.backing = NULL;
			image_free(&r);
		}
	}
	ck_assert_uint_gt(failed, 3);
	image_free(&im);
}
END_TEST

Suite *suite_amend(void);
Suite *suite_amend(void)
{
	Suite *s = suite_create("amend");
	TCase *t = tcase_create("crash");
	const int n = sizeof changes / sizeof *changes;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, is_whole_at_every_moment, 0, n);
	tcase_add_loop_test(t, fails_cleanly, 0, n);
	suite_add_tcase(s, t);
	return s;
}
