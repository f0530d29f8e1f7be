/* SPDX-License-Identifier: Apache-2.0
 *
 * amend cut off at every write (FORMAT.md §12.4): each time the image opens, in its old version or the new one, and its disk reads
 * the same; and failing at every write and flush: an error, and the same.
 */
#include "qcow2/edit.h"
#include "tests/unit/image_builder.h"
#include "tests/unit/image_view.h"
#include "tests/unit/io_fault.h"

#include <check.h>
#include <errno.h>

enum { SIZE = 1 << 20, BACKING = SIZE / 2 };

static const struct change {
	unsigned from_version, version, from_bits, bits;
	bool from_lazy, lazy, backing;
	uint32_t cluster;
} changes[] = {
	{3, 2, 16, 16, true, false, false, 4096},
	{3, 2, 16, 16, false, false, true, 4096},
	{3, 2, 64, 16, false, false, true, 512},
	{2, 3, 16, 16, false, true, true, 4096},
	{2, 3, 16, 1, false, false, false, 512},
	{3, 3, 8, 32, false, true, true, 65536},
};

static uint8_t model[SIZE], buf[SIZE];

static void must(int failed, const struct error *e)
{
	if (failed)
		ck_abort_msg("%s", e->msg);
}

/* Data, zeros that hide the backing, and a part that lets it through. */
static struct io *image_of(const struct change *c, struct io **backing)
{
	struct image_create create;
	struct io *file, *none = NULL;
	struct chain *chain;
	struct edit *ed;
	struct error e;

	memset(model, c->backing ? 0x77 : 0, BACKING);
	memset(model + BACKING, 0, SIZE - BACKING);
	must(io_memory_new(backing, model, BACKING, "base.raw", &e), &e);
	image_create_defaults(&create, IMAGE_QCOW2);
	create.size = SIZE;
	create.cluster_size = c->cluster;
	create.version = c->from_version;
	create.refcount_bits = c->from_bits;
	create.lazy_refcounts = c->from_lazy;
	create.backing_name = c->backing ? "base.raw" : NULL;
	create.backing_format = c->backing ? "raw" : NULL;
	must(io_memory_new(&file, "", 0, "top", &e) || image_create_run(&create, file, NULL, &e), &e);
	chain = chain_of(&file, &none, 1);
	must(edit_open(&ed, &chain->layers[0], &(struct edit_opts){.backing = *backing}, &e), &e);
	memset(model + 1000, 0x11, 100000);
	must(edit_write(ed, model + 1000, 100000, 1000, &e), &e);
	memset(model + 65536, 0, 131072);
	must(edit_zero(ed, 65536, 131072, 0, &e), &e);
	memset(model + 700000, 0, 70000);
	must(edit_zero(ed, 700000, 70000, EDIT_MAY_UNMAP, &e) || edit_close(ed, &e), &e);
	chain->layers[0].file = NULL;
	chain->layers[0].data = NULL;
	chain_close(chain);
	return file;
}

static struct io *copy_of(const struct io *memory)
{
	struct io *copy;
	struct error e;

	must(io_memory_new(&copy, io_memory_bytes(memory), memory->size, "copy", &e), &e);
	return copy;
}

/* Takes the file over. */
static void expect_disk(struct io *file, const struct change *c, struct io *backing)
{
	struct io *none = NULL;
	struct chain *chain = chain_of(&file, &none, 1);
	const struct qcow2 *q = chain->layers[0].q;
	struct edit *ed;
	struct error e;

	ck_assert(q->h.version == c->from_version || q->h.version == c->version);
	ck_assert_int_eq(q->backing_name != NULL, c->backing);
	must(edit_open(&ed, &chain->layers[0], &(struct edit_opts){.backing = backing}, &e), &e);
	must(edit_read(ed, buf, SIZE, 0, &e), &e);
	ck_assert_int_eq(memcmp(buf, model, SIZE), 0);
	must(edit_close(ed, &e), &e);
	chain_close(chain);
}

/* 0, or the error's code. */
static int amend(struct io *fault, const struct change *c, struct io *backing)
{
	struct image_amend a = {
		.version = c->version, .refcount_bits = c->bits, .lazy_refcounts = c->lazy, .size = SIZE};
	struct io *none = NULL;
	struct chain *chain = chain_of(&fault, &none, 1);
	struct edit *ed;
	struct error e, first;
	int code;

	must(edit_open(&ed, &chain->layers[0], &(struct edit_opts){.backing = backing}, &e), &e);
	code = edit_amend(ed, &a, &first) ? (int)first.code : 0;
	if (edit_close(ed, &e) && !code)
		code = (int)e.code;
	chain->layers[0].file = NULL;
	chain->layers[0].data = NULL;
	chain_close(chain);
	return code;
}

START_TEST(is_whole_after_every_write)
{
	const struct change *c = &changes[_i];
	struct io *backing, *file = image_of(c, &backing), *now = copy_of(file), *fault = io_fault_new(file);
	const struct fault_record *r;
	struct image_view v;
	struct error e;
	size_t count;

	ck_assert_int_eq(amend(fault, c, backing), 0);
	r = io_fault_records(fault, &count);
	ck_assert_uint_gt(count, 1);
	for (size_t i = 0; i < count; i++) {
		must(io_fault_replay(&r[i], now, &e), &e);
		if (r[i].op != FAULT_FLUSH)
			expect_disk(copy_of(now), c, backing);
	}
	image_view_open(&v, io_memory_bytes(file), file->size);
	ck_assert_uint_eq(v.h.version, c->version);
	ck_assert_uint_eq(v.g.refcount_order, (unsigned)__builtin_ctz(c->bits));
	ck_assert_int_eq(v.h.compatible & COMPAT_LAZY_REFCOUNTS, c->lazy);
	image_view_close(&v);
	io_close(now);
	io_close(fault);
	io_close(backing);
}
END_TEST

START_TEST(fails_cleanly)
{
	const struct change *c = &changes[_i];
	struct io *backing, *start = image_of(c, &backing);
	static const enum fault_op ops[] = {FAULT_WRITE, FAULT_FLUSH};
	unsigned failed = 0;

	for (unsigned o = 0; o < 2; o++) {
		int code = 1;

		for (unsigned k = 1; code; k++) {
			struct io *file = copy_of(start), *fault = io_fault_new(file);

			io_fault_fail(fault, ops[o], k, ENOSPC, false);
			code = amend(fault, c, backing);
			ck_assert(code == 0 || code == ERR_IO);
			failed += code != 0;
			expect_disk(copy_of(file), c, backing);
			io_close(fault);
		}
	}
	ck_assert_uint_gt(failed, 3);
	io_close(start);
	io_close(backing);
}
END_TEST

Suite *suite_amend(void);
Suite *suite_amend(void)
{
	Suite *s = suite_create("amend");
	TCase *t = tcase_create("crash");
	const int n = sizeof changes / sizeof *changes;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, is_whole_after_every_write, 0, n);
	tcase_add_loop_test(t, fails_cleanly, 0, n);
	suite_add_tcase(s, t);
	return s;
}
