/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of making a domain of a bundle share.
 */
#ifndef QSNAP_SNAPSHOT_IMPORT_H
#define QSNAP_SNAPSHOT_IMPORT_H

#include "snapshot/bundle.h"

struct import {
	struct vm vm; /* of a domain that is not there yet */
	const struct vm_import *opts;
	struct vm_imported *out;
	struct bundle b;
	struct bundle_source source;
	char *to;    /* absolute */
	char *work;  /* a folder of ours in it */
	char *nvram; /* the domain's own; NULL: it brings none */
	bool begun;  /* the journal is of this import */
};
/* Where everything is to be, and that nothing is there yet; definitions say so then (snapshot/import_plan.c). */
int import_places(struct import *x, struct error *e);
/* ERR_LIMIT when what the manifest tells of is more than is free there. How far a compressed image unfolds nobody knows beforehand. */
int import_space(struct import *x, struct error *e);
int import_definitions(struct import *x, struct error *e);
/* How a file with a guest's memory, which has a definition inside, is to begin. */
int import_memory_head(struct import *x, const char *path, struct driver_head *out, struct error *e);
/* The catalog, in place of one of an earlier domain (snapshot/import_settle.c). */
int import_catalog(struct vm *vm, const struct vm_catalog *c, struct error *e);

#endif
