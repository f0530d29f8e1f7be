/* SPDX-License-Identifier: Apache-2.0
 *
 * Bitmaps that follow the editor's writes (FORMAT.md §9): each bit of what was changed is set afterwards and no other, the flag "in
 * use" is there from before the first change to after the last, and a disabled bitmap stays as it was.
 */
#include "qcow2/edit_internal.h"
#include "tests/unit/image_builder.h"
#include "tests/unit/image_view.h"
#include "tests/unit/io_fault.h"

#include <check.h>

enum { CLUSTER = 512, SIZE = 6 << 20, SHIFT = 9, BITS = SIZE >> SHIFT };

struct subject {
	struct chain *chain;
	struct io *fault, *file;
	struct edit *ed;
	bool model[2][2 * BITS];
};

static void must(int failed, const struct error *e)
{
	if (failed)
		ck_abort_msg("%s", e->msg);
}

static void add_bitmap(struct writer *w, const char *name, uint32_t flags)
{
	struct bitmap_entry b = {
		.name = name, .name_len = (uint16_t)strlen(name), .flags = flags, .granularity_bits = SHIFT};
	uint8_t bits[CLUSTER] = {0x81};
	struct error e;

	must(writer_bitmap_begin(w, &b, &e) || writer_bitmap_cluster(w, 1, bits, &e), &e);
	memset(bits, 0xff, sizeof bits);
	must(writer_bitmap_cluster(w, 0, bits, &e) || writer_bitmap_end(w, &e), &e);
}

static void subject_open(struct subject *s)
{
	struct image_create c;
	struct writer *w;
	struct io *file, *none = NULL;
	struct error e;

	memset(s, 0, sizeof *s);
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = SIZE;
	c.cluster_size = CLUSTER;
	must(io_memory_new(&file, "", 0, "top", &e) || writer_new(&w, &c, file, NULL, &e), &e);
	add_bitmap(w, "on", BITMAP_AUTO);
	add_bitmap(w, "off", 0);
	must(writer_finish(w, &e), &e);
	writer_free(w);
	for (unsigned i = 0; i < CLUSTER * 8; i++)
		s->model[0][i] = s->model[1][i] = true;
	for (unsigned n = 0; n < 2; n++)
		s->model[n][CLUSTER * 8] = s->model[n][CLUSTER * 8 + 7] = true;
	s->file = file;
	s->fault = io_fault_new(file);
	s->chain = chain_of(&s->fault, &none, 1);
	must(edit_open(&s->ed, &s->chain->layers[0], NULL, &e), &e);
}

static void subject_reopen(struct subject *s)
{
	struct qcow2 *q;
	struct error e;

	must(edit_close(s->ed, &e), &e);
	must(qcow2_open(&q, s->fault, 0, &e), &e);
	qcow2_close(s->chain->layers[0].q);
	s->chain->layers[0].q = q;
	must(edit_open(&s->ed, &s->chain->layers[0], NULL, &e), &e);
}

static void expect_bits(struct subject *s)
{
	struct error e;

	must(edit_bitmaps_load_all(s->ed, &e), &e);
	for (uint32_t n = 0; n < 2; n++) {
		const struct edit_bitmap *b = edit_bitmaps_find(s->ed, n);

		ck_assert_ptr_nonnull(b);
		for (uint32_t i = 0; i < b->entries * CLUSTER * 8; i++)
			if ((b->bits[i / 8] >> i % 8 & 1) != s->model[n][i])
				ck_abort_msg("bitmap %u, bit %u", n, i);
	}
}

static void look_at_file(struct subject *s)
{
	struct image_view v;

	image_view_open(&v, io_memory_bytes(s->file), s->fault->size);
	ck_assert_uint_eq(image_view_bitmap(&v, 0).flags, BITMAP_AUTO);
	ck_assert_uint_eq(image_view_bitmap(&v, 1).flags, 0);
	image_view_close(&v);
}

static void write_at(struct subject *s, uint64_t guest, size_t len)
{
	uint8_t buf[3000];
	struct error e;

	memset(buf, 7, sizeof buf);
	must(edit_write(s->ed, buf, len, guest, &e), &e);
	for (uint64_t i = guest >> SHIFT; i <= (guest + len - 1) >> SHIFT; i++)
		s->model[0][i] = true;
}

START_TEST(follows_writes)
{
	struct subject s;
	struct error e;

	subject_open(&s);
	write_at(&s, 3 << 20, 1);
	write_at(&s, (4 << 20) + 100, 3000);
	write_at(&s, SIZE - 3000, 3000);
	must(edit_zero(s.ed, 5 << 20, 5000, 0, &e), &e);
	for (uint64_t i = 5 << 20 >> SHIFT; i <= ((5 << 20) + 4999) >> SHIFT; i++)
		s.model[0][i] = true;
	subject_reopen(&s);
	look_at_file(&s);
	expect_bits(&s);
	subject_reopen(&s);
	look_at_file(&s);
	expect_bits(&s);
	must(edit_close(s.ed, &e), &e);
	look_at_file(&s);
	chain_close(s.chain);
}
END_TEST

START_TEST(is_in_use_while_changes_are_not_in_it)
{
	struct subject s;
	struct image_view v;
	struct error e;

	subject_open(&s);
	write_at(&s, 3 << 20, 100);
	must(edit_flush(s.ed, &e), &e);
	image_view_open(&v, io_memory_bytes(s.file), s.fault->size);
	ck_assert_uint_eq(image_view_bitmap(&v, 0).flags, BITMAP_AUTO | BITMAP_IN_USE);
	image_view_close(&v);
	must(edit_close(s.ed, &e), &e);
	look_at_file(&s);
	chain_close(s.chain);
}
END_TEST

Suite *suite_edit_bitmap(void);
Suite *suite_edit_bitmap(void)
{
	Suite *s = suite_create("edit_bitmap");
	TCase *t = tcase_create("bitmaps");

	tcase_add_test(t, follows_writes);
	tcase_add_test(t, is_in_use_while_changes_are_not_in_it);
	suite_add_tcase(s, t);
	return s;
}
