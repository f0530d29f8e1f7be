/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: a folder of one's own that goes away, and files in it.
 */
#ifndef QSNAP_TESTS_UNIT_SCRATCH_H
#define QSNAP_TESTS_UNIT_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

/* Where tests may write: a disk's file system, and a tmpfs (which has no O_DIRECT alignment, no ZERO_RANGE). */
enum { SCRATCH_DISK, SCRATCH_TMPFS, SCRATCH_KINDS };

/* Enters a new folder; false when this kind is not to be had here. scratch_leave removes it with all that is in it. */
bool scratch_enter(int kind);
void scratch_leave(void);
/* Writes a file in the current folder. */
void scratch_file(const char *name, const void *bytes, size_t len);
/* The file's bytes (caller frees) and length. */
char *scratch_read(const char *name, size_t *len);
/* How many names the current folder has. */
unsigned scratch_count(void);

#endif
