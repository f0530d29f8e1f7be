/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of lib/ share: errors and structures on their way over the border.
 */
#ifndef QSNAP_LIB_INTERNAL_H
#define QSNAP_LIB_INTERNAL_H

#include "convert/convert.h"
#include "lib/qsnap.h"
#include "qcow2/edit.h"

struct qsnap_image {
	struct chain *chain;
	struct walk *walk; /* made when the first extent is asked for */
	struct io *io;     /* made when the first byte is read */
	bool top_only, writable;
	struct edited top; /* of a writable qcow2 image; its `ed` is NULL for a raw one */
	bool stale;        /* it changed since `walk` was made */
};

/* Fills *out, which may be NULL; returns -1. */
int lib_failed(struct qsnap_error *out, const struct error *e);
int lib_misused(struct qsnap_error *out, const char *what);
/* Copies a caller's structure that may be older, hence shorter, than ours: what it lacks is 0; or newer: what we do not know must
 * be 0. NULL: all is 0. */
int lib_take_options(void *ours, size_t our_size, const void *theirs, struct qsnap_error *out);
/* Gives a structure back to a caller whose one may be shorter, or longer: its rest is 0. */
int lib_give_info(void *theirs, const void *ours, size_t our_size, struct qsnap_error *out);
/* Makes the opened chain writable. */
int lib_begin_changes(struct qsnap_image *i, struct error *e);
/* All that was changed is in the file for who reads its tables there; what knows them from before is forgotten. */
int lib_settle(struct qsnap_image *i, struct error *e);
/* The index of the snapshot that is meant by a name or an id. */
int lib_find_snapshot(const struct qcow2 *q, const char *name, struct error *e);
/* The thread count of options: 0 one for each processor, -1 none. */
int lib_threads(int asked, unsigned *out, struct error *e);
/* What the options say, as chain_open takes it. *query belongs to *c. */
int lib_chain_options(const struct qsnap_open_options *o, struct chain_opts *c, struct snapshot_query *query,
	struct error *e);

#endif
