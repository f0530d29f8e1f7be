/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and chains (FORMAT.md §10, §11, §13): what a name means, whose folder it is relative to, what is refused,
 * who is locked.
 */
#include "tests/unit/image_builder.h"
#include "qcow2/internal.h"

#include <check.h>
#include <sys/stat.h>
#include <unistd.h>

enum { K = 1024 };

static struct error e;

#define MUST(call) ck_assert_msg((call) == 0, "%s", e.msg)

static char folder[] = "/tmp/qsnap-chain-XXXXXX";

static void enter(void)
{
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	ck_assert_int_eq(mkdir("sub", 0700), 0);
}

static void leave(void)
{
	char command[100];

	snprintf(command, sizeof command, "rm -rf %s", folder);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(system(command), 0);
}

static void save(const char *path, const void *bytes, size_t len)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(bytes, 1, len, f), len);
	fclose(f);
}

/* A file that begins with a cluster of `value`; the rest is left to the backing file. */
static void image(const char *path, const char *backing, const char *format, int value)
{
	uint8_t cluster[512];
	struct image_builder b;
	struct io *io;

	memset(cluster, value, sizeof cluster);
	builder_init(&b, 64 * K, 9, 0);
	if (backing)
		builder_backing(&b, backing, format);
	if (value)
		builder_data(&b, 0, cluster);
	io = builder_finish(&b);
	save(path, io_memory_bytes(io), io->size);
	io_close(io);
	builder_free(&b);
}

static int open_with(const char *name, struct chain_opts opts, struct chain **c)
{
	e = (struct error){0};
	*c = NULL;
	return chain_open(c, name, &opts, &e);
}

static const struct {
	const char *of, *backing, *path;
} relative[] = {
	{"top", "base", "base"},
	{"dir/top", "base", "dir/base"},
	{"/a/b/top", "../base", "/a/b/../base"},
	{"/a/top", "/c/base", "/c/base"},
	{"dir/top", "json:{}", "json:{}"},
	{"dir/top", "nbd://host/x", "nbd://host/x"},
	{"dir/top", "file:base", "file:base"},
	{"dir/top", "./a:b", "dir/./a:b"},
	{"a:b/top", "base", "a:b/base"},
};

START_TEST(relative_names)
{
	char *path = image_backing_path(relative[_i].of, relative[_i].backing, &e);

	ck_assert_str_eq(path, relative[_i].path);
	free(path);
}
END_TEST

