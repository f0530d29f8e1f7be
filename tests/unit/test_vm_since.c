/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: images of what changed since an earlier snapshot: what they show over those, in files and in a sink, and what is refused
 * before the machine is touched.
 */
#include "tests/unit/since_cases.h"
#include "tests/unit/vm_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *suite_vm_since(void);

/* The name inside, "" for none. */
static void expect_backing(const char *path, const char *wanted)
{
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .no_backing = true, .lock = IO_LOCK_NONE};
	AUTO_CHAIN struct chain *c = NULL;

	OK(chain_open(&c, path, &opts, &e));
	ck_assert_str_eq(c->layers[0].q->backing_name ? c->layers[0].q->backing_name : "", wanted);
}

static void name_backing(const char *path, const char *name)
{
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .no_backing = true, .write = true, .lock = IO_LOCK_NONE};
	struct rebase_opts o = {.backing_name = name, .backing_format = "qcow2", .unsafe = true};
	AUTO_CHAIN struct chain *c = NULL;

	OK(chain_open(&c, path, &opts, &e));
	o.image = c;
	OK(convert_rebase(&o, &e));
}

static void expect_export(const char *name, const char *target, const char *since)
{
	struct vm_opts o = {
		.driver = scripted_driver_new(w), .domain = "machine", .state_dir = "state", .read_only = true};
	struct vm_catalog c;
	struct vm *vm;

	OK(vm_open(&vm, &o, &e));
	OK(vm_points(vm, &c, &e));
	const struct vm_point *p = vm_catalog_find(&c, name);
	unsigned found = 0;

	ck_assert_ptr_nonnull(p);
	for (unsigned i = 0; i < p->export_count; i++) {
		if (!p->exports[i].target || strcmp(p->exports[i].target, target) != 0)
			continue;
		found++;
		ck_assert_str_eq(p->exports[i].since ? p->exports[i].since : "", since ? since : "");
	}
	ck_assert_uint_eq(found, 1);
	vm_catalog_free(&c);
	vm_close(vm);
	driver_close(o.driver);
}

START_TEST(test_chain)
{
	const struct vm_case *c = &since_ways[_i];
	struct stat full, changed;

	since_begin(w, c);
	OK(since_take(w, c, "b", "a", ".b", &e));
	since_expect_images(w, ".b", c->name);
	expect_backing(".a/vda.qcow2", "");
	expect_backing(".b/vda.qcow2", "../.a/vda.qcow2");
	expect_export("a", "vda", NULL);
	expect_export("b", "vda", "a");
	ck_assert_int_eq(stat(".a/vda.qcow2", &full), 0);
	ck_assert_int_eq(stat(".b/vda.qcow2", &changed), 0);
	ck_assert_int_le(changed.st_size, full.st_size);
	world_tick(w);
	OK(since_take(w, c, "c", "b", ".c/", &e));
	since_expect_images(w, ".c", c->name);
	expect_backing(".c/vdb.qcow2", "../.b/vdb.qcow2");
	expect_export("c", "vdb", "b");
	vm_empty_folder(".c");
	world_tick(w);
	OK(since_take(w, c, "d", "a", ".c", &e)); /* not the latest one */
	since_expect_images(w, ".c", c->name);
	expect_backing(".c/vdb.qcow2", "../.a/vdb.qcow2");
}
END_TEST

/* Names are relative from where the image is, whatever leads there. */
START_TEST(test_names)
{
	static const char *const one[] = {"vda"};
	struct vm_take t;
	unsigned left;

	since_begin(w, &since_ways[0]);
	ck_assert_int_eq(mkdir(".b", 0700), 0);
	ck_assert_int_eq(mkdir(".b/x:y", 0700), 0);
	ck_assert_int_eq(symlink(".b/x:y", ".link"), 0);
	since_options(&since_ways[0], "b", "a", ".link/one.qcow2", &t);
	t.disks = one;
	t.disk_count = 1;
	OK(vm_run(w, &t, &left, &e));
	expect_backing(".b/x:y/one.qcow2", "../../.a/vda.qcow2");
	since_expect_disk(".b/x:y/one.qcow2", w->disks[0].instant, "behind a link");
	since_options(&since_ways[0], "c", "b", ".b/top.qcow2", &t);
	t.disks = one;
	t.disk_count = 1;
	OK(vm_run(w, &t, &left, &e));
	expect_backing(".b/top.qcow2", "./x:y/one.qcow2");
	since_expect_disk(".b/top.qcow2", w->disks[0].instant, "over a name with a colon");
	since_options(&since_ways[0], "d", "b", ".c", &t);
	ck_assert_int_ne(vm_run(w, &t, &left, &e), 0); /* b is of one disk */
	ck_assert_ptr_nonnull(strstr(e.msg, "disk vdb"));
}
END_TEST

