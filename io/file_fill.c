/* SPDX-License-Identifier: Apache-2.0
 *
 * New pages of a file on tmpfs from several threads at once. A write holds the file's lock while the kernel finds each page, which
 * takes longer than the copy; UFFDIO_COPY gives a mapped file pages with their bytes in them, and needs no such lock. The
 * mapping is never read or written by anybody: a fault for each page would cost more than all that it saves.
 */
#include "io/internal.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

/* Unmapping stops all threads for a moment, so a window is large; what lies in one counts as resident. */
enum { WINDOWS = 4, WINDOW = 8 << 20, FILL_MIN = 32 << 10 };

struct window {
	uint8_t *at; /* NULL: none */
	uint64_t off;
	unsigned users;
};

struct file_fills {
	int fd; /* a userfaultfd */
	pthread_mutex_t lock;
	struct window windows[WINDOWS];
};

/* Without privileges since Linux 5.11; a container may forbid it. Plain writes do the same. */
void file_fills_open(struct io *io)
{
	struct io_file *f = io_file_of(io);
	struct statfs fs;
	if (io->caps & IO_DIRECT || fstatfs(f->fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		return;
	struct uffdio_api api = {.api = UFFD_API};
	struct file_fills *fills = calloc(1, sizeof *fills);
	if (!fills)
		return;
	fills->fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (fills->fd < 0 || ioctl(fills->fd, UFFDIO_API, &api) < 0) {
		if (fills->fd >= 0)
			close(fills->fd);
		free(fills);
		return;
	}
	pthread_mutex_init(&fills->lock, NULL);
	f->fills = fills;
	io->caps |= IO_FILLS;
}

void file_fills_close(struct file_fills *fills)
{
	if (!fills)
		return;
	for (unsigned i = 0; i < WINDOWS; i++)
		if (fills->windows[i].at)
			munmap(fills->windows[i].at, WINDOW);
	close(fills->fd);
	pthread_mutex_destroy(&fills->lock);
	free(fills);
}

static bool map_window(const struct io_file *f, struct window *w, uint64_t off)
{
	if (w->at)
		munmap(w->at, WINDOW);
	*w = (struct window){.off = off};
	uint8_t *at = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, (off_t)off);
	if (at == MAP_FAILED)
		return false;
	struct uffdio_register where = {.range = {(uintptr_t)at, WINDOW}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	if (ioctl(f->fills->fd, UFFDIO_REGISTER, &where) < 0) {
		munmap(at, WINDOW);
		return false;
	}
	w->at = at;
	return true;
}

/* The window at `off`, else the one to be moved there: a new one, or the one farthest behind. NULL: all are in use. */
static struct window *find_window(struct file_fills *fills, uint64_t off)
{
	struct window *spare = NULL;
	for (unsigned i = 0; i < WINDOWS; i++) {
		struct window *w = &fills->windows[i];
		if (w->at && w->off == off)
			return w;
		if (!w->users && (!spare || (spare->at && (!w->at || w->off < spare->off))))
			spare = w;
	}
	return spare;
}

static struct window *take_window(const struct io_file *f, uint64_t off)
{
	struct file_fills *fills = f->fills;
	pthread_mutex_lock(&fills->lock);
	struct window *w = find_window(fills, off);
	if (w && !(w->at && w->off == off) && !map_window(f, w, off))
		w = NULL;
	if (w)
		w->users++;
	pthread_mutex_unlock(&fills->lock);
	return w;
}

static void give_window(struct file_fills *fills, struct window *w)
{
	pthread_mutex_lock(&fills->lock);
	w->users--;
	pthread_mutex_unlock(&fills->lock);
}

size_t file_fill(struct io_file *f, const void *bytes, size_t len, uint64_t off)
{
	uint64_t size = io_size_now(&f->io), in_window = off % WINDOW;
	if (off % IO_PAGE || off >= size)
		return 0;
	len = (size_t)align_down(min_u64(len, min_u64(size - off, WINDOW - in_window)), IO_PAGE);
	struct window *w = len < FILL_MIN ? NULL : take_window(f, off - in_window);
	if (!w)
		return 0;
	struct uffdio_copy copy = {.dst = (uintptr_t)w->at + in_window, .src = (uintptr_t)bytes, .len = len};
	(void)ioctl(f->fills->fd, UFFDIO_COPY, &copy); /* ends early at a page that is there, and where no memory is */
	give_window(f->fills, w);
	return copy.copy > 0 ? (size_t)copy.copy : 0;
}
