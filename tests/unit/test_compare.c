/* SPDX-License-Identifier: Apache-2.0
 *
 * compare finds the first difference whatever the number of threads, and tells whose fault an error is; what measure
 * promises is enough.
 */
#include "convert/convert.h"

#include <check.h>
#include <fcntl.h>
#include <unistd.h>

enum { DISK = 9 << 20 };
static const unsigned thread_counts[] = {0, 1, 2, 8};

static char folder[64];
static struct error e;

static const char *path(const char *name)
{
	static char paths[8][128];
	static unsigned next;
	char *p = paths[next++ % 8];
	snprintf(p, sizeof paths[0], "%s/%s", folder, name);
	return p;
}

static void write_at(const char *name, const void *bytes, size_t len, uint64_t at)
{
	int fd = open(path(name), O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, bytes, len, (off_t)at), (ssize_t)len);
	close(fd);
}

/* A disk with runs of noise and holes. */
static void make_disk(const char *name, unsigned seed)
{
	static uint8_t noise[300000];
	srandom(seed);
	for (uint64_t at = 0; at < DISK; at += (uint64_t)random() % 1500000) {
		for (size_t i = 0; i < sizeof noise; i++)
			noise[i] = (uint8_t)(random() >> 8);
		write_at(name, noise, min_u64((uint64_t)random() % sizeof noise + 1, DISK - at), at);
	}
	ck_assert_int_eq(truncate(path(name), DISK), 0);
}

static void copy(const char *from, const char *to, enum image_format format, bool compress)
{
	struct convert_source source = {.name = path(from)};
	struct convert_opts o;
	struct convert_result r;
	convert_defaults(&o);
	image_create_defaults(&o.create, format);
	o.sources = &source;
	o.source_count = 1;
	o.target = path(to);
	o.compress = compress;
	o.recompress = true;
	ck_assert_msg(convert_run(&o, &r, &e) == 0, "%s", e.msg);
}

static struct chain *open_image(const char *name)
{
	struct chain_opts opts = {.lock = IO_LOCK_NONE};
	struct chain *c;
	ck_assert_msg(chain_open(&c, path(name), &opts, &e) == 0, "%s", e.msg);
	return c;
}

static int compare(const char *a, const char *b, bool strict, unsigned threads, struct compare_result *out)
{
	struct chain *ca = open_image(a), *cb = open_image(b);
	int r = convert_compare(ca, cb, strict, threads, NULL, out, &e);
	chain_close(ca);
	chain_close(cb);
	return r;
}

