/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of `check` share (FORMAT.md §12.3): reference counts, events, jobs.
 *
 * How it works: tables are read and scanned by a pool of threads, a job for each window of tables. A job only notes events: "these
 * clusters are referred to", "this entry is wrong". The thread that called qcow2_check takes the jobs back in order and applies
 * their events, so counts need no locks and findings come in the order of the tables, whatever the number of threads.
 */
#ifndef QSNAP_QCOW2_CHECK_INTERNAL_H
#define QSNAP_QCOW2_CHECK_INTERNAL_H

#include "qcow2/check.h"

enum {
	CHECK_WINDOW_BYTES = 256 << 10, /* of tables in one job, or one table if that is larger */
	CHECK_JOB_TABLES = CHECK_WINDOW_BYTES >> QCOW2_MIN_CLUSTER_BITS,
};

/* ---- reference counts of host clusters (qcow2/check_counts.c) ---- */

enum { COUNTS_PAGE = 4096 /* clusters */, BIG_COUNT = 255 };

/* One byte a cluster, in pages made when first touched; 255 means that the count is in `big`. */
struct counts {
	uint64_t clusters; /* the file's; one more when something refers to the tail of an odd end */
	uint64_t room;     /* clusters that may be counted */
	uint64_t max;      /* where a count stops: what the image's refcounts can hold */
	uint8_t **pages;
	uint64_t pages_left; /* how many more may be made */
	uint8_t **slabs;     /* what pages are cut from; the last one is not used up yet */
	size_t slab_count, slab_bytes, slab_used;
	struct big_count {
		uint64_t cluster, count;
	} * big;
	size_t big_used, big_room;
};

int counts_init(struct counts *c, uint64_t clusters, uint64_t max, uint64_t bytes_limit, struct error *e);
void counts_free(struct counts *c);
uint64_t counts_get(const struct counts *c, uint64_t cluster);
/* One more for each of `n` clusters from `first`, which lie within `room`, up to the first that is at `max` already: *done tells
 * how many were counted. *shared becomes true when a count went above one. */
int counts_add(struct counts *c, uint64_t first, uint64_t n, uint64_t *done, bool *shared, struct error *e);
/* The counts of the page that `cluster` is in, BIG_COUNT standing for all from 255 on; NULL: all are zero. */
static inline uint8_t *counts_page(const struct counts *c, uint64_t cluster)
{
	return c->pages[cluster / COUNTS_PAGE];
}
/* True when all of `n` counts from `first` are one; false as well when some lie outside. */
bool counts_all_one(const struct counts *c, uint64_t first, uint64_t n);
/* *to becomes the same. Free it also after a failure. */
int counts_copy(struct counts *to, const struct counts *from, struct error *e);
/* Makes `room` larger. */
int counts_grow(struct counts *c, uint64_t room, struct error *e);
/* One less for a cluster whose count is not 0. */
void counts_drop(struct counts *c, uint64_t cluster);
/* The last cluster with a count + 1; 0: there is none. */
uint64_t counts_end(const struct counts *c);
/* The first of `n` neighbours without a count, from `from` on and within `limit`; NOWHERE: there are none. */
uint64_t counts_find_free(const struct counts *c, uint64_t from, uint64_t n, uint64_t limit);

/* ---- events and findings (qcow2/check_report.c) ---- */

/* What a job notes: a finding (enum finding_code; what the three numbers are is in the text), or one of these. */
enum event_code {
	EVENT_TABLE = FINDING_CODES, /* from now on entries of the L2 table of L1 entry `a`, the job's table `b` */
	EVENT_L2_TABLE,              /* the table lies at `a`: a reference */
	EVENT_CLUSTERS,   /* `b` host clusters from offset `a` are referred to, an offset that may be unaligned */
	EVENT_COMPRESSED, /* `b` bytes at `a` are referred to */
	EVENT_WRITE,      /* `b` bytes that belong at `a` were changed, at `entry` of the window */
	EVENT_COMPARE,    /* cluster `a` has the stored refcount `b`, which seems not to be the number of references */
};
struct event {
	uint64_t a, b;
	uint32_t entry; /* index in the table of the last EVENT_TABLE */
	uint32_t code;
};

#define NOWHERE UINT64_MAX

