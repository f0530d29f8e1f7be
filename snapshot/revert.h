/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of going back to a snapshot share.
 */
#ifndef QSNAP_SNAPSHOT_REVERT_H
#define QSNAP_SNAPSHOT_REVERT_H

#include "snapshot/internal.h"

/* ---- a snapshot that all disks go back to (snapshot/revert_find.c) ---- */

struct revert_disk {
	char *target, *path; /* of the disk's top, absolute */
	uint64_t dev, ino;
	char *id; /* the snapshot's number there */
	int64_t date;
	/* the snapshot of its present, once it is there */
	char *present_id;
	int64_t present_date;
	unsigned kept, reverted; /* traces: of that snapshot; of going back */
};
struct revert_point {
	char *name;
	int64_t created;
	bool listed;          /* in the catalog */
	char *xml;            /* the definition at that time; NULL: it stays as it is */
	char *memory, *nvram; /* files; NULL: none */
	char memory_digest[129], nvram_digest[129];
	enum driver_state was; /* the guest, if it has memory */
	struct revert_disk *disks;
	unsigned disk_count;
};
/* Every writable local disk of the domain, each of which has the snapshot once. */
int revert_find(struct vm *vm, const struct vm_revert *opts, struct revert_point *out, struct error *e);
void revert_point_free(struct revert_point *p); /* what it owns */

/* ---- one way back ---- */

struct revert {
	struct vm *vm;
	const struct vm_revert *opts;
	struct vm_reverted *out;
	struct revert_point point;
	char *present;           /* what the snapshots of the state before are called */
	char *xml_before;        /* the definition before */
	enum driver_state was;   /* before the first step */
	bool saved;              /* there is a saved state, which does not fit any more */
	unsigned ended, defined; /* traces; 0: none */
	uint8_t *nvram_bytes;    /* that of the snapshot; NULL: it stays as it is */
	size_t nvram_len;
	char *nvram_before;         /* a file with what it was; NULL: there was none */
	unsigned nvram, nvram_kept; /* traces: of the change; of that file */
};
/* Whether it can be, before anything is done (snapshot/revert_check.c). */
int revert_check(struct revert *r, struct error *e);
/* The memory and NVRAM of the snapshot are what was taken; and the NVRAM is put in its place (snapshot/revert_memory.c). */
int revert_check_memory(struct revert *r, struct error *e);
int revert_nvram(struct revert *r, struct error *e);
/* The journal tells of a way back, and not yet that it is gone to its end (snapshot/undo_revert.c). */
bool revert_undecided(const struct vm *vm);
/* Before it is decided nothing is taken back while the journal tells what comes then. */
int revert_refuse_early(const struct vm *vm, struct error *e);
/* Before the disks are there for good: the catalog says which point they are at, and has the state before if that is kept. Two traces,
 * to be dropped with the rest; 0: none (snapshot/revert_account.c). */
int revert_account(const struct revert *r, unsigned traces[2], struct error *e);

#endif
