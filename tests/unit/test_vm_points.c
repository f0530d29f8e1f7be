/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot/: the catalog of a domain's points: which was taken of which, what is told of points that the disks do not hold as they were,
 * deleting in the middle, and catalogs that are damaged.
 */
#include "snapshot/internal.h"
#include "tests/unit/scratch.h"
#include "tests/unit/vm_fixture.h"

#include <sys/wait.h>
#include <unistd.h>

Suite *suite_vm_points(void);

#define CATALOG "state/" WORLD_UUID ".snapshots"

static int take(const char *name, enum vm_mode mode)
{
	struct vm_take t;
	unsigned left;

	vm_take_defaults(&t);
	t.name = name;
	t.mode = mode;
	t.via = mode == VM_INSTANT ? VM_VIA_INTERNAL : VM_VIA_ANY;
	t.keep = true;
	t.threads = 0;
	return vm_run(w, &t, &left, &e);
}

static int points_deed(struct vm *vm, void *arg)
{
	return vm_points(vm, arg, &e);
}

static int points(struct vm_catalog *c)
{
	return vm_with(w, false, points_deed, c, &e);
}

static int delete_deed(struct vm *vm, void *arg)
{
	return vm_delete(vm, arg, &e);
}

static int delete (const char *name)
{
	return vm_with(w, false, delete_deed, (void *)name, &e);
}

/* "a b<a c<b*": each point with its parent, the current one with a star. */
static void expect(const char *wanted)
{
	struct vm_catalog c;
	char told[300] = "";

	OK(points(&c));
	for (unsigned i = 0; i < c.count; i++) {
		const struct vm_point *p = &c.points[i];
		size_t len = strlen(told);

		snprintf(told + len, sizeof told - len, "%s%s%s%s%s%s", i ? " " : "", p->name, p->parent ? "<" : "",
			p->parent ? p->parent : "", c.current && !strcmp(c.current, p->name) ? "*" : "",
			p->state == VM_POINT_WHOLE ? "" : "!");
	}
	vm_catalog_free(&c);
	ck_assert_str_eq(told, wanted);
}

static struct vm_catalog one(const char *name, enum vm_point_state state, const char *why)
{
	struct vm_catalog c;

	OK(points(&c));
	const struct vm_point *p = vm_catalog_find(&c, name);

	ck_assert_ptr_nonnull(p);
	ck_assert_msg(p->state == state, "%s: %s", vm_point_state_name(p->state), p->why);
	if (why)
		ck_assert_msg(strstr(p->why, why) != NULL, "'%s' is not '%s'", p->why, why);
	return c;
}

#define EXPECT_STATE(name, state, why)                                                                                 \
	do {                                                                                                           \
		struct vm_catalog c_ = one(name, state, why);                                                          \
		vm_catalog_free(&c_);                                                                                  \
	} while (0)

static int go_back_deed(struct vm *vm, void *arg)
{
	struct vm_reverted out;
	int failed = vm_revert(vm, arg, &out, &e);

	if (!failed)
		vm_reverted_free(&out);
	return failed;
}

static int go_back(const char *name, const char *present)
{
	return vm_with(w, false, go_back_deed,
		&(struct vm_revert){.name = name, .first = present != NULL, .present = present}, &e);
}

/* The disks are at the point that they went back to: what is taken then is below it. The state before is one below where it came from. */
START_TEST(test_fork)
{
	static const char then[] = "<domain type='then'/>", now[] = "<domain type='now'/>";

	w->state = DRIVER_SHUT_OFF;
	snprintf(w->xml, sizeof w->xml, "%s", then);
	OK(take("a", VM_COLD));
	snprintf(w->xml, sizeof w->xml, "%s", now);
	OK(take("b", VM_COLD));
	OK(go_back("a", NULL));
	ck_assert_str_eq(w->xml, then);
	expect("a* b<a");
	OK(take("c", VM_COLD));
	expect("a b<a c<a*");
	OK(go_back("b", "d"));
	ck_assert_str_eq(w->xml, now);
	expect("a b<a* c<a d<c");
	OK(go_back("d", NULL));
	expect("a b<a c<a d<c*");
	OK(delete ("c"));
	expect("a b<a d<a*");
}
END_TEST

/* One that is not as the catalog has it is nothing to go back to. */
START_TEST(test_no_way_back)
{
	OK(take("a", VM_INSTANT));
	OK(take("b", VM_INSTANT));
	OK(disk_snapshot_delete("vda.qcow2", IO_LOCK_NONE, "a", NULL, &e));
	ck_assert_int_ne(go_back("a", NULL), 0);
	expect("a! b<a*");
}
END_TEST

