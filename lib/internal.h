/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of lib/ share: errors and structures on their way over the border.
 */
#ifndef QSNAP_LIB_INTERNAL_H
#define QSNAP_LIB_INTERNAL_H

#include "convert/convert.h"
#include "lib/qsnap.h"

struct qsnap_image {
	struct chain *chain;
	struct walk *walk; /* made when the first extent is asked for */
	struct io *io;     /* made when the first byte is read */
	bool top_only;
};

/* Fills *out, which may be NULL; returns -1. */
int lib_failed(struct qsnap_error *out, const struct error *e);
int lib_misused(struct qsnap_error *out, const char *what);
/* Copies a caller's structure that may be older, hence shorter, than ours: what it lacks is 0; or newer: what we do not know must
 * be 0. NULL: all is 0. */
int lib_take_options(void *ours, size_t our_size, const void *theirs, struct qsnap_error *out);
/* Gives a structure back to a caller whose one may be shorter, or longer: its rest is 0. */
int lib_give_info(void *theirs, const void *ours, size_t our_size, struct qsnap_error *out);
/* What the options say, as chain_open takes it. *query belongs to *c. */
int lib_chain_options(const struct qsnap_open_options *o, struct chain_opts *c, struct snapshot_query *query,
	struct error *e);

#endif
