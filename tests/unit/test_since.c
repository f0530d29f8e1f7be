/* SPDX-License-Identifier: Apache-2.0
 *
 * convert: the changes since a snapshot as an image that does not name what it is over. Given that name afterwards it shows the later
 * state byte for byte, zeros that came since among them; in files, streams, compressed or not, and of disks that grew or shrank.
 */
#include "convert/convert.h"
#include "qcow2/edit.h"
#include "tests/unit/scratch.h"

#include <check.h>
#include <fcntl.h>
#include <unistd.h>

Suite *suite_since(void);

enum {
	CLUSTER = 4096,
	CLUSTERS = 64,
	SIZE = CLUSTERS * CLUSTER,
	LONGER = SIZE + 5 * CLUSTER + 512,
	SHORTER = SIZE - 9 * CLUSTER
};

static struct error e;

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, e.msg)

static void enter(void)
{
	ck_assert(scratch_enter(SCRATCH_TMPFS));
}

static void make_image(const char *path)
{
	struct image_create c;
	struct io *file;

	image_create_defaults(&c, IMAGE_QCOW2);
	c.size = SIZE;
	c.cluster_size = CLUSTER;
	OK(io_file_create(&file, path, &e));
	OK(image_create_run(&c, file, NULL, &e));
	io_close(file);
}

static void fill(struct edit *ed, unsigned first, unsigned count, int byte)
{
	static uint8_t bytes[CLUSTERS * CLUSTER];

	memset(bytes, byte, (size_t)count * CLUSTER);
	OK(edit_write(ed, bytes, (size_t)count * CLUSTER, (uint64_t)first * CLUSTER, &e));
}

static void snapshot(struct edit *ed, const char *name)
{
	const struct snapshot_new n = {.name = name, .icount = UINT64_MAX};

	OK(edit_snapshot_create(ed, &n, &e));
}

/* Snapshot "old", changes of each sort, another size, snapshot "new", and more changes. */
static void make_states(uint64_t size)
{
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .write = true, .lock = IO_LOCK_NONE};
	AUTO_CHAIN struct chain *c = NULL;
	struct edit *ed;

	make_image("disk.qcow2");
	OK(chain_open(&c, "disk.qcow2", &opts, &e));
	OK(edit_open(&ed, &c->layers[0], &(struct edit_opts){0}, &e));
	fill(ed, 0, 40, 1);
	fill(ed, 60, 4, 2);
	snapshot(ed, "old");
	fill(ed, 3, 2, 3);
	OK(edit_zero(ed, 10 * CLUSTER, 3 * CLUSTER, 0, &e));
	OK(edit_zero(ed, 20 * CLUSTER + 512, 2 * CLUSTER, 0, &e));
	OK(edit_discard(ed, 30 * CLUSTER, 4 * CLUSTER, &e));
	fill(ed, 36, 1, 0); /* zeros as data */
	fill(ed, 45, 2, 4);
	OK(edit_resize(ed, size, PREALLOC_OFF, &e));
	if (size > SIZE)
		fill(ed, CLUSTERS + 2, 1, 5);
	snapshot(ed, "new");
	fill(ed, 0, 40, 6);
	OK(edit_close(ed, &e));
}

static void convert(struct convert_opts *o, const char *snapshot_name, const char *since)
{
	const struct snapshot_query query = {.name = snapshot_name}, from = {.name = since};
	const struct convert_source source = {.name = "disk.qcow2",
		.open = {.format = IMAGE_QCOW2, .lock = IO_LOCK_NONE, .snapshot = &query},
		.since = since ? &from : NULL};
	struct convert_result result;

	o->sources = &source;
	o->source_count = 1;
	o->threads = 0;
	OK(convert_run(o, &result, &e));
}

static void read_all(const char *path, enum image_format format, uint8_t *bytes, uint64_t size)
{
	const struct chain_opts opts = {.format = format, .lock = IO_LOCK_NONE};
	AUTO_CHAIN struct chain *c = NULL;
	AUTO_IO struct io *io = NULL;

	OK(chain_open(&c, path, &opts, &e));
	ck_assert_uint_eq(c->size, size);
	OK(chain_io(&io, c, &e));
	OK(io_read(io, bytes, size, 0, &e));
	io_close(STEAL(io));
}

