/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading and writing files: on over short counts and interruptions. A file opened with O_DIRECT has two descriptors.
 * Whole pages go through the direct one, from and to aligned memory (else by way of a bounce buffer). What is left of a
 * write at its two ends goes through the plain one: a page then belongs either to direct writes or to the page cache, never
 * to both at once, so that writers of neighbouring ranges do not disturb each other.
 */
#include "io/internal.h"

#include <errno.h>
#include <unistd.h>

enum { BOUNCE_BYTES = 1 << 20 };

static void *bounce_take(struct io_file *f, struct error *e)
{
	for (unsigned i = 0; i < IO_BOUNCES; i++) {
		void *p = atomic_exchange(&f->bounce[i], NULL);
		if (p)
			return p;
	}
	return mem_alloc_pages(BOUNCE_BYTES, "an I/O buffer", e);
}

static void bounce_give(struct io_file *f, void *p)
{
	for (unsigned i = 0; i < IO_BOUNCES; i++) {
		void *none = NULL;
		if (atomic_compare_exchange_strong(&f->bounce[i], &none, p))
			return;
	}
	free(p);
}

/* Reads at least `need` of `want` bytes. What O_DIRECT refuses or leaves over (the odd end of a file) is read plainly. */
static int read_fully(struct io_file *f, int fd, uint8_t *p, size_t want, size_t need, uint64_t off, struct error *e)
{
	size_t done = 0;
	while (done < need) {
		ssize_t n = pread(fd, p + done, min_u64(want - done, IO_CALL_MAX), (off_t)(off + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && fd != f->fd) {
			fd = f->fd;
			continue;
		}
		if (n < 0)
			return err_sys(e, errno, "%s: reading %zu bytes at %llu", f->io.name, need - done,
				(unsigned long long)(off + done));
		if (n == 0)
			return err_set(e, ERR_CHANGED, "%s: the file became shorter than %llu bytes while it was read",
				f->io.name, (unsigned long long)(off + need));
		done += (size_t)n;
		if (done < need && n & (IO_PAGE - 1))
			fd = f->fd;
	}
	return 0;
}

static int write_fully(struct io_file *f, int fd, const uint8_t *p, size_t len, uint64_t off, struct error *e)
{
	while (len) {
		ssize_t n = pwrite(fd, p, min_u64(len, IO_CALL_MAX), (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && fd != f->fd) {
			fd = f->fd;
			continue;
		}
		if (n <= 0)
			return err_sys(e, n ? errno : ENOSPC, "%s: writing %zu bytes at %llu", f->io.name, len,
				(unsigned long long)off);
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
		if (n & (IO_PAGE - 1))
			fd = f->fd;
	}
	return 0;
}

static bool memory_fits(const struct io_file *f, const uint8_t *p)
{
	return ((uintptr_t)p & (f->memory_align - 1)) == 0;
}

/* How much of the range the next step takes when it goes through a bounce buffer: up to the page border if the memory
 * fits from there on. */
static size_t bounce_len(const struct io_file *f, const uint8_t *p, size_t len, uint64_t off)
{
	size_t inside = (size_t)(off & (f->io.align - 1));
	size_t to_border = f->io.align - inside;
	if (len > to_border && inside && memory_fits(f, p + to_border))
		return to_border;
	return (size_t)min_u64(len, BOUNCE_BYTES - inside);
}

static int read_direct(struct io_file *f, uint8_t *p, size_t len, uint64_t off, struct error *e)
{
	void *bounce = NULL;
	int rc = 0;
	while (len && !rc) {
		size_t inside = (size_t)(off & (f->io.align - 1));
		size_t n = (size_t)align_down(len, f->io.align);
		if (!inside && n && memory_fits(f, p)) {
			rc = read_fully(f, f->direct_fd, p, n, n, off, e);
		} else if (!bounce && !(bounce = bounce_take(f, e))) {
			return -1;
		} else {
			n = bounce_len(f, p, len, off);
			rc = read_fully(f, f->direct_fd, bounce, (size_t)align_up(inside + n, f->io.align), inside + n,
				off - inside, e);
			if (!rc)
				memcpy(p, (uint8_t *)bounce + inside, n);
		}
		p += n;
		off += n;
		len -= n;
	}
	if (bounce)
		bounce_give(f, bounce);
	return rc;
}

static int write_bounced(struct io_file *f, const uint8_t *p, size_t len, uint64_t off, struct error *e)
{
	void *bounce = bounce_take(f, e);
	if (!bounce)
		return -1;
	int rc = 0;
	while (len && !rc) {
		size_t n = (size_t)min_u64(len, BOUNCE_BYTES);
		memcpy(bounce, p, n);
		rc = write_fully(f, f->direct_fd, bounce, n, off, e);
		p += n;
		off += n;
		len -= n;
	}
	bounce_give(f, bounce);
	return rc;
}

static int write_direct(struct io_file *f, const uint8_t *p, size_t len, uint64_t off, struct error *e)
{
	size_t head = (size_t)min_u64(len, align_up(off, f->io.align) - off);
	size_t body = (size_t)align_down(len - head, f->io.align);
	size_t tail = len - head - body;
	if (head && write_fully(f, f->fd, p, head, off, e) < 0)
		return -1;
	if (body && memory_fits(f, p + head) && write_fully(f, f->direct_fd, p + head, body, off + head, e) < 0)
		return -1;
	if (body && !memory_fits(f, p + head) && write_bounced(f, p + head, body, off + head, e) < 0)
		return -1;
	return tail ? write_fully(f, f->fd, p + head + body, tail, off + head + body, e) : 0;
}

int file_read(struct io *io, void *buf, size_t len, uint64_t off, struct error *e)
{
	struct io_file *f = io_file_of(io);
	if (f->direct_fd >= 0)
		return read_direct(f, buf, len, off, e);
	return read_fully(f, f->fd, buf, len, len, off, e);
}

int file_write(struct io *io, const void *buf, size_t len, uint64_t off, struct error *e)
{
	struct io_file *f = io_file_of(io);
	/* Shared by all writers; whoever lengthens the file by ftruncate must be alone (io/file_space.c). */
	pthread_rwlock_rdlock(&f->growing);
	size_t done = 0;
	for (size_t n = 1; f->fills && n; done += n)
		n = file_fill(f, (const uint8_t *)buf + done, len - done, off + done);
	const uint8_t *rest = (const uint8_t *)buf + done;
	int rc = f->direct_fd >= 0 ? write_direct(f, buf, len, off, e)
				   : write_fully(f, f->fd, rest, len - done, off + done, e);
	if (!rc)
		io_size_grow(io, off + len);
	pthread_rwlock_unlock(&f->growing);
	return rc;
}
