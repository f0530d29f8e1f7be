/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks handed from file to file by the kernel: shared (reflink) or copied. Both say "not possible here" for everything
 * that ordinary reading and writing can do instead.
 */
#include "io/internal.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool not_here(int sys_errno)
{
	switch (sys_errno) {
	case EOPNOTSUPP:
	case EXDEV:
	case EINVAL:
	case ENOTTY:
	case EBADF:
	case ENOSYS:
	case EPERM:
	case ETXTBSY:
		return true;
	default:
		return false;
	}
}

static bool both_files(const struct io *dst, const struct io *src)
{
	return io_is_file(dst) && io_is_file(src) && (dst->caps & IO_CAN_WRITE);
}

/* Growth beside writers, as in file_write. */
static int clone_call(struct io *dst, struct file_clone_range *range)
{
	struct io_file *f = io_file_of(dst);
	int rc;
	pthread_rwlock_rdlock(&f->growing);
	do
		rc = ioctl(f->fd, FICLONERANGE, range);
	while (rc < 0 && errno == EINTR);
	int why = errno;
	if (rc == 0)
		io_size_grow(dst, range->dest_offset + range->src_length);
	pthread_rwlock_unlock(&f->growing);
	errno = why;
	return rc;
}

static ssize_t copy_call(struct io *dst, off_t to, struct io *src, off_t from, uint64_t len)
{
	struct io_file *f = io_file_of(dst);
	ssize_t n;
	pthread_rwlock_rdlock(&f->growing);
	do
		n = copy_file_range(io_file_fd(src), &from, f->fd, &to, min_u64(len, IO_CALL_MAX), 0);
	while (n < 0 && errno == EINTR);
	int why = errno;
	if (n > 0)
		io_size_grow(dst, (uint64_t)to);
	pthread_rwlock_unlock(&f->growing);
	errno = why;
	return n;
}

int io_clone(struct io *dst, uint64_t dst_off, struct io *src, uint64_t src_off, uint64_t len, struct error *e)
{
	if (!(dst->caps & src->caps & IO_CAN_CLONE) || !both_files(dst, src))
		return 1;
	if (!len)
		return 0; /* the ioctl takes 0 for "to the end" */
	struct file_clone_range range = {
		.src_fd = io_file_fd(src), .src_offset = src_off, .src_length = len, .dest_offset = dst_off};
	if (clone_call(dst, &range) == 0)
		return 0;
	if (not_here(errno))
		return 1;
	return err_sys(e, errno, "%s: sharing %llu bytes of %s", dst->name, (unsigned long long)len, src->name);
}

int io_copy_range(struct io *dst, uint64_t dst_off, struct io *src, uint64_t src_off, uint64_t len, struct error *e)
{
	if (!both_files(dst, src))
		return 1;
	while (len) {
		ssize_t n = copy_call(dst, (off_t)dst_off, src, (off_t)src_off, len);
		/* Nothing copied: the source ends here, or the kernel does not know better. The caller will see. */
		if (n == 0 || (n < 0 && not_here(errno)))
			return 1;
		if (n < 0)
			return err_sys(e, errno, "%s: copying %llu bytes from %s", dst->name, (unsigned long long)len,
				src->name);
		dst_off += (uint64_t)n;
		src_off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}
