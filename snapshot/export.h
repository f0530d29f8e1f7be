/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of making a bundle share.
 */
#ifndef QSNAP_SNAPSHOT_EXPORT_H
#define QSNAP_SNAPSHOT_EXPORT_H

#include "snapshot/bundle.h"

struct export
{
	struct vm *vm;
	const struct vm_export *opts;
	struct vm_exported *out;
	struct driver_domain domain;
	struct bundle b;
	char *folder;  /* while it is made */
	unsigned *ids; /* traces of what becomes the user's */
	unsigned id_count;
};

/* That trace is dropped when the bundle is whole. */
int export_keep(struct export *x, unsigned trace, struct error *e);
/* All files of the bundle's points, in the folder and in the bundle (snapshot/export_files.c). */
int export_files(struct export *x, struct error *e);
/* What the catalog tells of the bundle, which is at `to` (snapshot/export_account.c). */
void export_account(struct export *x, const char *to);

#endif
