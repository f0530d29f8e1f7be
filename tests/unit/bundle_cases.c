/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine of tests/unit/bundle_cases.h.
 */
#include "tests/unit/bundle_cases.h"
#include "tests/unit/journal_fault.h"
#include "tests/unit/revert_cases.h"

#include <check.h>
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const bundle_points[BUNDLE_POINTS] = {"a", "b", "c"};
bool bundle_trusts = true;
static uint8_t shown[BUNDLE_POINTS][2][WORLD_BYTES];

static bool has_memory(const char *point)
{
	return point[0] == 'c';
}

static void take(struct world *w, unsigned point)
{
	struct vm_take t;
	struct error e;
	unsigned left;

	vm_take_defaults(&t);
	t.name = bundle_points[point];
	t.mode = VM_INSTANT;
	t.via = VM_VIA_INTERNAL;
	t.keep = true;
	t.memory = has_memory(t.name);
	t.threads = 0;
	if (vm_run(w, &t, &left, &e))
		ck_abort_msg("%s", e.msg);
	for (unsigned i = 0; i < 2; i++)
		world_read(w->disks[i].in_use.images[0].path, DRIVER_QCOW2, t.name, shown[point][i]);
	world_tick(w);
	world_tick(w);
}

void bundle_tree(struct world *w)
{
	struct error e;
	unsigned left;

	take(w, 0);
	take(w, 1);
	/* back to the first one, which is the instant then */
	for (unsigned i = 0; i < 2; i++)
		memcpy(w->disks[i].instant, shown[0][i], WORLD_BYTES);
	if (revert_run(w, &(struct vm_revert){.name = "a"}, &left, &e))
		ck_abort_msg("%s", e.msg);
	w->instant_was = w->back = false;
	w->device = w->device_attached = false;
	world_write_nvram(w, 1);
	take(w, 2);
	world_write_nvram(w, 2);
}

static void clear(const char *folder)
{
	DIR *dir = opendir(folder);
	const struct dirent *d;
	char name[600];

	while (dir && (d = readdir(dir))) {
		snprintf(name, sizeof name, "%s/%s", folder, d->d_name);
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && unlink(name))
			clear(name);
	}
	if (dir)
		closedir(dir);
	rmdir(folder);
}

void bundle_nothing_there(struct world *w)
{
	clear("in");
	clear("state");
	ck_assert_int_eq(mkdir("in", 0700), 0);
	w->undefined = true;
	w->record_count = 0;
	w->state = DRIVER_SHUT_OFF;
	w->at = w->steps = 0;
	w->event = EVENT_NONE;
	atomic_store(&w->cancel, false);
	journal_fault_at(0, JOURNAL_FAULT_NONE, false);
}

static struct vm_opts options(struct world *w, struct progress *progress)
{
	*progress = (struct progress){.cancel = &w->cancel};
	return (struct vm_opts){.driver = scripted_driver_new(w),
		.domain = w->name,
		.state_dir = "state",
		.retry_ms = 1,
		.voice.progress = progress};
}

int bundle_export(struct world *w, const char *to, bool all, struct error *e)
{
	struct progress progress;
	struct vm_opts o = options(w, &progress);
	struct vm_exported out;
	struct vm_export x;
	struct vm *vm;

	vm_export_defaults(&x);
	x.name = "c";
	x.to = to;
	x.all = all;
	x.threads = 0;
	int failed = vm_open(&vm, &o, e);

	if (!failed) {
		failed = vm_export(vm, &x, &out, e);
		vm_close(vm);
	}
	driver_close(o.driver);
	return failed;
}

int bundle_import(struct world *w, const char *from, const char *name, bool *left, struct error *e)
{
	struct progress progress;
	struct vm_opts o = options(w, &progress);
	struct vm_imported out;
	int failed = vm_import(&o,
		&(struct vm_import){.from = from, .name = name, .to = "in", .stream_fd = 0, .trust = bundle_trusts},
		&out, e);

	*left = out.left;
	vm_imported_free(&out);
	driver_close(o.driver);
	return failed;
}

int bundle_recover(struct world *w, struct error *e)
{
	AUTO_FREE char **uuids = NULL;
	struct progress progress;
	unsigned count;
	int failed = 0;

	w->at = w->steps = 0;
	w->event = EVENT_NONE;
	atomic_store(&w->cancel, false);
	journal_fault_at(0, JOURNAL_FAULT_NONE, false);
	struct vm_opts o = options(w, &progress);

	if (vm_journals("state", &uuids, &count, e))
		failed = -1;
	for (unsigned i = 0; !failed && i < count; i++) {
		struct vm *vm;

		o.domain = uuids[i];
		if (w->undefined) {
			failed = vm_recover_undefined(&o, uuids[i], e);
		} else {
			failed = vm_open(&vm, &o, e);
			if (!failed)
				vm_close(vm);
		}
		free(uuids[i]);
	}
	driver_close(o.driver);
	return failed;
}

