/* SPDX-License-Identifier: Apache-2.0
 *
 * trim: space that a qcow2 file takes and nothing in it needs, given back to the file system (FORMAT.md §7.4, §12.3).
 */
#ifndef QSNAP_QCOW2_TRIM_H
#define QSNAP_QCOW2_TRIM_H

#include "qcow2/qcow2.h"

struct trim_result {        /* bytes; a leaked cluster can be in the first and in one of the others */
	uint64_t freed;     /* of clusters that nothing refers to and that were counted as in use */
	uint64_t punched;   /* given back by holes */
	uint64_t truncated; /* that the file is shorter now */
	bool cannot_punch;  /* the file system or device takes no parts of a file back */
};

/* `l`: opened for writing with QCOW2_OPEN_INSPECT, its lock held. All tables are walked first; ERR_CORRUPT, naming what was found, when
 * anything but leaks is wrong: nothing was changed then. Refcounts of an image marked as dirty are made right. What guests and
 * snapshots read and all bitmaps stay; a crash at any moment leaves leaks at worst. */
int qcow2_trim(struct layer *l, unsigned threads, struct progress *progress, struct trim_result *out, struct error *e);

#endif
