/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: the driver of the machine of tests/unit/scripted_world.h. Each call is a step, at which what the world's script
 * says happens. While the machine runs, the driver holds QEMU's locks on its files.
 */
#ifndef QSNAP_TESTS_UNIT_SCRIPTED_DRIVER_H
#define QSNAP_TESTS_UNIT_SCRIPTED_DRIVER_H

#include "tests/unit/scripted_world.h"

struct driver *scripted_driver_new(struct world *w);

#endif
