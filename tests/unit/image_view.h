/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: a second, slow and simple look at a finished qcow2 image in memory. It follows every pointer from the header,
 * counts what it meets, and compares with the refcounts and COPIED flags stored. Built on the codec of qcow2/format.h only.
 */
#ifndef QSNAP_TESTS_UNIT_IMAGE_VIEW_H
#define QSNAP_TESTS_UNIT_IMAGE_VIEW_H

#include "qcow2/format.h"

#include <check.h>

/* An assertion without ck_assert's bookkeeping, which is slow in loops over every entry. */
#define NEED(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			ck_abort_msg("%s", #condition);                                                                \
	} while (0)

struct image_view {
	const uint8_t *bytes;
	uint64_t size;
	struct header h;
	struct geometry g;
	uint64_t clusters; /* host clusters, the last one may be cut */
	uint64_t *found;   /* references met, for each of them */
	bool data_file, crashed;
	struct bitmaps_extension bitmaps;
	const char *backing; /* not terminated, h.backing_len */
};

/* Reads everything and checks it; fails the running test on anything wrong. */
void image_view_open(struct image_view *v, const uint8_t *bytes, uint64_t size);
/* The same for what a crash may leave (FORMAT.md §12.4): counts may be too high, COPIED may be missing, but only these. */
void image_view_open_crashed(struct image_view *v, const uint8_t *bytes, uint64_t size);
void image_view_close(struct image_view *v);
/* The entry of a guest offset under an L1 table; the type is UNALLOCATED where there is no L2 table. */
struct l2_entry image_view_entry(const struct image_view *v, uint64_t l1_offset, uint64_t l1_entries, uint64_t guest);
/* Snapshot `index` of the table. */
struct snapshot_entry image_view_snapshot(const struct image_view *v, unsigned index);
/* Bitmap `index` of the directory. */
struct bitmap_entry image_view_bitmap(const struct image_view *v, unsigned index);

#endif