unsigned bundle_names(const char *folder)
{
	DIR *dir = opendir(folder);
	const struct dirent *d;
	unsigned names = 0;

	while (dir && (d = readdir(dir)))
		names += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
	if (dir)
		closedir(dir);
	return names;
}

static void judge_catalog(struct world *w, bool all, const char *at, const char *what)
{
	static const char *const parents[BUNDLE_POINTS] = {NULL, "a", "a"};
	struct progress progress;
	struct vm_opts o = options(w, &progress);
	struct vm_catalog c;
	struct error e;
	struct vm *vm;

	o.read_only = true;
	if (vm_open(&vm, &o, &e) || vm_points(vm, &c, &e))
		ck_abort_msg("%s: %s", what, e.msg);
	ck_assert_msg(c.count == (all ? BUNDLE_POINTS : 1), "%s: %u points", what, c.count);
	ck_assert_pstr_eq(c.current, at);
	for (unsigned i = 0; i < c.count; i++) {
		const struct vm_point *p = &c.points[i];

		ck_assert_msg(p->state == VM_POINT_WHOLE && p->disk_count == 2, "%s: %s: %s", what, p->name, p->why);
		ck_assert_pstr_eq(p->parent, all ? parents[p->name[0] - 'a'] : NULL);
		ck_assert_str_eq(p->xml, w->xml);
		ck_assert_int_eq(p->was, DRIVER_RUNNING);
		ck_assert_msg(!p->memory == !(has_memory(p->name) && bundle_trusts) &&
				      !p->nvram == !has_memory(p->name),
			"%s: %s: its memory", what, p->name);
	}
	vm_catalog_free(&c);
	vm_close(vm);
	driver_close(o.driver);
}

bool bundle_judge(struct world *w, bool all, const char *at, const char *what)
{
	AUTO_FREE char **uuids = NULL;
	struct error e;
	unsigned count;

	ck_assert(!vm_journals("state", &uuids, &count, &e));
	ck_assert_msg(!count, "%s: a journal is left", what);
	ck_assert_msg(bundle_names("in") == (w->undefined ? 0 : 3), "%s: in/ has %u names", what, bundle_names("in"));
	ck_assert_msg(bundle_names("state") <= (w->undefined ? 1u : 3u + bundle_trusts), "%s: state/ has %u names",
		what, bundle_names("state"));
	if (w->undefined)
		return false;
	ck_assert_uint_eq(w->disk_count, 2);
	for (unsigned i = 0; i < 2; i++) {
		const char *path = w->disks[i].defined.images[0].path;

		world_judge_image(path, all ? BUNDLE_POINTS : 1, what);
		world_judge_content(path, DRIVER_QCOW2, NULL, shown[at[0] - 'a'][i], what);
		for (unsigned p = 0; p < BUNDLE_POINTS; p++)
			if (all || bundle_points[p][0] == at[0])
				world_judge_content(path, DRIVER_QCOW2, bundle_points[p], shown[p][i], what);
	}
	judge_catalog(w, all, at, what);
	return true;
}

void bundle_goes_on(struct world *w)
{
	const struct vm_revert opts = {.name = "c"};
	struct error e;
	unsigned left;

	for (unsigned i = 0; i < 2; i++) {
		memcpy(w->disks[i].content, shown[2][i], WORLD_BYTES);
		memcpy(w->disks[i].instant, shown[2][i], WORLD_BYTES);
	}
	if (revert_run(w, &opts, &left, &e))
		ck_abort_msg("%s", e.msg);
	ck_assert(!left && w->restored == bundle_trusts);
	ck_assert_int_eq(w->state, bundle_trusts ? DRIVER_RUNNING : DRIVER_SHUT_OFF);
}

struct told {
	const char *point;
	unsigned count;
	char **last;
	uint64_t *bytes;
};

static int tell_deed(struct vm *vm, void *arg)
{
	struct told *t = arg;
	struct vm_catalog c;
	struct error e;

	if (vm_points(vm, &c, &e))
		ck_abort_msg("%s", e.msg);
	const struct vm_point *p = vm_catalog_find(&c, t->point);

	ck_assert_ptr_nonnull(p);
	for (unsigned i = 0; i < p->export_count; i++) {
		const struct vm_point_export *x = &p->exports[i];

		ck_assert(!x->target && !x->since && x->when);
		free(*t->last);
		*t->last = strdup(x->to);
		*t->bytes = x->bytes;
		t->count++;
	}
	vm_catalog_free(&c);
	return 0;
}

unsigned bundle_told(struct world *w, const char *point, char **last, uint64_t *bytes)
{
	struct told t = {.point = point, .last = last, .bytes = bytes};
	struct error e;

	*last = NULL;
	if (vm_with(w, false, tell_deed, &t, &e))
		ck_abort_msg("%s", e.msg);
	return t.count;
}
