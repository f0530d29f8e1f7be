/* SPDX-License-Identifier: Apache-2.0
 *
 * The cases of tests/unit/since_cases.h.
 */
#include "tests/unit/since_cases.h"

#include <check.h>

const struct vm_case since_ways[SINCE_WAYS] = {
	{"internal", BEFORE_RUNNING, false, VM_INSTANT, VM_VIA_INTERNAL, true, false, false, false, NO_MEMORY},
	{"cold", BEFORE_RUNNING, false, VM_COLD, VM_VIA_ANY, true, false, false, false, NO_MEMORY},
	{"cold, extracted while stopped", BEFORE_RUNNING, false, VM_COLD, VM_VIA_ANY, true, false, true, false,
		NO_MEMORY},
	{"shut off", BEFORE_SHUT_OFF, false, VM_AUTO, VM_VIA_ANY, true, false, false, false, NO_MEMORY},
	{"saved", BEFORE_SAVED, false, VM_AUTO, VM_VIA_ANY, true, false, false, false, NO_MEMORY},
};

void since_options(const struct vm_case *c, const char *name, const char *since, const char *to, struct vm_take *t)
{
	vm_case_options(c, t);
	t->name = name;
	t->since = since;
	t->to = to;
}

int since_take(struct world *w, const struct vm_case *c, const char *name, const char *since, const char *to,
	struct error *e)
{
	struct vm_take t;
	unsigned left;

	since_options(c, name, since, to, &t);
	return vm_run(w, &t, &left, e);
}

void since_begin(struct world *w, const struct vm_case *c)
{
	static const char *const folders[] = {".a", ".b", ".c"};
	struct error e;

	for (unsigned i = 0; i < sizeof folders / sizeof *folders; i++)
		vm_empty_folder(folders[i]);
	vm_case_set(w, c);
	if (since_take(w, c, "a", NULL, ".a/", &e))
		ck_abort_msg("%s", e.msg);
	w->instant_was = false;
	w->steps = 0;
	for (unsigned i = 0; i < 3; i++)
		world_tick(w);
}

void since_expect_disk(const char *path, const uint8_t *wanted, const char *what)
{
	uint8_t bytes[WORLD_BYTES];

	world_read(path, DRIVER_QCOW2, NULL, bytes);
	ck_assert_msg(memcmp(bytes, wanted, WORLD_BYTES) == 0, "%s: %s shows something else", what, path);
}

void since_expect_images(const struct world *w, const char *folder, const char *what)
{
	for (unsigned i = 0; i < w->disk_count; i++) {
		char path[64];

		snprintf(path, sizeof path, "%s/%s.qcow2", folder, w->disks[i].target);
		since_expect_disk(path, w->disks[i].instant, what);
	}
}
