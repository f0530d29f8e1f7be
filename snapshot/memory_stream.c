/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory of a guest that runs, into a file of ours: the hypervisor writes to a pipe, and a thread from there to the file. When
 * this process ends, the pipe breaks, and the guest goes on without.
 */
#include "snapshot/memory_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20, LOOK_MS = 100, END_MS = 60000 };

struct memory_stream {
	struct io *file;
	int fd;      /* to read from; the thread's, which closes it */
	uint64_t at; /* in the file */
	struct pool *thread;
	atomic_bool stop, ended;
	struct error why; /* once it has ended; code ERR_OK: at the stream's end */
	uint8_t buffer[BUFFER_BYTES];
};

/* ---- the thread ---- */

/* 1 bytes are there, or the end; 0 it is to stop; -1. */
static int wait_for_bytes(struct memory_stream *s, struct error *e)
{
	struct pollfd p = {.fd = s->fd, .events = POLLIN};

	while (!atomic_load(&s->stop)) {
		int there = poll(&p, 1, LOOK_MS);

		if (there > 0)
			return 1;
		if (there < 0 && errno != EINTR)
			return err_sys(e, errno, "the guest's memory");
	}
	return 0;
}

/* 1 more may come, 0 the end, -1. */
static int move(struct memory_stream *s, struct error *e)
{
	int there = wait_for_bytes(s, e);

	if (there <= 0)
		return there;
	ssize_t n = read(s->fd, s->buffer, sizeof s->buffer);

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 1 : err_sys(e, errno, "the guest's memory");
	if (n > 0 && io_write(s->file, s->buffer, (size_t)n, s->at, e))
		return -1;
	s->at += (uint64_t)n;
	return n > 0;
}

static void pump(void *job, unsigned worker)
{
	struct memory_stream *s = job;

	(void)worker;
	while (move(s, &s->why) > 0)
		continue;
	atomic_store(&s->ended, true); /* before the hypervisor can know */
	close(s->fd);
}

/* ---- its owner ---- */

static int make_pipe(int fds[2], struct error *e)
{
	if (pipe2(fds, O_CLOEXEC))
		return err_sys(e, errno, "a pipe for the guest's memory");
	(void)fcntl(fds[0], F_SETPIPE_SZ, BUFFER_BYTES); /* faster, where it is allowed */
	return 0;
}

/* The hypervisor has the other end of the pipe from then on. */
static int fill_head(struct memory_stream *s, struct driver *d, const char *uuid, bool still, int fd, struct error *e)
{
	struct driver_head head = {0};
	int failed = d->ops->memory_begin(d, uuid, fd, still, &head, e) ||
		     (head.len && io_write(s->file, head.bytes, head.len, 0, e));

	s->at = head.len;
	free(head.bytes);
	return failed ? -1 : 0;
}

static int start(struct memory_stream *s, struct driver *d, const char *uuid, bool still, struct error *e)
{
	int fds[2];

	if (make_pipe(fds, e))
		return -1;
	s->fd = fds[0];
	int failed = fill_head(s, d, uuid, still, fds[1], e);

	close(fds[1]);
	if (failed)
		close(s->fd);
	else
		pool_submit(s->thread, s);
	return failed;
}

int memory_stream_begin(struct memory_stream **out, struct driver *d, const char *uuid, bool still, const char *path,
	struct error *e)
{
	AUTO_FREE struct memory_stream *s = mem_calloc(1, sizeof *s, "a buffer for the guest's memory", e);

	*out = NULL;
	if (!s || io_file_open(&s->file, path, IO_OPEN_WRITE, e))
		return -1;
	if (pool_new(&s->thread, 1, 1, pump, e) || start(s, d, uuid, still, e)) {
		pool_free(s->thread);
		io_close(s->file);
		return -1;
	}
	*out = STEAL(s);
	return 0;
}

int memory_stream_error(const struct memory_stream *s, struct error *e)
{
	if (!atomic_load(&s->ended) || s->why.code == ERR_OK)
		return 0;
	*e = s->why;
	return -1;
}

int memory_stream_wait(const struct memory_stream *s, const struct vm *vm, struct error *e)
{
	for (unsigned waited = 0; !atomic_load(&s->ended); waited += LOOK_MS / 10) {
		if (waited >= END_MS)
			return err_set(e, ERR_IO, "the hypervisor does not close the guest's memory");
		vm_sleep(vm, LOOK_MS / 10);
	}
	return memory_stream_error(s, e);
}

void memory_stream_close(struct memory_stream *s)
{
	if (!s)
		return;
	atomic_store(&s->stop, true);
	pool_free(s->thread);
	io_close(s->file);
	free(s);
}
