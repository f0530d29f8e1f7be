/* SPDX-License-Identifier: Apache-2.0
 *
 * Space in files: zeroing with and without holes, holes found, length, reservation. Each step has a fall-back, down to
 * writing zeros; what a file system refused once is not asked of it again.
 */
#include "io/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	SUBTRACT_MODE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	ZERO_MODE = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE
};

static int file_fallocate(struct io_file *f, int mode, uint64_t off, uint64_t len)
{
	int rc;
	do
		rc = fallocate(f->fd, mode, (off_t)off, (off_t)len);
	while (rc < 0 && errno == EINTR);
	return rc;
}

static bool means_cannot(int sys_errno)
{
	return sys_errno == EOPNOTSUPP || sys_errno == EINVAL || sys_errno == ENOSYS || sys_errno == ENODEV ||
	       sys_errno == EPERM || sys_errno == ENOTTY;
}

/* 0 done, 1 not possible in this way, -1 error. */
static int try_zero(struct io_file *f, int mode, atomic_bool *refused, uint64_t off, uint64_t len, struct error *e)
{
	if (atomic_load_explicit(refused, memory_order_relaxed))
		return 1;
	if (file_fallocate(f, mode, off, len) == 0)
		return 0;
	if (!means_cannot(errno))
		return err_sys(e, errno, "%s: zeroing %llu bytes at %llu", f->io.name, (unsigned long long)len,
			(unsigned long long)off);
	atomic_store_explicit(refused, true, memory_order_relaxed);
	return 1;
}

/* A range inside the file; on devices it is whole pages, since they know no smaller ones. */
static int zero_inside(struct io_file *f, uint64_t off, uint64_t len, unsigned flags, struct error *e)
{
	int rc = flags & IO_ZERO_UNMAP ? try_zero(f, SUBTRACT_MODE, &f->no_punch, off, len, e) : 1;
	if (rc > 0)
		rc = try_zero(f, ZERO_MODE, &f->no_zero_range, off, len, e);
	return rc > 0 ? io_write_zeros(&f->io, off, len, e) : rc;
}

static int zero_device(struct io_file *f, uint64_t off, uint64_t len, unsigned flags, struct error *e)
{
	uint64_t end = off + len, first = min_u64(align_up(off, IO_PAGE), end),
		 last = max_u64(first, align_down(end, IO_PAGE));
	if (first > off && io_write_zeros(&f->io, off, first - off, e) < 0)
		return -1;
	if (last > first && zero_inside(f, first, last - first, flags, e) < 0)
		return -1;
	return end > last ? io_write_zeros(&f->io, last, end - last, e) : 0;
}

/* Makes the file at least `end` long, while others may be writing, also beyond `end`: alone for a moment, and never
 * shortening. */
static int lengthen(struct io_file *f, uint64_t end, struct error *e)
{
	int rc = 0;
	pthread_rwlock_wrlock(&f->growing);
	if (io_size_now(&f->io) < end) {
		if (ftruncate(f->fd, (off_t)end) < 0)
			rc = err_sys(e, errno, "%s: setting its size to %llu", f->io.name, (unsigned long long)end);
		else
			io_size_grow(&f->io, end);
	}
	pthread_rwlock_unlock(&f->growing);
	return rc;
}

int file_zero(struct io *io, uint64_t off, uint64_t len, unsigned flags, struct error *e)
{
	struct io_file *f = io_file_of(io);
	if (io->caps & IO_IS_DEVICE)
		return zero_device(f, off, len, flags, e);
	uint64_t end = off + len, size = io_size_now(io);
	if (off < size && zero_inside(f, off, min_u64(end, size) - off, flags, e) < 0)
		return -1;
	return end > size ? lengthen(f, end, e) : 0;
}

int io_punch(struct io *io, uint64_t off, uint64_t len, struct error *e)
{
	if (!io_is_file(io))
		return io_zero(io, off, len, IO_ZERO_UNMAP, e);
	struct io_file *f = io_file_of(io);
	uint64_t end = min_u64(off + len, io_size_now(io));
	if (io->caps & IO_IS_DEVICE) {
		off = align_up(off, IO_PAGE);
		end = align_down(end, IO_PAGE);
	}
	return off < end ? try_zero(f, SUBTRACT_MODE, &f->no_punch, off, end - off, e) : 0;
}

int file_truncate(struct io *io, uint64_t size, struct error *e)
{
	struct io_file *f = io_file_of(io);
	if (io->caps & IO_IS_DEVICE)
		return 0; /* its size is what it is; io_truncate has seen that it suffices */
	if (size > io_size_now(io))
		return lengthen(f, size, e);
	if (ftruncate(f->fd, (off_t)size) < 0)
		return err_sys(e, errno, "%s: setting its size to %llu", io->name, (unsigned long long)size);
	__atomic_store_n(&io->size, size, __ATOMIC_RELEASE);
	return 0;
}

/* The data or hole around `off`, asked of the file system. Where it cannot say, all is data. */
static struct io_run find_run(struct io_file *f, uint64_t off, uint64_t size)
{
	off_t data = lseek(f->fd, (off_t)off, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return (struct io_run){.start = off, .end = size, .hole = true};
	if (data > (off_t)off)
		return (struct io_run){.start = off, .end = min_u64((uint64_t)data, size), .hole = true};
	off_t hole = data < 0 ? -1 : lseek(f->fd, (off_t)off, SEEK_HOLE);
	return (struct io_run){.start = off, .end = hole > (off_t)off ? min_u64((uint64_t)hole, size) : size};
}

int file_extent(struct io *io, uint64_t off, uint64_t len, struct extent *out, struct error *e)
{
	(void)e;
	struct io_file *f = io_file_of(io);
	/* A walk in small steps would ask twice for each; the last answer serves it, unless this very io writes. */
	if (io->caps & IO_IS_DEVICE)
		f->run = (struct io_run){.start = 0, .end = io->size};
	else if (off < f->run.start || off >= f->run.end || (io->caps & IO_CAN_WRITE))
		f->run = find_run(f, off, io_size_now(io));
	out->len = min_u64(len, f->run.end - off);
	out->kind = f->run.hole ? EXTENT_ZERO : EXTENT_DATA;
	out->has_host = true;
	out->host = off;
	out->file = io;
	return 0;
}

int io_file_reserve(struct io *io, uint64_t off, uint64_t len, struct error *e)
{
	if (!io_is_file(io) || (io->caps & IO_IS_DEVICE) || !len)
		return io_zero(io, off, len, 0, e);
	struct io_file *f = io_file_of(io);
	if (file_fallocate(f, 0, off, len) == 0) {
		io_size_grow(io, off + len);
		return 0;
	}
	if (means_cannot(errno))
		return io_write_zeros(io, off, len, e);
	return err_sys(e, errno, "%s: reserving %llu bytes", io->name, (unsigned long long)len);
}

void io_file_push(struct io *io, uint64_t off, uint64_t len)
{
	if (io_is_file(io) && !(io->caps & IO_DIRECT))
		(void)sync_file_range(io_file_of(io)->fd, (off_t)off, (off_t)len, SYNC_FILE_RANGE_WRITE);
}
