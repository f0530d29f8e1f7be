/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole blocks of a new file on tmpfs, each in one huge page. A write of 2 MiB asks the kernel for 512 pages one by one, with the
 * file's lock held: that costs more than the copy. MADV_COLLAPSE (Linux 6.1) makes a huge page in one step, also where the
 * mount has none by itself, and without that lock; so all threads may write at once. A page is touched only after
 * MADV_POPULATE_WRITE said that it is there (a full file system then is an answer, not a SIGBUS), and nobody else knows the file.
 */
#include "io/internal.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Where free memory is in small pieces, or cold (given back to the host of a virtual machine), a huge page may cost more than
 * plain writing, which takes what small and warm pieces there are. After a slow one there is a pause, each longer. */
enum { SLOW_NS = 1000000, FIRST_PAUSE = 4, LONGEST_PAUSE = 256 };

static int64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

bool file_takes_blocks(const struct io *io)
{
	struct statfs fs;
	return !(io->caps & IO_DIRECT) && fstatfs(io_file_fd(io), &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

bool io_block_due(struct io *io)
{
	if (!(io->caps & IO_BLOCKS))
		return false;
	struct io_file *f = io_file_of(io);
	unsigned rest = atomic_load_explicit(&f->block_rest, memory_order_relaxed);
	if (rest)
		atomic_compare_exchange_strong(&f->block_rest, &rest, rest - 1);
	return !rest;
}

void io_block_judge(struct io *io, bool good)
{
	struct io_file *f = io_file_of(io);
	unsigned pause = (unsigned)max_u64(atomic_load(&f->block_pause), FIRST_PAUSE);
	if (!good)
		atomic_store(&f->block_rest, pause);
	atomic_store(&f->block_pause, good ? pause / 2 : (unsigned)min_u64(pause * 2, LONGEST_PAUSE));
}

/* The range in one huge page at `at`, which is a multiple of its size; what is to become one must have a page to begin with. */
static bool map_block(struct io_file *f, void *at, uint64_t off)
{
	return pwrite(f->fd, io_zero_block, IO_PAGE, (off_t)off) == IO_PAGE &&
	       mmap(at, IO_BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, f->fd, (off_t)off) == at &&
	       madvise(at, IO_BLOCK, MADV_COLLAPSE) == 0 && madvise(at, IO_BLOCK, MADV_POPULATE_WRITE) == 0;
}

bool io_block_map(struct io *io, struct io_block *b, uint64_t off)
{
	if (!(io->caps & IO_BLOCKS) || off % IO_BLOCK || off + IO_BLOCK > io_size_now(io))
		return false;
	int64_t start = cpu_ns();
	uint8_t *room = mmap(NULL, 2 * IO_BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return false;
	*b = (struct io_block){.room = room, .bytes = room + (-(uintptr_t)room & (IO_BLOCK - 1))};
	bool done = map_block(io_file_of(io), b->bytes, off);
	if (!done) {
		struct error ignored; /* whoever writes there will meet it again */
		io_block_unmap(b);
		file_zero(io, off, IO_BLOCK, IO_ZERO_UNMAP, &ignored);
	}
	io_block_judge(io, done && cpu_ns() - start < SLOW_NS);
	return done;
}

void io_block_unmap(struct io_block *b)
{
	munmap(b->room, 2 * IO_BLOCK);
}
