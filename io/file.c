/* SPDX-License-Identifier: Apache-2.0
 *
 * Regular files and block devices as an io. Opening one never blocks and never follows into anything else (FIFO, socket,
 * character device).
 */
#include "io/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static int file_flush(struct io *io, struct error *e)
{
	const struct io_file *f = io_file_of(io);
	if (!f->unsafe && fdatasync(f->fd) < 0)
		return err_sys(e, errno, "%s: flushing to disk", io->name);
	return 0;
}

static void file_close(struct io *io)
{
	struct io_file *f = io_file_of(io);
	if (f->direct_fd >= 0)
		close(f->direct_fd);
	file_fills_close(f->fills);
	close(f->fd);
	for (unsigned i = 0; i < IO_BOUNCES; i++)
		free(atomic_load(&f->bounce[i]));
	pthread_rwlock_destroy(&f->growing);
	free(io->name);
	free(f);
}

/* Another process may lengthen a file that is only read here (an image of a running guest). */
static void file_refresh(struct io *io)
{
	struct stat st;
	if (!(io->caps & (IO_CAN_WRITE | IO_IS_DEVICE)) && fstat(io_file_of(io)->fd, &st) == 0)
		io_size_grow(io, (uint64_t)st.st_size);
}

static const struct io_ops file_ops = {
	.read = file_read,
	.write = file_write,
	.zero = file_zero,
	.extent = file_extent,
	.refresh = file_refresh,
	.flush = file_flush,
	.truncate = file_truncate,
	.close = file_close,
};

bool io_means_folder(const char *path)
{
	const size_t len = strlen(path);
	struct stat st;

	return (len && path[len - 1] == '/') || (stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

bool io_is_file(const struct io *io)
{
	return io->ops == &file_ops;
}

/* What O_DIRECT asks for. False: it cannot be had here. */
static bool direct_alignment(int fd, uint32_t *memory, uint32_t *offset)
{
	*memory = *offset = IO_PAGE;
#ifdef STATX_DIOALIGN
	struct statx sx;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 && (sx.stx_mask & STATX_DIOALIGN)) {
		*memory = sx.stx_dio_mem_align;
		*offset = (uint32_t)max_u64(sx.stx_dio_offset_align, IO_PAGE);
	}
#endif
	return *memory && !(*memory & (*memory - 1)) && !(*offset & (*offset - 1)) && *offset <= IO_DIRECT_ALIGN_MAX;
}

/* A second description of the same file, this one with O_DIRECT. Without it everything still works, through the cache. */
static void open_direct(struct io_file *f)
{
	uint32_t memory, offset;
	int mode = fcntl(f->fd, F_GETFL);
	if (mode < 0 || !direct_alignment(f->fd, &memory, &offset))
		return;
	char path[40];
	snprintf(path, sizeof path, "/proc/self/fd/%d", f->fd);
	f->direct_fd = open(path, (mode & (O_ACCMODE | O_DSYNC)) | O_CLOEXEC | O_DIRECT);
	if (f->direct_fd < 0)
		return;
	f->io.caps |= IO_DIRECT;
	f->io.align = offset;
	f->memory_align = memory;
}

/* Whether a reflink is worth a try: not on the common file systems that are known to have none. */
static bool kind_may_clone(const struct statfs *fs)
{
	return fs->f_type != EXT4_SUPER_MAGIC && fs->f_type != TMPFS_MAGIC;
}

static bool may_clone(int fd)
{
	struct statfs fs;
	return fstatfs(fd, &fs) == 0 && kind_may_clone(&fs);
}

bool io_folder_may_clone(const char *path)
{
	struct statfs fs;
	return statfs(path, &fs) == 0 && kind_may_clone(&fs);
}

static int set_kind(struct io_file *f, const struct stat *st, unsigned flags, struct error *e)
{
	if (flags & IO_OPEN_WRITE)
		f->io.caps |= IO_CAN_WRITE | IO_CAN_PUNCH;
	if (S_ISREG(st->st_mode)) {
		f->io.size = (uint64_t)st->st_size;
		f->io.caps |= may_clone(f->fd) ? IO_CAN_CLONE : 0;
	} else {
		f->io.caps |= IO_IS_DEVICE;
		if (ioctl(f->fd, BLKGETSIZE64, &f->io.size) < 0)
			return err_sys(e, errno, "%s: asking for the device's size", f->io.name);
	}
	if (flags & IO_OPEN_DIRECT)
		open_direct(f);
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
	f->direct_fd = -1;
	f->unsafe = flags & IO_OPEN_UNSAFE;
	f->io = (struct io){.ops = &file_ops, .align = 1, .name = own_name};
	if (set_kind(f, &st, flags, e) < 0)
		return -1;
	/* A thread that wants to lengthen the file goes before those that only write. */
	pthread_rwlockattr_t attr;
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&f->growing, &attr);
	pthread_rwlockattr_destroy(&attr);
	own_name = NULL;
	*out = &STEAL(f)->io;
	return 0;
}

static int open_path(struct io **out, const char *path, int mode, unsigned flags, struct error *e)
{
	int fd = open(path, mode | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);

	if (fd < 0)
		return err_sys(e, errno, "Could not open '%s'", path);
	if (io_file_from_fd(out, fd, path, flags, e) < 0) {
		close(fd);
		return -1;
	}
	return 0;
}

int io_file_create(struct io **out, const char *path, struct error *e)
{
	return open_path(out, path, O_RDWR | O_CREAT | O_EXCL, IO_OPEN_WRITE, e);
}

int io_file_open(struct io **out, const char *path, unsigned flags, struct error *e)
{
	int mode = flags & IO_OPEN_WRITE ? O_RDWR : O_RDONLY;
	if (flags & IO_OPEN_NOFOLLOW)
		mode |= O_NOFOLLOW;
	if (flags & IO_OPEN_SYNC)
		mode |= O_DSYNC;
	return open_path(out, path, mode, flags, e);
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
