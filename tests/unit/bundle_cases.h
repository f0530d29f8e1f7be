/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: the machine of tests/unit/scripted_world.h with a tree of kept snapshots (a; b and c of a; c with memory and NVRAM), made
 * into bundles and made of them.
 */
#ifndef QSNAP_TESTS_UNIT_BUNDLE_CASES_H
#define QSNAP_TESTS_UNIT_BUNDLE_CASES_H

#include "tests/unit/vm_cases.h"

enum { BUNDLE_POINTS = 3 };
extern const char *const bundle_points[BUNDLE_POINTS];
extern bool bundle_trusts; /* what an import believes; true, unless a test says otherwise */

/* Takes the snapshots; the guest goes on. What each shows is remembered. */
void bundle_tree(struct world *w);
/* The machine is not there: neither its definition nor what was imported before, nor a journal or catalog. */
void bundle_nothing_there(struct world *w);
/* One command each. `left`: what waits for recovery. */
int bundle_export(struct world *w, const char *to, bool all, struct error *e);
int bundle_import(struct world *w, const char *from, const char *name, bool *left, struct error *e);
/* What a user does after a crash. */
int bundle_recover(struct world *w, struct error *e);
/* The folder in/ holds disks with these snapshots, at snapshot `at`, and the catalog knows them; or there is nothing. Returns whether
 * there is. */
bool bundle_judge(struct world *w, bool all, const char *at, const char *what);
/* What was imported goes back to c: it goes on from its memory, if that was let in. */
void bundle_goes_on(struct world *w);
/* How many bundles of the point the catalog tells of; where the last one is, the caller's, and how large. */
unsigned bundle_told(struct world *w, const char *point, char **last, uint64_t *bytes);
/* How many names a folder has; 0 if there is none. */
unsigned bundle_names(const char *folder);

#endif