static const struct {
	const char *name, *path; /* NULL: refused */
	enum image_format format;
	bool no_backing;
	const char *more; /* backing, data file, or the message's word */
} names[] = {
	{"disk", "disk", IMAGE_AUTO, false, NULL},
	{"file:disk", "disk", IMAGE_AUTO, false, NULL},
	{"file:///x/disk", "///x/disk", IMAGE_AUTO, false, NULL},
	{"host_device:/dev/sda", "/dev/sda", IMAGE_AUTO, false, NULL},
	{"./a:b", "./a:b", IMAGE_AUTO, false, NULL},
	{"dir/a:b", "dir/a:b", IMAGE_AUTO, false, NULL},
	{"json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"x\"}}", "x", IMAGE_QCOW2, false,
		NULL},
	{"json:{\"driver\":\"raw\",\"file.driver\":\"host_device\",\"file.filename\":\"x\"}", "x", IMAGE_RAW, false,
		NULL},
	{"json:{\"driver\":\"file\",\"filename\":\"x\"}", "x", IMAGE_RAW, false, NULL},
	{"json:{\"file\":{\"filename\":\"x\"}}", "x", IMAGE_AUTO, false, NULL},
	{"json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"x\"}}}",
		"x", IMAGE_QCOW2, false, NULL},
	{"json:{\"file.filename\":\"x\",\"backing\":null}", "x", IMAGE_AUTO, true, NULL},
	{"json:{\"file.filename\":\"x\",\"backing\":{\"driver\":\"raw\",\"file\":{\"filename\":\"y\"}}}", "x",
		IMAGE_AUTO, false, "json:{\"driver\":\"raw\",\"file.filename\":\"y\"}"},
	{"json:{\"file.filename\":\"x\",\"data-file\":{\"driver\":\"file\",\"filename\":\"y\"}}", "x", IMAGE_AUTO,
		false, "y"},
	{"json:{\"file.filename\":\"x\",\"node-name\":\"n\",\"file.locking\":\"auto\"}", "x", IMAGE_AUTO, false, NULL},
	{"", NULL, IMAGE_AUTO, false, "empty"},
	{":x", NULL, IMAGE_AUTO, false, "protocol"},
	{"nbd://localhost/x", NULL, IMAGE_AUTO, false, "protocol 'nbd' is not supported"},
	{"what:ever", NULL, IMAGE_AUTO, false, "Unknown protocol 'what'"},
	{"json:{", NULL, IMAGE_AUTO, false, "Could not parse"},
	{"json:[1]", NULL, IMAGE_AUTO, false, "object"},
	{"json:{}", NULL, IMAGE_AUTO, false, "no file name"},
	{"json:{\"driver\":\"nbd\",\"host\":\"x\"}", NULL, IMAGE_AUTO, false, "'nbd'"},
	{"json:{\"driver\":\"vmdk\",\"file.filename\":\"x\"}", NULL, IMAGE_AUTO, false,
		"format 'vmdk' is not supported"},
	{"json:{\"driver\":\"raw\",\"offset\":512,\"file.filename\":\"x\"}", NULL, IMAGE_AUTO, false, "'offset'"},
	{"json:{\"driver\":\"raw\",\"file\":{\"driver\":\"qcow2\",\"file.filename\":\"x\"}}", NULL, IMAGE_AUTO, false,
		"beneath"},
	{"json:{\"file\":\"node\"}", NULL, IMAGE_AUTO, false, "no file name"},
	{"json:{\"file.filename\":\"x\",\"backing\":\"node\"}", NULL, IMAGE_AUTO, false, "node name"},
	{"json:{\"file.filename\":7}", NULL, IMAGE_AUTO, false, "no string"},
};

START_TEST(what_a_name_means)
{
	struct image_name n;
	int rc = image_name_parse(&n, names[_i].name, &e);

	ck_assert_msg(rc == (names[_i].path ? 0 : -1), "%s: %s", names[_i].name, e.msg);
	if (rc) {
		ck_assert_msg(strstr(e.msg, names[_i].more), "%s: %s", names[_i].name, e.msg);
		return;
	}
	ck_assert_str_eq(n.path, names[_i].path);
	ck_assert_int_eq(n.format, names[_i].format);
	ck_assert_int_eq(n.no_backing, names[_i].no_backing);
	if (names[_i].more)
		ck_assert_str_eq(n.backing ? n.backing : n.data_file, names[_i].more);
	image_name_clear(&n);
}
END_TEST

START_TEST(chain_of_files)
{
	uint8_t raw[100] = "raw", got[600];
	struct chain *c;
	struct io *io;

	save("sub/base.raw", raw, sizeof raw);
	image("sub/mid", "base.raw", "raw", 0);
	image("top", "sub/mid", NULL, 0);
	ck_assert_msg(open_with("file:top", (struct chain_opts){0}, &c) == 0, "%s", e.msg);
	ck_assert_uint_eq(c->count, 3);
	ck_assert_str_eq(c->layers[0].path, "top");
	ck_assert_str_eq(c->layers[2].path, "sub/base.raw");
	ck_assert(c->layers[0].probed && c->layers[1].probed && !c->layers[2].probed);
	ck_assert_uint_eq(c->layers[2].size, 512);
	MUST(chain_io(&io, c, &e));
	MUST(io_read(io, got, sizeof got, 0, &e));
	ck_assert_mem_eq(got, raw, sizeof raw);
	for (size_t i = sizeof raw; i < sizeof got; i++)
		ck_assert_int_eq(got[i], 0);
	io_close(io);
	chain_close(c);
	ck_assert_int_eq(open_with("top", (struct chain_opts){.no_backing = true}, &c), 0);
	ck_assert_uint_eq(c->count, 1);
	chain_close(c);
	ck_assert_int_eq(open_with("json:{\"file.filename\":\"top\",\"backing.file.filename\":\"sub/base.raw\"}",
				 (struct chain_opts){0}, &c),
		0);
	ck_assert_uint_eq(c->count, 2);
	chain_close(c);
}
END_TEST

