/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of `upload` share.
 */
#ifndef QSNAP_CLI_UPLOAD_H
#define QSNAP_CLI_UPLOAD_H

#include "cli/store.h"

struct upload_args {
	struct cli_store store;
	struct store_record record;
	struct cli_source source;
	struct cli_option_list list; /* what --compress means to the format */
	struct convert_opts convert;
	struct convert_source from;
	struct snapshot_query query;
	const char *image, *format, *compress;
	char *name;                        /* of the record, where the image's file gives it */
	struct store_property *properties; /* their keys are the caller's copies, values point into them */
};

/* --property KEY=VALUE; keys that are the record's own are refused. */
int upload_add_property(struct upload_args *a, const char *text, struct error *e);
void upload_free_properties(struct upload_args *a);

/* Standard input, as it comes (cli/upload_pipe.c). *virtual_size: of the disk in it. */
int upload_pipe(struct upload_args *a, struct io_stream *out, uint64_t *virtual_size, struct error *e);

#endif
