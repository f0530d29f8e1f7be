/* SPDX-License-Identifier: Apache-2.0
 *
 * What taking, going back to and deleting an internal snapshot share: looking at the trees before the first write, and the
 * snapshot table, which is always written anew elsewhere and switched to by one write of the header (FORMAT.md §12.4).
 */
#ifndef QSNAP_QCOW2_SNAPSHOT_EDIT_H
#define QSNAP_QCOW2_SNAPSHOT_EDIT_H

#include "qcow2/edit_internal.h"
#include "qcow2/trees.h"

/* One operation. */
struct snapshot_edit {
	struct edit *ed;
	struct trees trees;
	struct counts up, down; /* the trees that are referred to once more, once less */
	/* The new snapshot table, and where it will be; 0: nowhere, for there will be no snapshots. */
	uint8_t *table;
	size_t table_bytes;
	uint32_t count;
	uint64_t table_host;
	uint64_t l1_host; /* a new L1 table; 0: none */
	uint64_t l1_clusters;
};

/* Nothing is left in memory of the editor, the file's fixed tables are known. Refuses images that have no snapshots by their
 * nature. snapshot_edit_end also after a failure. */
int snapshot_edit_begin(struct snapshot_edit *s, struct edit *ed, unsigned threads, struct error *e);
void snapshot_edit_end(struct snapshot_edit *s);
/* ERR_USAGE unless there is a snapshot `index`; its L1 table is sound. */
int snapshot_edit_index(struct edit *ed, uint32_t index, struct error *e);
/* New clusters with an L1 table of `room` entries, of which the first `entries` are those of the table at `from` without COPIED. */
int snapshot_edit_copy_l1(struct snapshot_edit *s, uint64_t from, uint32_t entries, uint32_t room, struct error *e);
/* Refcounts of all new clusters are on disk, nothing is in memory. */
int snapshot_edit_settle(struct snapshot_edit *s, struct error *e);
/* New clusters that nothing leads to are given back, after a failure before the switch. */
void snapshot_edit_undo(struct snapshot_edit *s);
/* trees_try of both trees. 1, and ERR_LIMIT in `e`: a count would not fit. What is free is known afterwards. */
int snapshot_edit_try(struct snapshot_edit *s, struct sweep_result *r, struct error *e);
/* After a 1 of it, with nothing open: makes refcounts wide enough for `peak`, so that the operation can be tried again; or ERR_LIMIT
 * with what would do, unless `widen`. */
int snapshot_edit_widen(struct edit *ed, uint64_t peak, bool widen, struct error *e);
/* Ends an operation that did its work: what was given up is counted, and the editor starts from what the file has now. */
int snapshot_edit_finish(struct snapshot_edit *s, struct error *e);
/* Marks entries [0, n) of the active L1 for the next commit where COPIED is not what `ones` says (NULL: clear). */
void snapshot_edit_l1_copied(struct edit *ed, const struct marks *ones, uint32_t n);

/* ---- the table (qcow2/snapshot_table.c) ---- */

/* The bytes of the table as it is, without entry `skip` (NOWHERE: all), with `add` behind (NULL: nothing). ERR_LIMIT when that
 * would be too much. */
int snapshot_table_make(struct snapshot_edit *s, uint64_t skip, const struct snapshot_entry *add, struct error *e);
/* The same with a new snapshot of the active state, whose L1 table is at `l1_host`. */
int snapshot_table_add(struct snapshot_edit *s, const struct snapshot_new *n, uint64_t l1_host, uint32_t l1_entries,
	struct error *e);
/* Takes clusters for it and writes it. */
int snapshot_table_place(struct snapshot_edit *s, struct error *e);
/* Makes it the table: list, header, and the clusters of the old one are given up. `h`: the header as it shall be but for the
 * table. *switched: the header may be the new one, whatever is returned. */
int snapshot_table_switch(struct snapshot_edit *s, const struct header *h, bool *switched, struct error *e);
/* Whether a snapshot can have these: ERR_LIMIT, ERR_USAGE. */
int snapshot_check_names(const struct edit *ed, const struct snapshot_new *n, struct error *e);

#endif