START_TEST(test_chain)
{
	struct vm_catalog c;

	expect("");
	OK(take("a", VM_INSTANT));
	expect("a*");
	OK(take("b", VM_COLD));
	OK(take("c", VM_INSTANT));
	expect("a b<a c<b*");
	c = one("b", VM_POINT_WHOLE, NULL);
	const struct vm_point *p = vm_catalog_find(&c, "b");

	ck_assert_int_eq(p->mode, VM_COLD);
	ck_assert_int_eq(p->was, DRIVER_RUNNING);
	ck_assert_str_eq(p->xml, "<domain/>");
	ck_assert_uint_eq(p->disk_count, 2);
	ck_assert_uint_eq(p->export_count, 0);
	ck_assert_str_eq(p->disks[1].target, "vdb");
	ck_assert_str_eq(p->disks[1].path, w->disks[1].in_use.images[0].path);
	ck_assert_uint_eq(p->disks[1].size, WORLD_BYTES);
	vm_catalog_free(&c);
	ck_assert_int_eq(take("b", VM_INSTANT), -1);
	ck_assert_int_eq(e.code, ERR_USAGE);
	OK(delete ("b"));
	expect("a c<a*");
	OK(delete ("c"));
	expect("a*");
	OK(delete ("a"));
	expect("");
	ck_assert_int_ne(access(CATALOG, F_OK), 0);
}
END_TEST

/* What is not what the catalog says. */
START_TEST(test_compared)
{
	const char *vda = w->disks[0].in_use.images[0].path, *vdb = w->disks[1].in_use.images[0].path;

	OK(take("a", VM_INSTANT));
	OK(take("b", VM_INSTANT));
	OK(world_snapshot(vdb, "mine", true, &e));
	EXPECT_STATE("mine", VM_POINT_UNLISTED, "not taken");
	OK(world_snapshot(vda, "a", false, &e));
	EXPECT_STATE("a", VM_POINT_PARTLY, "disk vda has lost it");
	EXPECT_STATE("b", VM_POINT_WHOLE, NULL);
	ck_assert_int_eq(take("a", VM_INSTANT), -1);
	OK(world_snapshot(vda, "a", true, &e));
	EXPECT_STATE("a", VM_POINT_FOREIGN, "disk vda has another snapshot of that name");
	OK(world_snapshot(vda, "a", false, &e));
	OK(world_snapshot(vdb, "a", false, &e));
	EXPECT_STATE("a", VM_POINT_MISSING, "disk vda has lost it; disk vdb has lost it");
	OK(take("a", VM_INSTANT)); /* it takes the name */
	EXPECT_STATE("a", VM_POINT_WHOLE, NULL);
	OK(world_snapshot(vda, "b", false, &e));
	OK(world_snapshot(vdb, "b", false, &e));
	EXPECT_STATE("b", VM_POINT_MISSING, NULL);
	OK(delete ("b"));
	ck_assert_int_eq(delete ("b"), -1);
	ck_assert_int_eq(e.code, ERR_NOT_FOUND);
}
END_TEST

START_TEST(test_other_file)
{
	struct world_disk *d = &w->disks[1];
	char old[WORLD_PATH];

	OK(take("a", VM_INSTANT));
	w->state = DRIVER_SHUT_OFF;
	snprintf(old, sizeof old, "%.200s.old", d->defined.images[0].path);
	ck_assert_int_eq(rename(d->defined.images[0].path, old), 0);
	struct world_image base = {.format = DRIVER_QCOW2};

	snprintf(base.path, sizeof base.path, "%.250s", old);
	OK(world_overlay(d->defined.images[0].path, &base, &e));
	EXPECT_STATE("a", VM_POINT_PARTLY, "disk vdb has lost it");
	snprintf(d->defined.images[0].path, sizeof d->defined.images[0].path, "%.250s", old);
	EXPECT_STATE("a", VM_POINT_FOREIGN, "disk vdb is ");
	unlink(old);
}
END_TEST

/* ---- deleting in the middle, with a death at each line of journal and catalog ---- */

/* The point is whole, or nowhere. */
static void nothing_half(void)
{
	struct vm_catalog left;

	OK(points(&left));
	const struct vm_point *b = vm_catalog_find(&left, "b");

	ck_assert_msg(!b || b->state == VM_POINT_WHOLE, "%s", b ? b->why : "");
	if (b)
		OK(delete ("b"));
	vm_catalog_free(&left);
	expect("a c<a*");
	ck_assert_int_ne(access(CATALOG ".new", F_OK), 0);
}