static void name_backing(const char *path, const char *name)
{
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .no_backing = true, .write = true, .lock = IO_LOCK_NONE};
	struct rebase_opts o = {.backing_name = name, .backing_format = "qcow2", .unsafe = true};
	AUTO_CHAIN struct chain *c = NULL;

	OK(chain_open(&c, path, &opts, &e));
	ck_assert_ptr_null(c->layers[0].q->backing_name);
	o.image = c;
	OK(convert_rebase(&o, &e));
}

static const uint64_t sizes[] = {SIZE, LONGER, SHORTER};
enum { TO_FILE, TO_STREAM, COMPRESSED, COMPRESSED_STREAM, OTHER_CLUSTERS, WAYS };

static void make_delta(int way)
{
	struct convert_opts o;

	convert_defaults(&o);
	image_create_defaults(&o.create, IMAGE_QCOW2);
	o.create.cluster_size = way == OTHER_CLUSTERS ? 4 * CLUSTER : CLUSTER;
	o.create.nameless_backing = true;
	o.compress = way == COMPRESSED || way == COMPRESSED_STREAM;
	o.target = way == TO_STREAM || way == COMPRESSED_STREAM ? "-" : "delta.qcow2";
	if (strcmp(o.target, "-") == 0)
		o.stream_fd = open("delta.qcow2", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	convert(&o, "new", "old");
	if (o.stream_fd >= 0)
		close(o.stream_fd);
}

START_TEST(test_rebuilt)
{
	static uint8_t wanted[LONGER], found[LONGER];
	const uint64_t size = sizes[_i / WAYS];
	struct convert_opts o;

	make_states(size);
	convert_defaults(&o);
	image_create_defaults(&o.create, IMAGE_QCOW2);
	o.target = "base.qcow2";
	convert(&o, "old", NULL);
	convert_defaults(&o);
	o.target = "new.raw";
	convert(&o, "new", NULL);
	make_delta(_i % WAYS);
	name_backing("delta.qcow2", "base.qcow2");
	read_all("new.raw", IMAGE_RAW, wanted, size);
	read_all("delta.qcow2", IMAGE_QCOW2, found, size);
	for (uint64_t i = 0; i < size; i++)
		if (wanted[i] != found[i])
			ck_abort_msg("at %llu %u, not %u", (unsigned long long)i, found[i], wanted[i]);
	if (_i % WAYS == TO_FILE && size == SIZE) { /* what is the same is not in it */
		const struct chain_opts opts = {.format = IMAGE_QCOW2, .no_backing = true, .lock = IO_LOCK_NONE};
		AUTO_CHAIN struct chain *c = NULL;

		OK(chain_open(&c, "delta.qcow2", &opts, &e));
		ck_assert_uint_lt(c->layers[0].file->size, 16 * CLUSTER);
	}
}
END_TEST

START_TEST(test_refused)
{
	static const struct image_create bad[] = {
		{.nameless_backing = true, .backing_name = "x", .backing_format = "raw"},
		{.nameless_backing = true, .prealloc = PREALLOC_METADATA},
		{.nameless_backing = true, .data_file = "x"},
	};
	struct image_create c;

	image_create_defaults(&c, IMAGE_QCOW2);
	c.nameless_backing = true;
	OK(image_create_check(&c, &e));
	c.backing_name = bad[_i].backing_name;
	c.backing_format = bad[_i].backing_format;
	c.prealloc = bad[_i].prealloc;
	c.data_file = bad[_i].data_file;
	ck_assert_int_eq(image_create_check(&c, &e), -1);
	ck_assert_int_eq(e.code, ERR_USAGE);
}
END_TEST

Suite *suite_since(void)
{
	Suite *s = suite_create("since");
	TCase *t = tcase_create("since");

	tcase_add_checked_fixture(t, enter, scratch_leave);
	tcase_add_loop_test(t, test_rebuilt, 0, WAYS * (int)(sizeof sizes / sizeof *sizes));
	tcase_add_loop_test(t, test_refused, 0, 3);
	suite_add_tcase(s, t);
	return s;
}