/* ---- refusals ---- */

static void no_such(struct vm_take *t)
{
	t->since = "x";
}
static void itself(struct vm_take *t)
{
	t->name = "a";
}
static void not_whole(struct vm_take *t)
{
	(void)t;
	OK(world_snapshot(w->disks[1].in_use.images[0].path, "a", false, &e));
}
static void no_image(struct vm_take *t)
{
	(void)t;
	unlink(".a/vdb.qcow2");
}
static void longer(struct vm_take *t)
{
	(void)t;
	ck_assert_int_eq(truncate(".a/vdb.qcow2", 1 << 20), 0);
}
static void no_header(struct vm_take *t)
{
	struct io *file;

	(void)t;
	OK(io_file_open(&file, ".a/vdb.qcow2", IO_OPEN_WRITE, &e));
	OK(io_write(file, "none", 4, 0, &e));
	io_close(file);
}
static void below_lost(struct vm_take *t)
{
	w->kept = NULL;
	w->more = 2;
	OK(since_take(w, &since_ways[0], "b", "a", ".b", &e));
	t->since = "b";
	t->name = "c";
	unlink(".a/vdb.qcow2");
}
static void nowhere(struct vm_take *t)
{
	t->to = NULL;
}
static void stream(struct vm_take *t)
{
	static const char *const one[] = {"vda"};

	t->to = "-";
	t->stream_fd = 1;
	t->disks = one;
	t->disk_count = 1;
}
static void raw(struct vm_take *t)
{
	image_create_defaults(&t->create, IMAGE_RAW);
}
static void not_kept(struct vm_take *t)
{
	t->keep = false;
}
static void live(struct vm_take *t)
{
	t->keep = false;
	t->mode = VM_LIVE;
	t->via = VM_VIA_ANY;
}
static void overlay(struct vm_take *t)
{
	t->keep = false;
	t->via = VM_VIA_OVERLAY;
}
static const struct vm_sink plain_sink; /* its images have no names */
static void other_place(struct vm_take *t)
{
	t->to = "-";
	t->sink = &plain_sink;
}

static const struct refusal {
	void (*set)(struct vm_take *t);
	enum err_code code;
	const char *text;
	bool lost; /* the disks do not have all of "a" */
} refusals[] = {
	{no_such, ERR_NOT_FOUND, "has no snapshot 'x'", false},
	{itself, ERR_USAGE, "has a snapshot 'a' already", false},
	{not_whole, ERR_UNSUPPORTED, "snapshot 'a' is partly", true},
	{no_image, ERR_NOT_FOUND, "snapshot 'a', disk vdb: ", false},
	{longer, ERR_CHANGED, "is not the image of ", false},
	{no_header, ERR_CORRUPT, "vdb.qcow2", false},
	{below_lost, ERR_NOT_FOUND, "snapshot 'b', disk vdb: ", false},
	{nowhere, ERR_USAGE, "a folder or a file", false},
	{stream, ERR_USAGE, "a folder or a file", false},
	{raw, ERR_USAGE, "a raw one", false},
	{not_kept, ERR_USAGE, "that is kept in the disks", false},
	{live, ERR_USAGE, "that is kept in the disks", false},
	{overlay, ERR_USAGE, "that is kept in the disks", false},
	{other_place, ERR_NOT_FOUND, "no image of it is known", false},
};

START_TEST(test_refused)
{
	const struct refusal *r = &refusals[_i];
	struct vm_take t;
	unsigned left;

	since_begin(w, &since_ways[0]);
	w->kept = "a";
	since_options(&since_ways[0], "b", "a", ".c", &t);
	r->set(&t);
	before = *w;
	ck_assert_int_ne(vm_run(w, &t, &left, &e), 0);
	ck_assert_msg(strstr(e.msg, r->text) != NULL, "'%s' is not '%s'", e.msg, r->text);
	ck_assert_msg(e.code == r->code, "%d: %s", e.code, e.msg);
	ck_assert_uint_eq(left, 0);
	ck_assert_int_ne(access(".c", F_OK), 0);
	ck_assert_str_eq(w->last_op, "look");
	if (!r->lost)
		world_judge(w, &before, e.msg);
}
END_TEST