static void set_up(void)
{
	snprintf(folder, sizeof folder, "/tmp/qsnap-compare-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	make_disk("a.raw", 1);
}

static void tear_down(void)
{
	static const char *const names[] = {"a.raw", "b.raw", "c.qcow2", "d.qcow2"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		unlink(path(names[i]));
	rmdir(folder);
}

START_TEST(test_same)
{
	struct compare_result r;
	copy("a.raw", "c.qcow2", IMAGE_QCOW2, true);
	copy("a.raw", "d.qcow2", IMAGE_QCOW2, false);
	for (size_t i = 0; i < sizeof thread_counts / sizeof *thread_counts; i++) {
		ck_assert_int_eq(compare("a.raw", "c.qcow2", false, thread_counts[i], &r), 0);
		ck_assert_int_eq(r.verdict, COMPARE_SAME);
		ck_assert(!r.size_mismatch);
		ck_assert_int_eq(compare("c.qcow2", "d.qcow2", false, thread_counts[i], &r), 0);
		ck_assert_int_eq(r.verdict, COMPARE_SAME);
		ck_assert_int_eq(compare("c.qcow2", "d.qcow2", true, thread_counts[i], &r), 0);
		ck_assert_int_eq(r.verdict, COMPARE_STATUS_DIFFERENT);
		ck_assert_int_eq(compare("c.qcow2", "c.qcow2", true, thread_counts[i], &r), 0);
		ck_assert_int_eq(r.verdict, COMPARE_SAME);
	}
}
END_TEST

/* Some bytes are changed, in data and in holes: the lowest is told. */
START_TEST(test_first_difference)
{
	struct compare_result r;
	copy("a.raw", "c.qcow2", IMAGE_QCOW2, true);
	srandom((unsigned)_i);
	copy("a.raw", "b.raw", IMAGE_RAW, false);
	uint64_t lowest = DISK;
	int fd = open(path("b.raw"), O_RDWR);
	for (int n = 0; n < 3; n++) {
		uint8_t byte;
		uint64_t at = (uint64_t)random() % DISK;
		ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
		byte ^= 0x55;
		ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
		lowest = min_u64(lowest, at);
	}
	close(fd);
	for (size_t i = 0; i < sizeof thread_counts / sizeof *thread_counts; i++) {
		ck_assert_int_eq(compare("c.qcow2", "b.raw", false, thread_counts[i], &r), 0);
		ck_assert_int_eq(r.verdict, COMPARE_DIFFERENT);
		ck_assert_uint_eq(r.at, lowest / 512 * 512);
	}
}
END_TEST

START_TEST(test_sizes)
{
	struct compare_result r;
	copy("a.raw", "b.raw", IMAGE_RAW, false);
	ck_assert_int_eq(truncate(path("b.raw"), DISK + 1000000), 0);
	ck_assert_int_eq(compare("a.raw", "b.raw", false, 2, &r), 0);
	ck_assert_int_eq(r.verdict, COMPARE_SAME);
	ck_assert(r.size_mismatch);
	ck_assert_int_eq(compare("b.raw", "a.raw", true, 2, &r), 0);
	ck_assert_int_eq(r.verdict, COMPARE_SIZE_DIFFERENT);
	write_at("b.raw", "x", 1, DISK + 600000);
	ck_assert_int_eq(compare("b.raw", "a.raw", false, 2, &r), 0);
	ck_assert_int_eq(r.verdict, COMPARE_DIFFERENT);
	ck_assert_uint_eq(r.at, (DISK + 600000) / 512 * 512);
}
END_TEST

/* A broken compressed cluster in the second image: an error, unless a difference comes before it. */
START_TEST(test_read_error)
{
	struct compare_result r;
	static const uint8_t garbage[64] = {[0 ... 63] = 0xff};
	copy("a.raw", "c.qcow2", IMAGE_QCOW2, true);
	copy("a.raw", "b.raw", IMAGE_RAW, false);
	struct chain *c = open_image("c.qcow2");
	struct walk *w;
	struct extent x = {.kind = EXTENT_ABSENT};
	uint64_t at;
	ck_assert_int_eq(walk_new(&w, c, 1, 0, &e), 0);
	for (at = DISK / 2; x.kind != EXTENT_COMPRESSED; at = x.start + x.len)
		ck_assert_int_eq(walk_extent(w, at, DISK, &x, &e), 0);
	walk_free(w);
	chain_close(c);
	write_at("c.qcow2", garbage, sizeof garbage, x.host);
	for (size_t i = 0; i < sizeof thread_counts / sizeof *thread_counts; i++) {
		ck_assert_int_eq(compare("b.raw", "c.qcow2", false, thread_counts[i], &r), -1);
		ck_assert_uint_eq(r.failed_image, 1);
		ck_assert_int_eq(e.code, ERR_CORRUPT);
		ck_assert_int_eq(compare("c.qcow2", "b.raw", false, thread_counts[i], &r), -1);
		ck_assert_uint_eq(r.failed_image, 0);
	}
	write_at("b.raw", "difference", 10, 70000);
	for (size_t i = 0; i < sizeof thread_counts / sizeof *thread_counts; i++) {
		ck_assert_int_eq(compare("b.raw", "c.qcow2", false, thread_counts[i], &r), 0);
		ck_assert_uint_eq(r.at, 70000 / 512 * 512);
	}
}
END_TEST

START_TEST(test_cancel)
{
	struct compare_result r;
	atomic_bool cancel = true;
	struct progress p = {.cancel = &cancel};
	copy("a.raw", "c.qcow2", IMAGE_QCOW2, false);
	struct chain *a = open_image("a.raw"), *c = open_image("c.qcow2");
	ck_assert_int_eq(convert_compare(a, c, false, 2, &p, &r, &e), -1);
	ck_assert_int_eq(e.code, ERR_CANCELLED);
	chain_close(a);
	chain_close(c);
}
END_TEST

static const struct {
	uint32_t cluster_size, refcount_bits;
	bool extended;
} layouts[] = {{65536, 16, false}, {512, 16, false}, {4096, 64, false}, {1 << 21, 1, false}, {16384, 8, true}};

/* Both of measure's numbers are upper bounds of what the writer makes, and not far above. */
START_TEST(test_measure)
{
	struct image_create create;
	struct measure_result m;
	image_create_defaults(&create, IMAGE_QCOW2);
	create.cluster_size = layouts[_i].cluster_size;
	create.refcount_bits = layouts[_i].refcount_bits;
	create.extended_l2 = layouts[_i].extended;

	struct chain *a = open_image("a.raw");
	ck_assert_int_eq(convert_measure(a, &create, &m, &e), 0);
	chain_close(a);
	struct convert_source source = {.name = path("a.raw")};
	struct convert_opts o;
	struct convert_result r;
	convert_defaults(&o);
	o.sources = &source;
	o.source_count = 1;
	o.target = path("c.qcow2");
	o.create = create;
	ck_assert_msg(convert_run(&o, &r, &e) == 0, "%s", e.msg);
	ck_assert_uint_le(r.target_bytes, m.required);
	ck_assert_uint_le(m.required, m.fully_allocated);
	o.create.prealloc = PREALLOC_METADATA;
	ck_assert_msg(convert_run(&o, &r, &e) == 0, "%s", e.msg);
	ck_assert_uint_le(r.target_bytes, m.fully_allocated);
	ck_assert_uint_lt(m.fully_allocated, r.target_bytes + r.target_bytes / 8 + 4 * create.cluster_size);

	create.size = UINT64_MAX;
	ck_assert_int_eq(convert_measure(NULL, &create, &m, &e), -1);
	ck_assert_int_eq(e.code, ERR_LIMIT);
}
END_TEST

Suite *suite_compare(void);
Suite *suite_compare(void)
{
	Suite *s = suite_create("compare");
	TCase *tc = tcase_create("compare and measure");
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_same);
	tcase_add_loop_test(tc, test_first_difference, 0, 10);
	tcase_add_test(tc, test_sizes);
	tcase_add_test(tc, test_read_error);
	tcase_add_test(tc, test_cancel);
	tcase_add_loop_test(tc, test_measure, 0, sizeof layouts / sizeof *layouts);
	suite_add_tcase(s, tc);
	return s;
}
