/* SPDX-License-Identifier: Apache-2.0
 *
 * check: collect what all tables refer to, compare with the refcounts stored, report one list of findings (FORMAT.md
 * §12.3). Text, JSON and (later) repair read the same list.
 */
#ifndef QSNAP_QCOW2_CHECK_H
#define QSNAP_QCOW2_CHECK_H

#include "qcow2/qcow2.h"

enum finding_kind {
	FINDING_LEAK,       /* stored > referenced */
	FINDING_CORRUPTION, /* anything that can harm data */
	FINDING_ERROR,      /* could not be looked at (read error) */
};
struct finding {
	enum finding_kind kind;
	uint64_t host;  /* host offset concerned, UINT64_MAX: none */
	uint64_t guest; /* guest offset concerned, UINT64_MAX: none */
	char text[200]; /* as one line of `check`'s report, in qemu-img's words where it has some */
};
struct check_result { /* qemu-img's numbers, FORMAT.md §12.3 */
	uint64_t image_end_offset, total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
	uint64_t corruptions, leaks, check_errors;
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

#endif
