/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the scripted driver share.
 */
#ifndef QSNAP_TESTS_UNIT_SCRIPTED_INTERNAL_H
#define QSNAP_TESTS_UNIT_SCRIPTED_INTERNAL_H

#include "tests/unit/scripted_world.h"

#define SCRIPTED_DEVICE "<hostdev mode='subsystem'/>"

struct scripted {
	struct driver driver;
	struct world *w;
	struct io *locks[WORLD_DISKS * (WORLD_CHAIN + 1)];
	unsigned lock_count;
	int memory; /* the pipe for it; -1: none */
};

/* A step begins: what is planned for it happens. It ends: the same for what is planned after it. */
int scripted_begin(struct scripted *s, const char *op, struct error *e);
int scripted_end(struct scripted *s, struct error *e);
/* QEMU's locks, for the state that is now. */
int scripted_relock(struct scripted *s, struct error *e);
struct world_disk *scripted_disk(struct scripted *s, const char *target);

/* tests/unit/scripted_disks.c */
int scripted_look(struct driver *d, const char *domain, struct driver_domain *out, struct error *e);
int scripted_internal_create(struct driver *d, const char *uuid, const char *const *targets, unsigned count,
	const char *name, struct error *e);
int scripted_internal_delete(struct driver *d, const char *uuid, const char *target, const char *name, const char *id,
	struct error *e);
int scripted_overlay(struct driver *d, const char *uuid, const struct driver_new_file *files, unsigned count,
	struct error *e);
int scripted_copy(struct driver *d, const char *uuid, const struct driver_new_file *to, unsigned flags,
	struct error *e);
int scripted_commit(struct driver *d, const char *uuid, const char *target, const char *base, struct error *e);
int scripted_job(struct driver *d, const char *uuid, const char *target, struct driver_job *out, struct error *e);
int scripted_end_job(struct driver *d, const char *uuid, const char *target, enum driver_end how, struct error *e);
int scripted_set_source(struct driver *d, const char *uuid, const struct driver_new_file *file, struct error *e);
int scripted_records(struct driver *d, const char *uuid, struct driver_record **out, unsigned *count, struct error *e);
int scripted_define_record(struct driver *d, const char *uuid, const char *name, int64_t created,
	const char *const *targets, unsigned count, struct error *e);
/* tests/unit/scripted_memory.c */
int scripted_memory_still(struct driver *d, const char *uuid, bool *out, struct error *e);
int scripted_memory_begin(struct driver *d, const char *uuid, int fd, bool still, struct driver_head *head,
	struct error *e);
int scripted_memory_look(struct driver *d, const char *uuid, struct driver_memory *out, struct error *e);
int scripted_memory_patience(struct driver *d, const char *uuid, unsigned ms, struct error *e);
int scripted_memory_finish(struct driver *d, const char *uuid, struct error *e);
int scripted_memory_end(struct driver *d, const char *uuid, struct error *e);
void scripted_memory_close(struct scripted *s);
void scripted_run_on(struct world *w); /* a guest that stood still goes on */
/* tests/unit/scripted_import.c */
int scripted_adapt(struct driver *d, const char *xml, const struct driver_import *how, char **out, struct error *e);
int scripted_adapt_memory(struct driver *d, const char *path, const struct driver_import *how, struct driver_head *out,
	struct error *e);
int scripted_create(struct driver *d, const char *uuid, const char *xml, struct error *e);
int scripted_forget_record(struct driver *d, const char *uuid, const char *name, struct error *e);

#endif