struct check;
struct place {
	uint64_t host, guest; /* NOWHERE: none */
};
/* Counts the finding and tells whoever listens. The numbers are those of the text. */
void check_found(struct check *c, uint32_t code, struct place at, uint64_t x, uint64_t y, uint64_t z);
/* The same for what has been, or will surely be, put right. */
void check_fixed(struct check *c, uint32_t code, struct place at, uint64_t x, uint64_t y, uint64_t z);
/* For the few findings with words of their own. */
void check_found_text(struct check *c, enum finding_code code, struct place at, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* ---- jobs (qcow2/check_job.c) ---- */

struct job_table { /* one L1 entry that is not 0 */
	uint32_t l1_index;
	bool read; /* the table lies in the file */
	uint64_t raw;
};
struct stored_cache { /* a piece of a refcount block */
	bool valid;
	uint64_t host;
	uint8_t bytes[512];
};
struct check_job {
	struct check *check;
	int (*work)(struct check_job *j, struct error *e);   /* any thread; touches only the job */
	int (*commit)(struct check_job *j, struct error *e); /* the caller's thread, in order */
	uint8_t *window;
	struct event *events;
	size_t event_count, event_room;
	struct job_table tables[CHECK_JOB_TABLES]; /* walking L1 and L2 */
	uint32_t table_count;
	bool active;         /* the active state, not a snapshot */
	uint64_t first, end; /* comparing: clusters */
	/* results */
	uint64_t allocated, fragmented, compressed;
	uint64_t highest;       /* comparing: the last cluster with a stored refcount + 1, 0: none */
	uint64_t peak, peak_at; /* sweeping: the highest count that comes out, and its cluster */
	struct stored_cache stored;
	bool not_copied; /* an entry without COPIED that has a host cluster */
	bool failed;
	struct error error;
};

/* An idle job, emptied; when all are under way the oldest is committed first. NULL: failed. */
struct check_job *job_next(struct check *c, struct error *e);
void job_submit(struct check_job *j);
/* Works on the job and commits it, on this thread; no other may be under way. */
int job_do(struct check_job *j, struct error *e);
/* Commits all that is under way. */
int jobs_drain(struct check *c, struct error *e);
/* Jobs for the refcounts of clusters [0, clusters), as many as a window holds each; in whole pages of counts, so that no two jobs touch
 * one. */
int jobs_over_counts(struct check *c, uint64_t clusters, int (*work)(struct check_job *, struct error *),
	int (*commit_job)(struct check_job *, struct error *), struct error *e);
int job_note(struct check_job *j, uint32_t code, uint64_t a, uint64_t b, uint32_t entry, struct error *e);

/* ---- what a repair remembers (qcow2/repair*.c, FORMAT.md §12.5) ---- */

struct repair {
	enum repair_mode mode;
	struct qcow2 *q;
	bool rebuild;    /* the refcount structure cannot be made right where it is */
	bool overflow;   /* some cluster has more references than its refcount can hold */
	bool copied;     /* COPIED bits may be put right */
	uint64_t broken; /* corruptions found that a rebuild does away with */
	uint64_t beyond; /* the lowest cluster behind the file that is referred to: it must not grow over that */
	struct area {    /* clusters of tables that no entry of another may be written into, sorted */
		uint64_t first, end;
	} * fixed;
	size_t fixed_count;
	struct { /* the sector of the active L1 that entries are changed in */
		uint64_t host;
		bool dirty;
		uint8_t bytes[512];
	} l1;
};

/* ---- the check itself ---- */

/* Another L1 beside the one that is walked: the walk goes only where both lead to the same table, or only where they do not. */
struct l1_beside {
	enum { BESIDE_NONE, BESIDE_SAME, BESIDE_DIFFERENT } go;
	uint64_t host;
	uint32_t entries;
};

enum compare_stage {
	COMPARE,      /* report; counts become the stored ones */
	COMPARE_LOOK, /* report; counts stay */
	COMPARE_FIX,  /* put right what may be, report; counts become the stored ones */
};

struct check {
	const struct qcow2 *q;
	struct io *file;
	const struct geometry *g;
	const struct check_opts *opts;
	struct check_result *out;
	bool data_file;
	uint64_t file_bytes;
	uint64_t real_bytes; /* of them with blocks behind, as far as known */
	uint64_t budget;     /* bytes of tables other than L2 tables that may still be read */
	uint64_t aliases;    /* bytes of tables that may still be walked once more for the same state */
	uint32_t walks;      /* states walked: no honest L2 table has more references */
	struct counts counts;
	struct l1_beside beside;
	uint8_t *l1_chunks; /* of check_l1 */
	uint64_t *reftable; /* host byte order */
	uint64_t reftable_entries;
	uint64_t highest; /* last cluster in use or with a refcount, + 1 */
	bool shared;      /* some cluster has more than one reference */
	bool not_copied;
	struct pool *pool;
	struct check_job *jobs;
	unsigned job_count, job_at;
	uint64_t progress_done, progress_total;
	struct repair *repair; /* NULL: nothing is written */
	enum compare_stage stage;
};

/* Counts, jobs and threads for a look at `l`; opts and out stay the caller's. check_end also after a failure. */
int check_begin(struct check *c, struct layer *l, const struct check_opts *opts, struct check_result *out,
	struct error *e);
void check_end(struct check *c);
/* Empty counts for the file's clusters, as check_begin makes them. */
int check_counts_begin(const struct check *c, struct counts *counts, struct error *e);
/* Counts a reference to `bytes` bytes at `host` (qcow2/check.c): what lies too far beyond the end is a finding instead. */
int check_refer(struct check *c, uint64_t host, uint64_t bytes, uint64_t guest, struct error *e);
/* Takes `bytes` from `budget` or `aliases`. */
int check_spend(struct check *c, uint64_t *budget, uint64_t bytes, const char *what, struct error *e);

/* One L1 and all below it: references and the state of each entry (qcow2/check_walk.c). */
int check_walk(struct check *c, uint64_t l1_host, uint32_t l1_entries, bool active, struct error *e);
/* The same without the clusters of the L1 itself. */
int check_tree(struct check *c, uint64_t l1_host, uint32_t l1_entries, bool active, struct error *e);
/* The COPIED bits of the active state against the stored refcounts (qcow2/check_copied.c). */
int check_copied(struct check *c, struct error *e);
/* Feeds an L1 to `work` and `commit`, window by window. */
int check_l1(struct check *c, uint64_t l1_host, uint32_t l1_entries, bool active,
	int (*work)(struct check_job *, struct error *), int (*commit)(struct check_job *, struct error *),
	struct error *e);
/* Reads the job's tables, neighbours at once; table i is at window + i * cluster_size. What cannot be read is noted. */
int job_read_tables(struct check_job *j, struct error *e);
/* Events of one L2 table (qcow2/check_entry.c). */
int check_scan_table(struct check_job *j, const uint8_t *table, struct error *e);
/* How many entries from `i` on continue the run that entry `i` begins: each the next host cluster with the same flags. */
uint32_t check_run_length(const struct geometry *g, const uint8_t *table, uint32_t i);
/* The first entry from `i` on that is not 0. */
uint32_t check_skip_zeros(const struct geometry *g, const uint8_t *table, uint32_t i);

/* Refcount table and blocks: read, counted as clusters in use (qcow2/check_refcounts.c). */
int check_reftable_load(struct check *c, struct error *e);
int check_refblocks(struct check *c, struct error *e);
/* Where the table says that the block with the cluster's refcount is; 0: nowhere. */
uint64_t check_refblock_of(const struct check *c, uint64_t cluster);
/* All stored refcounts against the counts (qcow2/check_compare.c). */
int check_compare(struct check *c, struct error *e);
/* The refcount stored for any cluster, one at a time: 0 found, -1 unknown since the block is unaligned or unreadable. */
int check_stored(struct check *c, struct stored_cache *cache, uint64_t cluster, uint64_t *count);

/* All references of the image (qcow2/check.c). */
int check_collect(struct check *c, struct error *e);
/* Whether check_refer would count them, all. */
bool check_in_file(const struct check *c, uint64_t host, uint64_t bytes);
/* How many of the bytes a repair counts: all, or those before the end of the file. */
uint64_t check_part_in_file(const struct check *c, uint64_t host, uint64_t bytes);
/* Findings about the snapshot table itself. */
void check_snapshot_table(struct check *c);

/* ---- steps of a repair ---- */

static inline bool repair_is(const struct check *c, enum repair_mode mode)
{
	return c->repair && c->repair->mode == mode;
}
/* Changes the L2 entry at `host` to (entry & keep) | set. 1 done, 0 not allowed: there is another table (qcow2/repair_entry.c). */
enum { REPAIR_WAS_RIGHT = 2 }; /* done before, by another way to the same table */
int repair_entry(struct check *c, uint64_t host, uint64_t keep, uint64_t set, struct error *e);
/* Whether the L2 table at `host` may be written to: it lies in the file and no other kind of table does there. */
bool repair_table_allowed(const struct check *c, uint64_t host);
/* Writes the sectors of [from, to) of it. */
int repair_table(struct check *c, uint64_t host, const uint8_t *bytes, size_t from, size_t to, struct error *e);
/* Whether the L1 table may be written to; one entry of it; the last of them. */
bool repair_l1_allowed(const struct check *c);
int repair_l1_put(struct check *c, uint64_t index, uint64_t raw, struct error *e);
int repair_l1_flush(struct check *c, struct error *e);
/* Collects the areas of all tables but L2 tables. */
int repair_fix_areas(struct check *c, struct error *e);
/* New refcount table and blocks from the counts, elsewhere; then the header leads to them (qcow2/repair_rebuild.c). */
int repair_rebuild(struct check *c, struct error *e);
/* Writes the counts of [first, end) into the refcount blocks that there are. */
int repair_store_counts(struct check *c, uint64_t first, uint64_t end, struct error *e);
/* A place for `n` clusters, none of which is in use. */
int repair_find_room(const struct check *c, uint64_t n, uint64_t *first, struct error *e);
/* Before all else: leaves out the snapshots that are too many. At the end: a new snapshot table, if one of its entries needs it
 * (qcow2/repair_snapshots.c). */
int repair_snapshot_count(struct check *c, struct error *e);
int repair_snapshot_table(struct check *c, struct error *e);

#endif