START_TEST(what_is_refused)
{
	struct snapshot_query query = {.any = "x"};
	struct chain *c;

	static const struct {
		const char *name, *word;
		struct chain_opts opts;
		enum err_code code;
	} cases[] = {
		{"nope", "Could not open 'nope': Could not open 'nope': No such file or directory", {0}, ERR_NOT_FOUND},
		{"orphan", "Could not open 'orphan': Could not open backing file: Could not open 'gone': No such file",
			{0}, ERR_NOT_FOUND},
		{"deep", "backing file of 'orphan'", {0}, ERR_NOT_FOUND},
		{"raw", "Could not open 'raw': Image is not in qcow2 format", {.format = IMAGE_QCOW2}, ERR_CORRUPT},
		{"loop1", "loop", {0}, ERR_LIMIT},
		{"self", "loop", {0}, ERR_LIMIT},
		{"vmdk", "vmdk", {0}, ERR_UNSUPPORTED},
		{"odd", "vmdk", {0}, ERR_UNSUPPORTED},
		{"remote", "nbd", {0}, ERR_UNSUPPORTED},
		{"three", "deeper than 2", {.max_depth = 2}, ERR_LIMIT},
		{"top", "virtual size", {.max_virtual_size = 65535}, ERR_LIMIT},
		{"top", "format", {.untrusted = true}, ERR_DENIED},
		{"three", "backing", {.untrusted = true, .format = IMAGE_QCOW2}, ERR_DENIED},
		{"top", "content is qcow2", {.untrusted = true, .format = IMAGE_RAW}, ERR_DENIED},
		{"json:{\"driver\":\"qcow2\",\"file.filename\":\"top\",\"backing.file.filename\":\"raw\"}", "untrusted",
			{.untrusted = true, .format = IMAGE_QCOW2}, ERR_DENIED},
		{"json:{\"driver\":\"qcow2\",\"file.filename\":\"top\"}", "format", {.format = IMAGE_RAW}, ERR_USAGE},
		{"sub", "sub", {0}, ERR_UNSUPPORTED},
	};
	save("raw", "raw", 3);
	save("vmdk", "KDMV....", 8);
	image("top", NULL, NULL, 1);
	image("orphan", "gone", "raw", 0);
	image("deep", "orphan", "qcow2", 0);
	image("loop1", "loop2", "qcow2", 0);
	image("loop2", "./loop1", "qcow2", 0);
	image("self", "self", "qcow2", 0);
	image("odd", "raw", "vmdk", 0);
	image("remote", "nbd://localhost/x", "raw", 0);
	image("two", "top", "qcow2", 0);
	image("three", "two", "qcow2", 0);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int rc = open_with(cases[i].name, cases[i].opts, &c);

		ck_assert_msg(rc == -1 && e.code == cases[i].code && strstr(e.msg, cases[i].word), "%s: %d %s",
			cases[i].name, (int)e.code, e.msg);
		ck_assert_ptr_null(c);
	}
	ck_assert_int_eq(open_with("raw", (struct chain_opts){.snapshot = &query}, &c), -1);
	ck_assert_int_eq(e.code, ERR_UNSUPPORTED);
	ck_assert_int_eq(open_with("top", (struct chain_opts){.snapshot = &query}, &c), -1);
	ck_assert_int_eq(e.code, ERR_NOT_FOUND);
	ck_assert_int_eq(open_with("top", (struct chain_opts){.untrusted = true, .format = IMAGE_QCOW2}, &c), 0);
	chain_close(c);
}
END_TEST

