/* SPDX-License-Identifier: Apache-2.0
 *
 * trees: whole L1 trees at once, as internal snapshots need them (FORMAT.md §8, §12.4): what a tree refers to, all refcounts
 * raised or lowered by that in one pass over the refcount blocks, all COPIED bits of a tree made right in one pass over its
 * L2 tables. It works on the file itself, with the machinery of check: no table may be in memory meanwhile.
 *
 * Windows of tables are read and worked on by any thread; writes come from the caller's thread, in the order of the tables.
 */
#ifndef QSNAP_QCOW2_TREES_H
#define QSNAP_QCOW2_TREES_H

#include "qcow2/check_internal.h"

struct marks { /* one bit a host cluster */
	uint8_t *bytes;
	uint64_t clusters;
};
static inline bool marks_get(const struct marks *m, uint64_t cluster)
{
	return cluster < m->clusters && m->bytes[cluster / 8] >> cluster % 8 & 1;
}

struct trees {
	struct check c; /* first: a job knows only this */
	struct check_opts opts;
	struct check_result result;
	struct finding first; /* the first thing that was found wrong */
	bool bad;
	struct marks fixed; /* clusters of header, refcount structure, L1 tables, snapshot table, bitmaps */
	/* what is swept (trees_sweep.c) */
	const struct counts *up, *down;
	unsigned sweep;
	struct marks ones;
	uint64_t peak, peak_at, first_free;
};

/* Looks at the image's fixed tables: ERR_CORRUPT where they overlap. trees_end also after a failure. */
int trees_begin(struct trees *t, struct layer *l, unsigned threads, struct progress *progress, struct error *e);
void trees_end(struct trees *t);
/* Reads the refcount table again, after clusters were allocated. */
int trees_reload(struct trees *t, struct error *e);
struct tree {
	const char *snapshot; /* its name; NULL: the active state */
	uint64_t l1_host;
	uint32_t l1_entries;
	struct counts *counts; /* the caller frees them, also after a failure */
};
/* How often each cluster is referred to from the tree, the L1's own clusters not counted. Any corruption in it is ERR_CORRUPT,
 * its first finding the message: also a table that is at the same time something else. */
int trees_collect(struct trees *t, const struct tree *tree, struct error *e);
/* The same of two trees; tables that both have are read once. */
int trees_collect_two(struct trees *t, const struct tree *a, const struct tree *b, struct error *e);

/* The two trees of a sweep: the first will be referred to once more, the second once less; what is in both stays as it is.
 * Either may be NULL. */
struct sweep_result {
	uint64_t peak;       /* the highest count that there will be among those that rise; 0: none does */
	uint64_t peak_at;    /* its cluster */
	uint64_t first_free; /* the first cluster with a count of 0 */
};
/* Nothing is written: ERR_CORRUPT when a count is below the references of both trees, which exist now. */
int trees_try(struct trees *t, const struct counts *up, const struct counts *down, struct sweep_result *out,
	struct error *e);
int trees_raise(struct trees *t, const struct counts *up, const struct counts *down, struct error *e);
/* Afterwards t->ones has the clusters with a count of 1. */
int trees_lower(struct trees *t, const struct counts *up, const struct counts *down, struct error *e);

/* What only `tree` refers to, and what others refer to as well. */
int trees_usage(struct trees *t, const struct counts *tree, struct snapshot_usage *out, struct error *e);

/* COPIED in all L2 tables below the L1: clear; or, `from_ones`, set exactly where t->ones is. The L1 is the caller's. */
int trees_copied(struct trees *t, uint64_t l1_host, uint32_t l1_entries, bool from_ones, struct error *e);

/* ---- for the files of trees ---- */

struct trees *trees_of(const struct check_job *j);
/* Notes that the job has changed [from, to) of the table or block at `host`, which begins at `at` of the window. */
int trees_note_write(struct check_job *j, uint64_t host, size_t at, size_t from, size_t to, struct error *e);
/* Writes what was noted, neighbours in one. */
int trees_write(struct check_job *j, struct error *e);
int marks_new(struct marks *m, uint64_t clusters, const char *what, struct error *e);

/* A block of counts of 16 bits (trees_sweep16.c). False: something in it needs a look at each, nothing was done. `ones`: a bit for
 * each, set where the count is 1 afterwards. */
enum { SWEEP_BLOCK = 64 };
bool sweep16_try(const uint8_t *stored, const uint8_t *up, const uint8_t *down, bool free_matters, uint64_t peak);
bool sweep16_raise(uint8_t *stored, const uint8_t *up, const uint8_t *down, bool *changed);
bool sweep16_lower(uint8_t *stored, const uint8_t *up, const uint8_t *down, uint8_t *ones, bool *changed);

#endif
