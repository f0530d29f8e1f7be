/* SPDX-License-Identifier: Apache-2.0
 *
 * How the verbs of `vm` that are about a domain's points print them.
 */
#ifndef QSNAP_CLI_VM_POINTS_H
#define QSNAP_CLI_VM_POINTS_H

#include "cli/vm.h"

/* "2026-11-28 03:00:00 +0000"; returns buf. */
const char *cli_vm_time(int64_t when, char buf[32]);
/* "cold", "instant (internal)", "unlisted" */
const char *cli_vm_how(const struct vm_point *p);
/* The snapshot since which images of this one have what changed; NULL: there are none. */
const char *cli_vm_since(const struct vm_point *p);
/* As a tree, one line each: below each other what was taken of the one above; a fork's branches are marked. Then those that are in
 * the disks alone (cli/vm_tree.c). */
int cli_vm_print_tree(const struct vm_catalog *c, struct error *e);
/* "domain", "uuid" and "current" of an object that was begun. */
void cli_vm_json_head(struct json *j, const struct driver_domain *d, const struct vm_catalog *c);
/* Where memory (NULL: none) and NVRAM are, members of an object that was begun. */
void cli_vm_json_memory(struct json *j, const char *memory, uint64_t bytes, const char *digest, const char *nvram,
	const char *nvram_digest);
/* Members of an object that was begun: what is the point's own, but for its disks. */
void cli_vm_json_point(struct json *j, const struct vm_catalog *c, const struct vm_point *p);

#endif