START_TEST(test_delete_dies)
{
	const enum journal_fault fault = _i ? JOURNAL_FAULT_DIE_HALF : JOURNAL_FAULT_DIE_BEFORE;
	int status = -1;

	for (unsigned k = 1; status; k++) {
		struct vm_case c = {.before = BEFORE_RUNNING};

		vm_case_set(w, &c);
		OK(take("a", VM_INSTANT));
		OK(take("b", VM_INSTANT));
		OK(take("c", VM_INSTANT));
		pid_t child = fork();

		if (!child) {
			journal_fault_at(k, fault, false);
			_exit(delete ("b") ? 1 : 0);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert(WIFEXITED(status) && (!WEXITSTATUS(status) || WEXITSTATUS(status) == DIED));
		OK(vm_run_recover(w, &e));
		nothing_half();
	}
}
END_TEST

/* The same where a write fails, or all do from it on: nothing is lost, and the next command finishes it. */
START_TEST(test_delete_fails)
{
	unsigned calls = 0;

	for (unsigned k = 1; k == 1 || calls >= k - 1; k++) {
		struct vm_case c = {.before = BEFORE_RUNNING};

		vm_case_set(w, &c);
		OK(take("a", VM_INSTANT));
		OK(take("b", VM_INSTANT));
		OK(take("c", VM_INSTANT));
		journal_fault_at(k, JOURNAL_FAULT_FAILS, _i);
		int failed = delete ("b");

		calls = journal_fault_calls();
		ck_assert_msg(failed || calls < k || !_i, "write %u failed, and nobody said so", k);
		OK(vm_run_recover(w, &e));
		nothing_half();
	}
}
END_TEST

/* ---- trees ---- */

static void add(struct vm_catalog *c, const char *name, const char *parent, int64_t created)
{
	struct vm_point p = {.name = strdup(name), .parent = parent ? strdup(parent) : NULL, .created = created};

	OK(catalog_add(c, &p, &e));
}

static void expect_below(const struct vm_catalog *c, const char *name, const char *wanted)
{
	char told[100] = "";
	unsigned *order, count;

	OK(vm_catalog_below(c, name, &order, &count, &e));
	for (unsigned i = 0; i < count; i++)
		snprintf(told + strlen(told), sizeof told - strlen(told), "%s", c->points[order[i]].name);
	free(order);
	ck_assert_str_eq(told, wanted);
}

START_TEST(test_forks)
{
	struct vm_catalog c = {.current = strdup("d")};
	unsigned *order, count;

	add(&c, "a", NULL, 1);
	add(&c, "b", "a", 2);
	add(&c, "c", "b", 3);
	add(&c, "d", "b", 4);
	add(&c, "e", "c", 5);
	add(&c, "f", NULL, 6);
	expect_below(&c, "a", "edcba");
	expect_below(&c, "b", "edcb");
	expect_below(&c, "f", "f");
	ck_assert_int_eq(vm_catalog_below(&c, "x", &order, &count, &e), -1);
	ck_assert_int_eq(e.code, ERR_NOT_FOUND);
	OK(catalog_remove(&c, "b", &e));
	ck_assert_str_eq(vm_catalog_find(&c, "c")->parent, "a");
	ck_assert_str_eq(vm_catalog_find(&c, "d")->parent, "a");
	ck_assert_str_eq(vm_catalog_find(&c, "e")->parent, "c");
	ck_assert_str_eq(c.current, "d");
	OK(catalog_remove(&c, "d", &e));
	ck_assert_str_eq(c.current, "a");
	OK(catalog_remove(&c, "a", &e));
	ck_assert_ptr_null(c.current);
	ck_assert_ptr_null(vm_catalog_find(&c, "c")->parent);
	OK(catalog_remove(&c, "x", &e));
	ck_assert_uint_eq(c.count, 3);
	vm_catalog_free(&c);
}
END_TEST

/* ---- a catalog that is damaged ---- */

/* Each byte of a real one changed, and each length: it is read or refused, and nothing is taken on top of what cannot be read. */
START_TEST(test_damaged)
{
	struct vm_catalog c;
	size_t len;

	OK(take("a", VM_INSTANT));
	OK(take("b", VM_INSTANT));
	char *text = scratch_read(CATALOG, &len);

	for (size_t i = 0; i < len; i++) {
		const char was = text[i];

		if (!catalog_parse(text, i, WORLD_UUID, &c, &e))
			vm_catalog_free(&c);
		for (unsigned bit = 0; bit < 8; bit += 3) {
			text[i] = (char)(was ^ (1 << bit));
			if (!catalog_parse(text, len, WORLD_UUID, &c, &e))
				vm_catalog_free(&c);
		}
		text[i] = was;
	}
	scratch_file(CATALOG, text, len / 2);
	free(text);
	ck_assert_int_eq(points(&c), -1);
	ck_assert_int_eq(e.code, ERR_CORRUPT);
	ck_assert_ptr_nonnull(strstr(e.msg, WORLD_UUID ".snapshots"));
	ck_assert_int_eq(take("c", VM_INSTANT), -1);
	ck_assert_int_eq(delete ("a"), -1);
	ck_assert(world_has_snapshot(w->disks[0].in_use.images[0].path, "a"));
	ck_assert(!world_has_snapshot(w->disks[0].in_use.images[0].path, "c"));
}
END_TEST

Suite *suite_vm_points(void)
{
	Suite *s = suite_create("vm_points");
	TCase *t = tcase_create("points");

	vm_fixture(t, 60);
	tcase_add_test(t, test_chain);
	tcase_add_test(t, test_fork);
	tcase_add_test(t, test_no_way_back);
	tcase_add_test(t, test_compared);
	tcase_add_test(t, test_other_file);
	tcase_add_loop_test(t, test_delete_dies, 0, 2);
	tcase_add_loop_test(t, test_delete_fails, 0, 2);
	tcase_add_test(t, test_forks);
	tcase_add_test(t, test_damaged);
	suite_add_tcase(s, t);
	return s;
}
