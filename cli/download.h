/* SPDX-License-Identifier: Apache-2.0
 *
 * What `download` and `download --chain` share.
 */
#ifndef QSNAP_CLI_DOWNLOAD_H
#define QSNAP_CLI_DOWNLOAD_H

#include "cli/store.h"

struct download_args {
	struct cli_store store;
	const char *image, *file, *format, *spool_dir;
	bool chain;
	unsigned threads;
	int stream_fd; /* "-" */
};

/* The image's bytes, verified, into a new file; long runs of zeros stay holes. */
int download_fetch(struct download_args *a, const struct store_image *image, struct io *io, struct error *e);
/* What was fetched becomes a->file, or goes to a->stream_fd. */
int download_convert(struct download_args *a, const char *path, const struct chain_opts *open, enum image_format to,
	struct error *e);

/* ---- an increment, and all below it (cli/download_chain.c) ---- */

enum { DOWNLOAD_CHAIN_MAX = 200 }; /* images; no longer chain can be opened */
struct download_chain {
	struct store_image
		images[DOWNLOAD_CHAIN_MAX]; /* [0] is the one that was asked for, the last one the full base */
	unsigned count;
	bool folder; /* each got a file in the folder a->file */
};
/* Of a->image, whose record is looked up: one image, or a file for each. Free with download_chain_free, also after a failure. */
int download_chain(struct download_args *a, struct download_chain *c, struct error *e);
void download_chain_free(struct download_chain *c);
/* "FOLDER/0.qcow2": the base's; the caller's. */
char *download_chain_name(const struct download_args *a, const struct download_chain *c, unsigned image,
	struct error *e);

#endif
