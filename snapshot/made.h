/* SPDX-License-Identifier: Apache-2.0
 *
 * Files and folders of ours, each with a trace before it is there (snapshot/made.c, made_folder.c). A part of snapshot/internal.h.
 */
#ifndef QSNAP_SNAPSHOT_MADE_H
#define QSNAP_SNAPSHOT_MADE_H

#include "snapshot/internal.h"

struct made {
	struct vm *vm;
	unsigned trace;
};
/* The trace, and options for target_open or convert_run, which make the file; `m` stays where it is until then. */
int made_begin(struct made *m, struct vm *vm, const char *path, struct target_opts *opts, struct error *e);
/* The same, and the file. It gets its name by target_commit. With an `owner`, whose owner and mode it has, it is beside a disk for as long
 * as the command runs: it is not made durable. */
int made_open(struct made *m, struct vm *vm, const char *path, const struct io *owner, struct target **out,
	struct error *e);

/* A new file of ours, for nobody else to read: these bytes, and then what `from` (NULL: nothing) has behind its first `skip` ones. */
int made_with_head(struct vm *vm, const char *path, const void *bytes, size_t len, struct io *from, uint64_t skip,
	unsigned *trace, struct error *e);
/* The same of all that `from` has (NULL: nothing yet). */
int made_copy(struct vm *vm, const char *path, struct io *from, unsigned *trace, struct error *e);
/* The same of bytes in memory. */
int made_of_bytes(struct vm *vm, const char *path, const void *bytes, size_t len, unsigned *trace, struct error *e);
/* A second name for a file of ours, whole and durable. ERR_USAGE: `path` is there. */
int made_link(struct vm *vm, const char *from, const char *path, unsigned *trace, struct error *e);
/* Another name for a file or folder of ours, in the same file system, where nothing is yet; a trace of `kind` for it. */
int made_name(struct vm *vm, enum trace_kind kind, const char *from, const char *to, unsigned *trace, struct error *e);
/* A new folder that only its owner may enter: all in it is ours, and goes with it (snapshot/made_folder.c). */
int made_folder(struct vm *vm, const char *path, unsigned *trace, struct error *e);
int undo_folder(struct vm *vm, const struct trace *t, struct error *e);

#endif
