/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm snapshot --to glance:[NAME]`: each disk's image goes straight into the image service, as one record; all of them or none.
 */
#ifndef QSNAP_CLI_VM_GLANCE_H
#define QSNAP_CLI_VM_GLANCE_H

#include "cli/store.h"
#include "cli/vm.h"

struct vm_glance_disk {
	struct store_upload *upload;
	struct store_image image; /* when it is verified */
	char *name;
	struct store_property *properties;
	unsigned property_count;
};
struct vm_glance {
	struct cli_vm *vm;
	struct store_opts opts; /* as the options say */
	const char *to;         /* of --to; NULL or another place: not used */
	const char *format;     /* of the images */

	struct store *store;
	struct vm_sink sink;
	struct vm_glance_disk *disks; /* those that were begun */
	unsigned disk_count, failed;
	bool looked_at_base;
	unsigned min_ram; /* MiB, of the base */
};

/* Whether --to means the image service. */
bool vm_glance_wanted(const char *to);
/* Opens the service: before anything is done to a guest. Then `sink` is for vm_take. */
int vm_glance_begin(struct vm_glance *g, struct error *e);
/* The record of a disk, when all went well. */
const struct store_image *vm_glance_image(const struct vm_glance *g, unsigned disk);
/* Not `keep`: what was uploaded is deleted again. */
void vm_glance_end(struct vm_glance *g, bool keep);

#endif
