/* SPDX-License-Identifier: Apache-2.0
 *
 * Regular files and block devices as an io. Opening one never blocks and never follows into anything else (FIFO, socket,
 * character device). Reads and writes go on over short counts and interruptions.
 */
#include "io/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int file_read(struct io *io, void *buf, size_t len, uint64_t off, struct error *e)
{
	struct io_file *f = io_file_of(io);
	uint8_t *p = buf;
	while (len) {
		ssize_t n = pread(f->fd, p, min_u64(len, IO_CALL_MAX), (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "%s: reading %zu bytes at %llu", io->name, len,
				(unsigned long long)off);
		if (n == 0)
			return err_set(e, ERR_CHANGED, "%s: the file became shorter than %llu bytes while it was read",
				io->name, (unsigned long long)(off + len));
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int file_write(struct io *io, const void *buf, size_t len, uint64_t off, struct error *e)
{
	struct io_file *f = io_file_of(io);
	const uint8_t *p = buf;
	uint64_t end = off + len;
	while (len) {
		ssize_t n = pwrite(f->fd, p, min_u64(len, IO_CALL_MAX), (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(e, n ? errno : ENOSPC, "%s: writing %zu bytes at %llu", io->name, len,
				(unsigned long long)off);
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	io_size_grow(io, end);
	return 0;
}

static int file_flush(struct io *io, struct error *e)
{
	if (fdatasync(io_file_of(io)->fd) < 0)
		return err_sys(e, errno, "%s: flushing to disk", io->name);
	return 0;
}

static int file_truncate(struct io *io, uint64_t size, struct error *e)
{
	if (io->caps & IO_IS_DEVICE)
		return 0;
	if (ftruncate(io_file_of(io)->fd, (off_t)size) < 0)
		return err_sys(e, errno, "%s: setting its size to %llu", io->name, (unsigned long long)size);
	__atomic_store_n(&io->size, size, __ATOMIC_RELEASE);
	return 0;
}

static void file_close(struct io *io)
{
	close(io_file_of(io)->fd);
	free(io->name);
	free(io);
}

static const struct io_ops file_ops = {
	.read = file_read,
	.write = file_write,
	.flush = file_flush,
	.truncate = file_truncate,
	.close = file_close,
};

bool io_is_file(const struct io *io)
{
	return io->ops == &file_ops;
}

static int device_size(int fd, uint64_t *size, const char *name, struct error *e)
{
	if (ioctl(fd, BLKGETSIZE64, size) < 0)
		return err_sys(e, errno, "%s: asking for the device's size", name);
	return 0;
}

int io_file_from_fd(struct io **out, int fd, const char *name, unsigned flags, struct error *e)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "%s: asking what it is", name);
	if (!S_ISREG(st.st_mode) && (!S_ISBLK(st.st_mode) || (flags & IO_OPEN_REGULAR)))
		return err_set(e, ERR_UNSUPPORTED, "%s: not a regular file%s", name,
			flags & IO_OPEN_REGULAR ? "" : " or block device");
	AUTO_FREE struct io_file *f = mem_calloc(1, sizeof *f, "an open file", e);
	AUTO_FREE char *own_name = f ? mem_strdup(name, e) : NULL;
	if (!own_name)
		return -1;
	f->fd = fd;
	f->io = (struct io){.ops = &file_ops, .size = (uint64_t)st.st_size, .align = 1};
	if (flags & IO_OPEN_WRITE)
		f->io.caps |= IO_CAN_WRITE;
	if (S_ISBLK(st.st_mode)) {
		f->io.caps |= IO_IS_DEVICE;
		if (device_size(fd, &f->io.size, name, e) < 0)
			return -1;
	}
	f->io.name = STEAL(own_name);
	*out = &STEAL(f)->io;
	return 0;
}

int io_file_open(struct io **out, const char *path, unsigned flags, struct error *e)
{
	int mode = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (flags & IO_OPEN_WRITE ? O_RDWR : O_RDONLY);
	if (flags & IO_OPEN_NOFOLLOW)
		mode |= O_NOFOLLOW;
	if (flags & IO_OPEN_SYNC)
		mode |= O_DSYNC;
	int fd = open(path, mode);
	if (fd < 0)
		return err_sys(e, errno, "Could not open '%s'", path);
	if (io_file_from_fd(out, fd, path, flags, e) < 0) {
		close(fd);
		return -1;
	}
	return 0;
}

int io_file_fd(const struct io *io)
{
	return io_is_file(io) ? ((const struct io_file *)io)->fd : -1;
}

bool io_file_identity(const struct io *io, struct io_identity *id)
{
	struct stat st;
	if (!io_is_file(io) || fstat(io_file_fd(io), &st) < 0)
		return false;
	bool device = S_ISBLK(st.st_mode);
	*id = (struct io_identity){.dev = device ? st.st_rdev : st.st_dev, .ino = device ? 0 : st.st_ino};
	return true;
}

uint64_t io_file_allocated(const struct io *io)
{
	struct stat st;
	if (!io_is_file(io) || fstat(io_file_fd(io), &st) < 0)
		return 0;
	return (uint64_t)st.st_blocks * 512;
}
