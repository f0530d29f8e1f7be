/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: images that go to a sink instead of files, in each way to take a snapshot; a sink that fails once and begins again, and
 * one that gives up.
 */

#include "tests/unit/vm_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *suite_vm_sink(void);

enum fault { NO_FAULT, AT_BEGIN, AT_END, FAULTS };

/* Writes each image where vm_case_judge looks for it. */
struct file_sink {
	enum fault fault; /* of the second disk */
	unsigned tries;   /* how often it happens */
	bool patient;
	unsigned begun, ended, again;
	struct io_stream *stream;
	int fd;
};

static int on_begin(void *ctx, const struct driver_domain *domain, const struct vm_taken *t, unsigned disk,
	struct io_stream **out, struct error *why)
{
	struct file_sink *s = ctx;
	char path[64];

	ck_assert_str_eq(domain->name, "machine");
	ck_assert_str_eq(t->name, "s");
	ck_assert_uint_gt(t->disks[disk].size, 0);
	ck_assert_int_gt(t->created, 0);
	s->begun++;
	if (disk == 1 && s->fault == AT_BEGIN && s->tries && s->tries--)
		return err_set(why, ERR_PASSING, "not now");
	snprintf(path, sizeof path, "out/%s.qcow2", t->disks[disk].target);
	s->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_assert_int_ge(s->fd, 0);
	ck_assert_int_eq(io_stream_fd(&s->stream, s->fd, path, why), 0);
	*out = s->stream;
	return 0;
}

static void drop(struct file_sink *s)
{
	if (s->stream) {
		io_stream_close(s->stream);
		close(s->fd);
	}
	s->stream = NULL;
}

static int on_end(void *ctx, unsigned disk, uint64_t virtual_size, char **path, struct error *why)
{
	struct file_sink *s = ctx;

	if (disk == 1 && s->fault == AT_END && s->tries && s->tries--)
		return err_set(why, ERR_PASSING, "not now");
	ck_assert_uint_gt(virtual_size, 0);
	s->ended++;
	drop(s);
	*path = mem_strdup("somewhere", why);
	return *path ? 0 : -1;
}

static bool on_again(void *ctx, unsigned disk, struct error *why)
{
	struct file_sink *s = ctx;

	ck_assert_uint_eq(disk, 1);
	ck_assert_int_eq(why->code, ERR_PASSING);
	s->again++;
	drop(s);
	return s->patient;
}

/* One command into the sink. */
static int run_case(const struct vm_case *c, struct file_sink *s)
{
	const struct vm_sink sink = {.ctx = s, .begin = on_begin, .end = on_end, .again = on_again};
	struct vm_take t;
	unsigned left;

	vm_case_set(w, c);
	w->ready_polls = 2;
	before = *w;
	ck_assert_int_eq(mkdir("out", 0700), 0);
	vm_case_options(c, &t);
	t.to = "-";
	t.sink = &sink;
	const int failed = vm_run(w, &t, &left, &e);
	ck_assert_uint_eq(left, 0);
	return failed;
}

START_TEST(test_arrives)
{
	for (enum fault fault = NO_FAULT; fault < FAULTS; fault++) {
		struct vm_case all = vm_cases[_i], *c = &all;
		struct file_sink s = {.fault = fault, .tries = fault != NO_FAULT, .patient = true};

		all.memory = false; /* which is no stream */
		ck_assert_msg(run_case(c, &s) == 0, "%s: %s", c->name, e.msg);
		ck_assert_uint_eq(s.ended, 2);
		ck_assert_uint_eq(s.again, fault != NO_FAULT);
		ck_assert_uint_eq(s.begun, 2 + s.again);
		close(open("out/manifest.json", O_CREAT | O_CLOEXEC, 0600)); /* the judge wants one */
		vm_case_judge(w, &before, c, true, c->name);
	}
}
END_TEST

START_TEST(test_gives_up)
{
	for (enum fault fault = AT_BEGIN; fault < FAULTS; fault++) {
		struct vm_case all = vm_cases[_i], *c = &all;
		struct file_sink s = {.fault = fault, .tries = 1};

		all.memory = false;
		ck_assert_msg(run_case(c, &s) != 0, "%s: nothing failed", c->name);
		ck_assert_int_eq(e.code, ERR_PASSING);
		ck_assert_uint_eq(s.ended, 1);
		ck_assert_uint_eq(s.again, 1);
		w->kept = NULL;
		world_judge(w, &before, c->name);
	}
}
END_TEST

Suite *suite_vm_sink(void)
{
	Suite *s = suite_create("vm_sink");
	TCase *t = tcase_create("sink");

	vm_fixture(t, 120);
	tcase_add_loop_test(t, test_arrives, 0, vm_case_count);
	tcase_add_loop_test(t, test_gives_up, 0, vm_case_count);
	suite_add_tcase(s, t);
	return s;
}
