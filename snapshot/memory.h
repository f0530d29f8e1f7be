/* SPDX-License-Identifier: Apache-2.0
 *
 * The guest's memory and NVRAM in files of ours: as they are taken, kept and used again.
 */
#ifndef QSNAP_SNAPSHOT_MEMORY_H
#define QSNAP_SNAPSHOT_MEMORY_H

#include "snapshot/internal.h"

/* ---- memory and NVRAM in files (snapshot/memory_files.c) ---- */

/* STATE/UUID.TIME.KIND, a name that no file has yet; the caller's. */
char *memory_name(const struct vm *vm, const char *kind, struct error *e);
/* A whole small file; *bytes is the caller's. ERR_LIMIT: it is no NVRAM, so large is it. */
int nvram_read(const char *path, uint8_t **bytes, size_t *len, struct error *e);
/* Whether the point's files are there: its state becomes PARTLY or FOREIGN when not, and *why, the caller's, says so; else NULL. */
int memory_compare(struct vm_point *p, char **why, struct error *e);
/* ERR_CHANGED when `path` has not this SHA-256. */
int memory_proves(const struct vm *vm, const char *path, const char *digest, struct error *e);
/* The point's files become traces: they go when those are taken back. */
int memory_put_away(struct vm *vm, const struct vm_point *p, struct error *e);

/* ---- of a snapshot that is taken (snapshot/memory.c) ---- */

/* Each does nothing where no memory is asked for. Before the first step: */
int take_memory_begin(struct take *t, struct error *e);
/* At the instant, of a guest that is saved. */
int take_memory_saved(struct take *t, struct error *e);
/* The file that the memory of a guest that runs is to go to; its NVRAM, while it stands still. */
int take_memory_part(struct take *t, struct error *e);
int take_nvram(struct take *t, struct error *e);
/* When the guest goes on, the files are there, under their names. */
int take_memory_end(struct take *t, struct error *e);
void take_memory_free(struct take *t);
/* The memory of a guest that runs, to the part (snapshot/memory_live.c): `deed` is done at its instant, when the guest stands still and its disks
 * are open. The guest's file systems are frozen around it, as asked for. */
int take_with_memory(struct take *t, int (*deed)(struct take *t, struct error *e), struct error *e);

#endif
