/* SPDX-License-Identifier: Apache-2.0
 *
 * Append-only streams: a pipe or any other descriptor; and an io over a stream for those who write in ascending order.
 * After a failed append or a finish a stream takes nothing more.
 */
#include "io/internal.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

struct fd_stream {
	struct io_stream stream;
	int fd;
};

int io_stream_expect(struct io_stream *s, uint64_t len, struct error *e)
{
	return s->ops->expect ? s->ops->expect(s, len, e) : 0;
}

int io_stream_append(struct io_stream *s, const void *buf, size_t len, struct error *e)
{
	uint64_t end;
	if (add_overflows(s->pos, len, &end) || end > INT64_MAX)
		return err_set(e, ERR_LIMIT, "%s: more bytes than any file has", s->name);
	if (len && s->ops->append(s, buf, len, e) < 0)
		return -1;
	s->pos = end;
	return 0;
}

int io_stream_finish(struct io_stream *s, struct error *e)
{
	return s->ops->finish(s, e);
}

void io_stream_close(struct io_stream *s)
{
	if (s)
		s->ops->close(s);
}

static int write_all(struct fd_stream *f, const uint8_t *p, size_t len, struct error *e)
{
	const atomic_bool *cancel = f->stream.cancel;
	while (len) {
		if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
			return err_set(e, ERR_CANCELLED, "cancelled");
		ssize_t n = write(f->fd, p, min_u64(len, IO_CALL_MAX));
		if (n < 0 && errno == EAGAIN) {
			/* Somebody else made the descriptor non-blocking; it is shared with them, so it stays so. */
			poll(&(struct pollfd){.fd = f->fd, .events = POLLOUT}, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(e, n ? errno : ENOSPC, "%s: writing", f->stream.name);
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int fd_append(struct io_stream *s, const void *buf, size_t len, struct error *e)
{
	struct fd_stream *f = (struct fd_stream *)s;
	if (buf)
		return write_all(f, buf, len, e);
	for (size_t n; len; len -= n) {
		n = (size_t)min_u64(len, IO_ZERO_BLOCK);
		if (write_all(f, io_zero_block, n, e) < 0)
			return -1;
	}
	return 0;
}

static int fd_finish(struct io_stream *s, struct error *e)
{
	(void)s, (void)e; /* every byte has been handed to the kernel */
	return 0;
}

static void fd_close(struct io_stream *s)
{
	free(s->name);
	free(s);
}

static const struct io_stream_ops fd_ops = {.append = fd_append, .finish = fd_finish, .close = fd_close};

int io_stream_fd(struct io_stream **out, int fd, const char *name, struct error *e)
{
	AUTO_FREE struct fd_stream *f = mem_calloc(1, sizeof *f, "a stream", e);
	char *own_name = f ? mem_strdup(name, e) : NULL;
	if (!own_name)
		return -1;
	*f = (struct fd_stream){.stream = {.ops = &fd_ops, .name = own_name}, .fd = fd};
	*out = &STEAL(f)->stream;
	return 0;
}

/* ---- an io over a stream ---- */

struct stream_io {
	struct io io;
	struct io_stream *stream;
};

/* Zeros up to `off`; what was sent cannot be taken back. */
static int move_to(struct stream_io *s, uint64_t off, struct error *e)
{
	uint64_t pos = s->stream->pos;
	if (off < pos)
		return err_set(e, ERR_USAGE, "%s: a stream at %llu cannot go back to %llu", s->io.name,
			(unsigned long long)pos, (unsigned long long)off);
	return off > pos ? io_stream_append(s->stream, NULL, off - pos, e) : 0;
}

static int append_at(struct io *io, const void *buf, size_t len, uint64_t off, struct error *e)
{
	struct stream_io *s = (struct stream_io *)io;
	if (move_to(s, off, e) < 0 || io_stream_append(s->stream, buf, len, e) < 0)
		return -1;
	io_size_grow(io, s->stream->pos);
	return 0;
}

static int stream_read(struct io *io, void *buf, size_t len, uint64_t off, struct error *e)
{
	(void)buf, (void)len, (void)off;
	return err_set(e, ERR_UNSUPPORTED, "%s: a stream cannot be read back", io->name);
}

static int stream_zero(struct io *io, uint64_t off, uint64_t len, unsigned flags, struct error *e)
{
	(void)flags;
	return append_at(io, NULL, len, off, e);
}

static int stream_truncate(struct io *io, uint64_t size, struct error *e)
{
	return append_at(io, NULL, 0, size, e);
}

static void stream_io_close(struct io *io)
{
	free(io->name);
	free(io);
}

static const struct io_ops stream_io_ops = {
	.read = stream_read,
	.write = append_at,
	.zero = stream_zero,
	.truncate = stream_truncate,
	.close = stream_io_close,
};

int io_from_stream(struct io **out, struct io_stream *stream, struct error *e)
{
	AUTO_FREE struct stream_io *s = mem_calloc(1, sizeof *s, "a stream", e);
	char *name = s ? mem_strdup(stream->name, e) : NULL;
	if (!name)
		return -1;
	s->stream = stream;
	s->io = (struct io){.ops = &stream_io_ops, .size = stream->pos, .align = 1, .name = name};
	s->io.caps = IO_CAN_WRITE | IO_READS_ZERO;
	*out = &STEAL(s)->io;
	return 0;
}
