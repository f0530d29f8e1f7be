/* SPDX-License-Identifier: Apache-2.0
 *
 * What `vm snapshot` made, on standard output.
 */
#ifndef QSNAP_CLI_VM_TAKEN_H
#define QSNAP_CLI_VM_TAKEN_H

#include "cli/vm_glance.h"
#include "cli/vm_points.h"

void cli_vm_taken_print(const struct vm_take *take, const struct driver_domain *d, const struct vm_taken *t);
void cli_vm_taken_json(const struct vm_take *take, const struct vm_glance *glance, const struct driver_domain *d,
	const struct vm_taken *t);

#endif
