/* SPDX-License-Identifier: Apache-2.0
 *
 * The backing file's name and format changed together (FORMAT.md §12.4): after every sector written, in any order between two
 * flushes that keeps the sectors whole, a reader finds the old pair or the new one, and never anything else.
 */
#include "qcow2/edit.h"
#include "tests/unit/image_builder.h"
#include "tests/unit/io_fault.h"

#include <check.h>

enum { SECTOR = 512, SIZE = 1 << 20 };

static void must(int failed, const struct error *e)
{
	if (failed)
		ck_abort_msg("%s", e->msg);
}

static char *name_of(size_t len, char letter)
{
	char *name = len ? calloc(1, len + 1) : NULL;

	if (name)
		memset(name, letter, len);
	return name;
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static void expect_one(struct io *file, const struct header_strings *a, const struct header_strings *b,
	const char *when)
{
	struct qcow2 *q;
	struct error e;
	bool old, new;

	must(qcow2_open(&q, file, 0, &e), &e);
	old = same(q->backing_name, a->backing_name) && same(q->backing_format, a->backing_format);
	new = same(q->backing_name, b->backing_name) && same(q->backing_format, b->backing_format);
	ck_assert_msg(old || new, "%s: '%s' (%s)", when, q->backing_name, q->backing_format);
	qcow2_close(q);
}

static struct io *copy_of(const struct io *memory)
{
	struct io *copy;
	struct error e;

	must(io_memory_new(&copy, io_memory_bytes(memory), memory->size, "copy", &e), &e);
	return copy;
}

/* How many sectors a recorded write touches. */
static uint64_t sectors_of(const struct fault_record *r)
{
	return (r->off + r->len - 1) / SECTOR - r->off / SECTOR + 1;
}

/* What it does to the `i`th of them. */
static void apply_sector(struct io *onto, const struct fault_record *r, uint64_t i)
{
	uint64_t start = max_u64(r->off, (r->off / SECTOR + i) * SECTOR);
	uint64_t end = min_u64(r->off + r->len, (r->off / SECTOR + i + 1) * SECTOR);
	struct error e;

	must(io_write(onto, r->bytes + (start - r->off), end - start, start, &e), &e);
}

/* Every write's sectors one by one, and each alone, ahead of those before it in the same write. */
static void cut_everywhere(struct io *before, struct io *fault, const struct header_strings *a,
	const struct header_strings *b)
{
	size_t count;
	const struct fault_record *r = io_fault_records(fault, &count);
	struct io *now = copy_of(before);

	for (size_t i = 0; i < count; i++) {
		if (r[i].op != FAULT_WRITE)
			continue;
		for (uint64_t k = 0; k < sectors_of(&r[i]); k++) {
			struct io *alone = copy_of(now);

			apply_sector(alone, &r[i], k);
			expect_one(alone, a, b, "one sector");
			io_close(alone);
		}
		for (uint64_t k = 0; k < sectors_of(&r[i]); k++) {
			apply_sector(now, &r[i], k);
			expect_one(now, a, b, "up to a sector");
		}
	}
	expect_one(now, b, b, "at the end");
	io_close(now);
}

static void change(uint32_t cluster_size, unsigned version, const struct header_strings *a,
	const struct header_strings *b)
{
	struct io *file, *fault, *before, *none = NULL;
	struct image_create c;
	struct chain *chain;
	struct edit *ed;
	struct error e;

	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = SIZE;
	c.version = version;
	c.cluster_size = cluster_size;
	c.backing_name = a->backing_name;
	c.backing_format = a->backing_format;
	must(io_memory_new(&file, "", 0, "top", &e) || image_create_run(&c, file, NULL, &e), &e);
	before = copy_of(file);
	fault = io_fault_new(file);
	chain = chain_of(&fault, &none, 1);
	must(edit_open(&ed, &chain->layers[0], NULL, &e), &e);
	if (edit_set_strings(ed, b, &e) == 0) {
		cut_everywhere(before, fault, a, b);
	} else {
		ck_assert_int_eq(e.code, ERR_LIMIT);
		ck_assert_int_eq(memcmp(io_memory_bytes(before), io_memory_bytes(file), before->size), 0);
		ck_assert_uint_lt(cluster_size, 4096); /* there is room enough in any other */
	}
	must(edit_close(ed, &e), &e);
	chain_close(chain);
	io_close(before);
}

START_TEST(is_the_old_or_the_new)
{
	static const size_t lengths[] = {0, 1, 100, 300, 1023};
	static const uint32_t clusters[] = {512, 1024, 4096, 65536};
	const size_t n = sizeof lengths / sizeof *lengths;

	for (size_t i = 0; i < n * n * 2; i++) {
		char *from = name_of(lengths[i % n], 'a'), *to = name_of(lengths[i / n % n], 'b');
		struct header_strings a = {from, from ? "qcow2" : NULL, NULL}, b = {to, to ? "raw" : NULL, NULL};

		if (clusters[_i] >= 4096 || lengths[i % n] < 300)
			change(clusters[_i], i < n * n ? 3 : 2, &a, &b);
		free(from);
		free(to);
	}
}
END_TEST

Suite *suite_edit_start(void);
Suite *suite_edit_start(void)
{
	Suite *s = suite_create("edit_start");
	TCase *t = tcase_create("strings");

	tcase_add_loop_test(t, is_the_old_or_the_new, 0, 4);
	suite_add_tcase(s, t);
	return s;
}