/* ---- a sink ---- */

struct place {
	unsigned looked;
	uint64_t bytes[2]; /* of the images of "a" */
	enum err_code answer;
	const char *folder;
	int fd;
	struct io_stream *stream;
};

static int on_look(void *ctx, const char *path, uint64_t size, uint64_t bytes, struct error *why)
{
	struct place *p = ctx;

	ck_assert_str_eq(path, p->looked % 2 ? "there:vdb" : "there:vda");
	ck_assert_uint_eq(size, WORLD_BYTES);
	ck_assert_uint_eq(bytes, p->bytes[p->looked % 2]);
	p->looked++;
	return p->answer ? err_set(why, p->answer, "gone") : 0;
}

static int on_begin(void *ctx, const struct driver_domain *domain, const struct vm_taken *t, unsigned disk,
	struct io_stream **out, struct error *why)
{
	struct place *p = ctx;
	char path[64], base[64];

	(void)domain;
	snprintf(base, sizeof base, "there:%s", t->disks[disk].target);
	ck_assert_str_eq(t->disks[disk].base ? t->disks[disk].base : base, base);
	ck_assert_int_eq(t->since != NULL, t->disks[disk].base != NULL);
	ck_assert_uint_eq(t->disks[disk].base_size, t->since ? WORLD_BYTES : 0);
	snprintf(path, sizeof path, "%s/%s.qcow2", p->folder, t->disks[disk].target);
	p->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_assert_int_ge(p->fd, 0);
	OK(io_stream_fd(&p->stream, p->fd, path, why));
	*out = p->stream;
	return 0;
}

static int on_end(void *ctx, unsigned disk, uint64_t virtual_size, char **path, struct error *why)
{
	struct place *p = ctx;

	ck_assert_uint_eq(virtual_size, WORLD_BYTES);
	if (!p->bytes[disk])
		p->bytes[disk] = p->stream->pos;
	io_stream_close(p->stream);
	close(p->fd);
	*path = mem_printf(why, "there:%s", disk ? "vdb" : "vda");
	return *path ? 0 : -1;
}

static bool on_again(void *ctx, unsigned disk, struct error *why)
{
	(void)ctx, (void)disk, (void)why;
	return false;
}

static int take_there(struct place *p, const char *name, const char *since, const char *folder)
{
	const struct vm_sink sink = {
		.ctx = p, .scheme = "there:", .look = on_look, .begin = on_begin, .end = on_end, .again = on_again};
	struct vm_take t;
	unsigned left;

	since_options(&since_ways[0], name, since, "-", &t);
	t.sink = &sink;
	p->folder = folder;
	ck_assert_int_eq(mkdir(folder, 0700), 0);
	return vm_run(w, &t, &left, &e);
}

START_TEST(test_sink)
{
	struct place p = {0};

	vm_case_set(w, &since_ways[0]);
	OK(take_there(&p, "a", NULL, ".a"));
	ck_assert_uint_eq(p.looked, 0);
	world_tick(w);
	OK(take_there(&p, "b", "a", ".b"));
	ck_assert_uint_eq(p.looked, 2);
	expect_export("b", "vdb", "a");
	for (unsigned i = 0; i < 2; i++) {
		char path[64], base[64];

		snprintf(path, sizeof path, ".b/%s.qcow2", w->disks[i].target);
		snprintf(base, sizeof base, "../.a/%s.qcow2", w->disks[i].target);
		expect_backing(path, "");
		name_backing(path, base);
		since_expect_disk(path, w->disks[i].instant, "named by hand");
	}
	p.answer = ERR_NOT_FOUND;
	w->last_op[0] = 0;
	ck_assert_int_ne(take_there(&p, "c", "a", ".c"), 0);
	ck_assert_ptr_nonnull(strstr(e.msg, "snapshot 'a', disk vda: gone"));
	ck_assert_str_eq(w->last_op, "look");
}
END_TEST

Suite *suite_vm_since(void)
{
	Suite *s = suite_create("vm_since");
	TCase *t = tcase_create("since");

	vm_fixture(t, 120);
	tcase_add_loop_test(t, test_chain, 0, SINCE_WAYS);
	tcase_add_test(t, test_names);
	tcase_add_loop_test(t, test_refused, 0, sizeof refusals / sizeof *refusals);
	tcase_add_test(t, test_sink);
	suite_add_tcase(s, t);
	return s;
}
