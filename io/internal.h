/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of io/ share.
 */
#ifndef QSNAP_IO_INTERNAL_H
#define QSNAP_IO_INTERNAL_H

#include "io/io.h"

#include <pthread.h>

enum {
	IO_CALL_MAX = 1 << 30, /* the kernel takes a little less than 2 GiB in one call */
	IO_PAGE = 4096,
};

/* Several threads may write: the size is read and raised atomically. */
uint64_t io_size_now(const struct io *io);
void io_size_grow(struct io *io, uint64_t end);
/* Writes zeros through ops->write. */
int io_write_zeros(struct io *io, uint64_t off, uint64_t len, struct error *e);

/* ---- files and block devices (io/file.c) ---- */

struct io_file {
	struct io io;
	int fd;
};

bool io_is_file(const struct io *io);
static inline struct io_file *io_file_of(struct io *io)
{
	return (struct io_file *)io;
}

#endif
