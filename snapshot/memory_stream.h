/* SPDX-License-Identifier: Apache-2.0
 *
 * A guest's memory on its way to a file of ours (snapshot/memory_stream.c).
 */
#ifndef QSNAP_SNAPSHOT_MEMORY_STREAM_H
#define QSNAP_SNAPSHOT_MEMORY_STREAM_H

#include "snapshot/internal.h"

struct memory_stream;
/* The hypervisor begins (memory_begin of driver.h, `still` as there); what it writes goes to `path`, a file that is there, by a thread of its own. */
int memory_stream_begin(struct memory_stream **out, struct driver *d, const char *uuid, bool still, const char *path,
	struct error *e);
/* Why it cannot be written any further; 0: it can, as far as is known. */
int memory_stream_error(const struct memory_stream *s, struct error *e);
/* When the hypervisor has written all: all is in the file. */
int memory_stream_wait(const struct memory_stream *s, const struct vm *vm, struct error *e);
void memory_stream_close(struct memory_stream *s); /* whatever it does; NULL is allowed */

#endif
