/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests of increments: the machine of tests/unit/scripted_world.h with a first snapshot, and images of it.
 */
#ifndef QSNAP_TESTS_UNIT_SINCE_CASES_H
#define QSNAP_TESTS_UNIT_SINCE_CASES_H

#include "tests/unit/vm_cases.h"

/* Ways to take one that is kept. */
enum { SINCE_WAYS = 5 };
extern const struct vm_case since_ways[SINCE_WAYS];

void since_options(const struct vm_case *c, const char *name, const char *since, const char *to, struct vm_take *t);
int since_take(struct world *w, const struct vm_case *c, const char *name, const char *since, const char *to,
	struct error *e);
/* A new machine, and its first snapshot, "a", with images of all in .a/. */
void since_begin(struct world *w, const struct vm_case *c);
void since_expect_disk(const char *path, const uint8_t *wanted, const char *what);
/* All images in the folder show the instant. */
void since_expect_images(const struct world *w, const char *folder, const char *what);

#endif
