/* SPDX-License-Identifier: Apache-2.0
 *
 * check: collect what all tables refer to, compare with the refcounts stored, repair (FORMAT.md §12.3, §12.5). All three
 * speak of one list of findings, which text and JSON are made from.
 */
#ifndef QSNAP_QCOW2_CHECK_H
#define QSNAP_QCOW2_CHECK_H

#include "qcow2/qcow2.h"

enum finding_kind {
	FINDING_LEAK,       /* stored > referenced */
	FINDING_CORRUPTION, /* anything that can harm data */
	FINDING_ERROR,      /* could not be looked at (read error) */
	FINDING_NOTE,       /* what a repair does; not counted */
};
enum finding_code { /* in the words of check_report.c */
	FOUND_L1_RESERVED,
	FOUND_L1_UNALIGNED,
	FOUND_L2_RESERVED,
	FOUND_COMPRESSED_COPIED,
	FOUND_COMPRESSED_DATA_FILE,
	FOUND_COMPRESSED_BITMAP,
	FOUND_BITMAP_BOTH,
	FOUND_BITMAP_UNALLOCATED,
	FOUND_PREALLOCATED_UNALIGNED,
	FOUND_DATA_UNALIGNED,
	FOUND_BEYOND_END,
	FOUND_OVERFLOW,
	FOUND_SNAPSHOTS_DATA_FILE,
	FOUND_SNAPSHOT_INCOMPLETE,
	FOUND_SNAPSHOT_L1_UNALIGNED,
	FOUND_SNAPSHOT_L1_TOO_LARGE,
	FOUND_SNAPSHOTS_TOO_MANY,
	FOUND_SNAPSHOTS_TOO_BIG,
	FOUND_SNAPSHOT_EXTRA,
	FOUND_REFTABLE_UNUSABLE,
	FOUND_REFTABLE_RESERVED,
	FOUND_REFBLOCK_UNALIGNED,
	FOUND_REFBLOCK_OUTSIDE,
	FOUND_REFBLOCK_SHARED,
	FOUND_BITMAP_TABLE_ENTRY,
	FOUND_NO_REFCOUNT,
	FOUND_LEAK,
	FOUND_TOO_LOW,
	FOUND_L1_COPIED,
	FOUND_L2_COPIED,
	FOUND_UNREADABLE,
	NOTE_REBUILDING,
	NOTE_REBUILD_NEEDED,
	FINDING_CODES,
};
struct finding {
	enum finding_code code;
	enum finding_kind kind;
	bool repaired;  /* put right already */
	uint64_t host;  /* host offset concerned, UINT64_MAX: none */
	uint64_t guest; /* guest offset concerned, UINT64_MAX: none */
	char text[200]; /* as one line of `check`'s report, in qemu-img's words where it has some */
};
struct check_result { /* qemu-img's numbers, FORMAT.md §12.3 */
	uint64_t image_end_offset, total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
	uint64_t corruptions, leaks, check_errors;
	uint64_t corruptions_fixed, leaks_fixed; /* not in those above */
};
struct check_opts {
	unsigned threads; /* 0: serial */
	struct progress *progress;
	/* Called for each finding in a stable order (same for any number of threads), on the caller's thread. NULL: only counted. */
	void (*found)(void *ctx, const struct finding *f);
	void *ctx;
};
/* The image itself (no backing file). -1 only when the check could not be done at all. */
int qcow2_check(struct layer *l, const struct check_opts *opts, struct check_result *out, struct error *e);

enum repair_mode {
	REPAIR_LEAKS, /* refcounts that are too high; COPIED when nothing else is wrong */
	REPAIR_ALL,   /* all that can be without guessing */
};
/* Checks and puts right what `mode` allows, FORMAT.md §12.5. The layer's file must be writable and locked for writing; with
 * QCOW2_OPEN_REPAIR also images that no reader takes come here. Never changes what guest data read as. A crash at any moment,
 * or -1, leaves an image that is no worse and can be repaired again. What is left in `out` is not repaired; where anything was
 * fixed, a second check should follow. The dirty and corrupt bits are cleared when nothing is left. l->q follows all changes. */
int qcow2_repair(struct layer *l, enum repair_mode mode, const struct check_opts *opts, struct check_result *out,
	struct error *e);

#endif
