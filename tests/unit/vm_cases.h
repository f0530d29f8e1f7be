/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: ways to take a snapshot of the machine of tests/unit/scripted_world.h, and one command from its beginning to its end.
 */
#ifndef QSNAP_TESTS_UNIT_VM_CASES_H
#define QSNAP_TESTS_UNIT_VM_CASES_H

#include "tests/unit/scripted_driver.h"

enum vm_before { BEFORE_RUNNING, BEFORE_PAUSED, BEFORE_SHUT_OFF, BEFORE_SAVED };
/* PAUSED: of a guest that must stand still while it is written. */
enum vm_case_memory { NO_MEMORY, MEMORY, MEMORY_PAUSED };

struct vm_case {
	const char *name;
	enum vm_before before;
	bool raw; /* the second disk */
	enum vm_mode mode;
	enum vm_via via;
	bool keep, quiesce, stopped;
	bool device;                /* the second disk is one: what is made beside it lies in the state folder */
	enum vm_case_memory memory; /* with the guest's memory; then the machine has NVRAM, too */
};
extern const struct vm_case vm_cases[];
extern const int vm_case_count;
const struct vm_case *vm_case_named(const char *name); /* there is one */

/* What can happen at a step. */
struct vm_fault {
	const char *name;
	enum world_event event;
	void (*hook)(struct world *world); /* NULL: the guest's power goes, in the test's own way */
};
enum { VM_FAULTS = 5 };
extern const struct vm_fault vm_faults[VM_FAULTS];
void vm_fault_at(struct world *w, int fault, unsigned k, void (*power_fails)(struct world *world));
/* Runs the command in a process of its own, which ends well, or dies as was planned: whether it did. */
bool vm_case_dies(int (*run)(const void *c), const void *c, const char *what);

/* When the command can die: at step k, or at line k of its journal. */
enum { DIE_AT_STEP, DIE_AFTER_STEP, DIE_AT_LINE, DIE_IN_LINE, DIE_AFTER_LINE, VM_DEATHS };
extern const char *const vm_deaths[VM_DEATHS];
void vm_death_at(struct world *w, int death, unsigned k);

void vm_empty_folder(const char *path); /* and removes it, if it holds files alone */
/* The machine as the case wants it before the command, with nothing left of an earlier one. */
void vm_case_set(struct world *w, const struct vm_case *c);
/* The options of the case's command, into out/. */
void vm_case_options(const struct vm_case *c, struct vm_take *t);
/* One command: opens, takes the snapshot, closes. *left: what waits for recovery. */
int vm_case_run(struct world *w, const struct vm_case *c, unsigned *left, struct error *e);
int vm_run(struct world *w, const struct vm_take *t, unsigned *left, struct error *e);
/* The next command, with nothing planned: it recovers. */
int vm_run_recover(struct world *w, struct error *e);
/* A command that opens the domain, does this (NULL: no more), and closes. */
int vm_with(struct world *w, bool without_memory, int (*deed)(struct vm *vm, void *arg), void *arg, struct error *e);
/* The machine is as before; what the command made is whole or not there; `done`: it must be there. */
void vm_case_judge(struct world *w, const struct world *before, const struct vm_case *c, bool done, const char *what);

#endif
