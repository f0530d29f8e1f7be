/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether an image looks preallocated (FORMAT.md §5.6): more clusters in use than the file has blocks for.
 */
#include "tests/unit/image_builder.h"

#include <check.h>
#include <fcntl.h>
#include <unistd.h>

enum { K = 1024, CLUSTERS = 64 };

static struct error e;

#define MUST(call) ck_assert_msg((call) == 0, "%s", e.msg)

static const struct {
	const char *what;
	unsigned used; /* clusters with a refcount */
	bool dense;    /* all of the file is written */
	bool looks;
} cases[] = {
	{"all in use, file full of holes", CLUSTERS, false, true},
	{"all in use, file without holes", CLUSTERS, true, false},
	{"a few in use, file full of holes", 5, false, false},
};

/* A file of CLUSTERS clusters, of which the metadata and, when dense, all others have blocks. */
static struct io *save(struct image_builder *b, bool dense)
{
	char path[] = "/tmp/qsnap-facts-XXXXXX";
	int fd = mkstemp(path);
	const uint8_t *bytes = io_memory_bytes(b->io);
	static uint8_t ones[64 * K];
	struct io *io;

	ck_assert_int_ge(fd, 0);
	unlink(path);
	memset(ones, 1, sizeof ones);
	ck_assert_int_eq(pwrite(fd, bytes, b->io->size, 0), (ssize_t)b->io->size);
	for (uint64_t at = b->io->size; dense && at < CLUSTERS * 64 * K; at += sizeof ones)
		ck_assert_int_eq(pwrite(fd, ones, sizeof ones, (off_t)at), (ssize_t)sizeof ones);
	ck_assert_int_eq(ftruncate(fd, CLUSTERS * 64 * K), 0);
	ck_assert_int_eq(fsync(fd), 0); /* or the blocks are not counted yet */
	MUST(io_file_from_fd(&io, fd, path, 0, &e));
	return io;
}

START_TEST(looks_preallocated)
{
	struct image_builder b;
	struct layer l = {.path = (char *)"image"};
	uint64_t block;
	uint8_t bytes[8];

	builder_init(&b, 16 << 20, 16, 0);
	block = builder_alloc(&b, 1);
	put_be64(bytes, block);
	builder_poke(&b, b.h.reftable_offset, bytes, 8);
	for (unsigned i = 0; i < cases[_i].used; i++)
		builder_poke(&b, block + 2 * i, "\0\1", 2);
	builder_finish(&b);
	l.file = l.data = save(&b, cases[_i].dense);
	MUST(qcow2_open(&l.q, l.file, 0, &e));
	ck_assert_msg(qcow2_looks_preallocated(&l) == cases[_i].looks, "%s", cases[_i].what);
	l.file = b.io; /* who has no blocks to count has none to miss */
	ck_assert(!qcow2_looks_preallocated(&l));
	qcow2_close(l.q);
	io_close(l.data);
	io_close(b.io);
	builder_free(&b);
}
END_TEST

Suite *suite_facts(void);
Suite *suite_facts(void)
{
	Suite *s = suite_create("facts");
	TCase *t = tcase_create("facts");

	tcase_add_loop_test(t, looks_preallocated, 0, (int)(sizeof cases / sizeof cases[0]));
	suite_add_tcase(s, t);
	return s;
}
