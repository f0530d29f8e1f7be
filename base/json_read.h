/* SPDX-License-Identifier: Apache-2.0
 *
 * jansson, for reading JSON and for small objects. base.h has a json_string of its own, for writing; jansson's is not needed.
 */
#ifndef QSNAP_JSON_READ_H
#define QSNAP_JSON_READ_H

#include "base/base.h"

#define json_string jansson_string
#include <jansson.h>
#undef json_string

static inline void cleanup_json(json_t **j)
{
	json_decref(*j);
}
#define AUTO_JSON __attribute__((cleanup(cleanup_json)))

#endif