/* Two hundred layers open and read; one more is refused. */
START_TEST(two_hundred_layers)
{
	char name[20], below[20];
	struct chain *c;
	struct io *io;
	uint8_t got[1];

	image("0", NULL, NULL, 7);
	for (unsigned i = 1; i <= 200; i++) {
		snprintf(name, sizeof name, "%u", i);
		snprintf(below, sizeof below, "%u", i - 1);
		image(name, below, "qcow2", 0);
	}
	ck_assert_int_eq(open_with("200", (struct chain_opts){0}, &c), -1);
	ck_assert_int_eq(e.code, ERR_LIMIT);
	ck_assert_int_eq(open_with("199", (struct chain_opts){0}, &c), 0);
	ck_assert_uint_eq(c->count, 200);
	MUST(chain_io(&io, c, &e));
	MUST(io_read(io, got, 1, 0, &e));
	ck_assert_int_eq(got[0], 7);
	io_close(io);
	chain_close(c);
}
END_TEST

START_TEST(data_files)
{
	struct image_builder b;
	struct chain *c;
	struct io *io;

	builder_init(&b, 64 * K, 9, BUILD_DATA_FILE);
	builder_extension(&b, EXT_DATA_FILE, "the-data", 8);
	io = builder_finish(&b);
	save("top", io_memory_bytes(io), io->size);
	io_close(io);
	builder_free(&b);
	ck_assert_int_eq(open_with("top", (struct chain_opts){0}, &c), -1);
	ck_assert_msg(e.code == ERR_NOT_FOUND && strstr(e.msg, "the-data"), "%s", e.msg);
	ck_assert_int_eq(open_with("top", (struct chain_opts){.inspect = true, .no_backing = true}, &c), 0);
	chain_close(c);
	save("the-data", "x", 1);
	ck_assert_int_eq(open_with("top", (struct chain_opts){0}, &c), 0);
	ck_assert(c->layers[0].data != c->layers[0].file);
	chain_close(c);
}
END_TEST

START_TEST(locks_of_layers)
{
	struct chain *writer, *reader;
	struct chain_opts write = {.lock = IO_LOCK_WRITE, .write = true, .no_backing = true};
	struct chain_opts share = {.lock = IO_LOCK_SHARED};

	image("base", NULL, NULL, 1);
	image("top", "base", "qcow2", 0);
	ck_assert_msg(open_with("top", write, &writer) == 0, "%s", e.msg);
	ck_assert_int_eq(open_with("top", (struct chain_opts){.lock = IO_LOCK_READ}, &reader), -1);
	ck_assert_int_eq(e.code, ERR_BUSY);
	ck_assert_msg(open_with("top", share, &reader) == 0, "%s", e.msg);
	chain_close(reader);
	chain_close(writer);
	ck_assert_int_eq(open_with("base", write, &writer), 0);
	ck_assert_int_eq(open_with("top", (struct chain_opts){.lock = IO_LOCK_READ}, &reader), -1);
	ck_assert_msg(e.code == ERR_BUSY && strstr(e.msg, "backing file"), "%s", e.msg);
	chain_close(writer);
}
END_TEST

Suite *suite_chain(void);
Suite *suite_chain(void)
{
	Suite *s = suite_create("chain");
	TCase *t = tcase_create("names"), *f = tcase_create("files");

	tcase_add_loop_test(t, relative_names, 0, (int)(sizeof relative / sizeof relative[0]));
	tcase_add_loop_test(t, what_a_name_means, 0, (int)(sizeof names / sizeof names[0]));
	tcase_add_checked_fixture(f, enter, leave);
	tcase_add_test(f, chain_of_files);
	tcase_add_test(f, what_is_refused);
	tcase_add_test(f, two_hundred_layers);
	tcase_add_test(f, data_files);
	tcase_add_test(f, locks_of_layers);
	suite_add_tcase(s, t);
	suite_add_tcase(s, f);
	return s;
}
