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
/* Never written to, so it costs one shared page only. */
enum { IO_ZERO_BLOCK = 1 << 16 };
extern const uint8_t io_zero_block[IO_ZERO_BLOCK];

/* ---- files and block devices ---- */

enum {
	IO_BOUNCES = 4,
	IO_DIRECT_ALIGN_MAX = 65536,
};

struct io_run {
	uint64_t start, end;
	bool hole;
};

struct io_file {
	struct io io;
	int fd;
	int direct_fd; /* the same file with O_DIRECT, or -1 */
	bool unsafe;   /* IO_OPEN_UNSAFE */
	uint32_t memory_align;
	pthread_rwlock_t growing;           /* shared by writers, held alone by ftruncate */
	_Atomic(void *) bounce[IO_BOUNCES]; /* kept for the next who needs one */
	atomic_bool no_punch, no_zero_range;
	struct file_fills *fills; /* not NULL when IO_FILLS */
	struct io_run run;        /* the last answer to `extent` */
};

bool io_is_file(const struct io *io);
static inline struct io_file *io_file_of(struct io *io)
{
	return (struct io_file *)io;
}

/* io/file_rw.c */
int file_read(struct io *io, void *buf, size_t len, uint64_t off, struct error *e);
int file_write(struct io *io, const void *buf, size_t len, uint64_t off, struct error *e);

/* io/file_fill.c */
struct file_fills;
void file_fills_open(struct io *io);
void file_fills_close(struct file_fills *fills);
/* Pages that nobody wrote yet, inside the file: how many bytes from the first on are there now; the rest is to be written. */
size_t file_fill(struct io_file *f, const void *bytes, size_t len, uint64_t off);

/* io/file_space.c */
int file_zero(struct io *io, uint64_t off, uint64_t len, unsigned flags, struct error *e);
int file_extent(struct io *io, uint64_t off, uint64_t len, struct extent *out, struct error *e);
int file_truncate(struct io *io, uint64_t size, struct error *e);

/* ---- files without a name yet (io/temporary.c) ---- */

struct temporary {
	int fd, dir_fd; /* fd: the caller's once opened; dir_fd: borrowed */
	char name[256]; /* "" while it has none */
};

/* Opens a new file in `dir_fd`; `mode` meets the umask. -1 with errno. */
int temporary_open(struct temporary *t, int dir_fd, const char *near_name, int flags, unsigned mode);
/* Gives it its name in its folder. Without `replace`, an existing name is EEXIST. -1 with errno. */
int temporary_name(struct temporary *t, const char *name, bool replace);
/* Takes the hidden name away, if there is one. */
void temporary_forget(struct temporary *t);

#endif
