/* SPDX-License-Identifier: Apache-2.0
 *
 * The border of every io: ranges are checked here once, what lies past the end is settled here (FORMAT.md §5.6), so that an
 * implementation's read only sees ranges that are wholly inside.
 */
#include "io/internal.h"

uint64_t io_size_now(const struct io *io)
{
	return __atomic_load_n(&io->size, __ATOMIC_ACQUIRE);
}

void io_size_grow(struct io *io, uint64_t end)
{
	uint64_t size = io_size_now(io);
	while (size < end &&
		!__atomic_compare_exchange_n(&io->size, &size, end, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
	}
}

/* Offsets are off_t in the end: nothing may reach beyond INT64_MAX. */
static int check_range(const struct io *io, uint64_t off, uint64_t len, struct error *e)
{
	uint64_t end;
	if (add_overflows(off, len, &end) || end > INT64_MAX)
		return err_set(e, ERR_LIMIT, "%s: the range 0x%llx+0x%llx is beyond any file", io->name,
			(unsigned long long)off, (unsigned long long)len);
	return 0;
}

static int check_writable(const struct io *io, uint64_t off, uint64_t len, struct error *e)
{
	if (!(io->caps & IO_CAN_WRITE))
		return err_set(e, ERR_USAGE, "%s: not opened for writing", io->name);
	if (check_range(io, off, len, e) < 0)
		return -1;
	if ((io->caps & IO_IS_DEVICE) && off + len > io->size)
		return err_set(e, ERR_IO, "%s: the device has %llu bytes, a write needs %llu", io->name,
			(unsigned long long)io->size, (unsigned long long)(off + len));
	return 0;
}

/* The size; looked up anew when a read reaches beyond what is known. */
static uint64_t size_for(struct io *io, uint64_t end)
{
	uint64_t size = io_size_now(io);
	if (end <= size || !io->ops->refresh)
		return size;
	io->ops->refresh(io);
	return io_size_now(io);
}

int io_read(struct io *io, void *buf, size_t len, uint64_t off, struct error *e)
{
	if (check_range(io, off, len, e) < 0)
		return -1;
	uint64_t size = size_for(io, off + len);
	size_t inside = off >= size ? 0 : (size_t)min_u64(len, size - off);
	if (inside < len)
		memset((uint8_t *)buf + inside, 0, len - inside);
	return inside ? io->ops->read(io, buf, inside, off, e) : 0;
}

int io_read_exact(struct io *io, void *buf, size_t len, uint64_t off, const char *what, struct error *e)
{
	if (check_range(io, off, len, e) < 0)
		return err_prefix(e, "%s", what);
	uint64_t size = size_for(io, off + len);
	if (off + len > size)
		return err_set(e, ERR_CORRUPT, "%s at 0x%llx with %zu bytes lies past the end of %s (%llu bytes)", what,
			(unsigned long long)off, len, io->name, (unsigned long long)size);
	return len ? io->ops->read(io, buf, len, off, e) : 0;
}

int io_write(struct io *io, const void *buf, size_t len, uint64_t off, struct error *e)
{
	if (check_writable(io, off, len, e) < 0)
		return -1;
	return len ? io->ops->write(io, buf, len, off, e) : 0;
}

const uint8_t io_zero_block[IO_ZERO_BLOCK] __attribute__((aligned(IO_PAGE)));

/* For kinds that know nothing better, and for the ranges that a file system refuses to zero. */
int io_write_zeros(struct io *io, uint64_t off, uint64_t len, struct error *e)
{
	while (len) {
		size_t n = (size_t)min_u64(len, IO_ZERO_BLOCK);
		if (io->ops->write(io, io_zero_block, n, off, e) < 0)
			return -1;
		off += n;
		len -= n;
	}
	return 0;
}

int io_zero(struct io *io, uint64_t off, uint64_t len, unsigned flags, struct error *e)
{
	if (check_writable(io, off, len, e) < 0)
		return -1;
	if (!len)
		return 0;
	return io->ops->zero ? io->ops->zero(io, off, len, flags, e) : io_write_zeros(io, off, len, e);
}

int io_extent(struct io *io, uint64_t off, uint64_t len, struct extent *out, struct error *e)
{
	if (check_range(io, off, len, e) < 0)
		return -1;
	uint64_t size = io_size_now(io);
	*out = (struct extent){.start = off, .len = len, .kind = EXTENT_ABSENT};
	if (off >= size)
		return 0;
	out->len = min_u64(len, size - off);
	if (io->ops->extent)
		return io->ops->extent(io, off, out->len, out, e);
	out->kind = EXTENT_DATA;
	out->has_host = true;
	out->host = off;
	out->file = io;
	return 0;
}

int io_flush(struct io *io, struct error *e)
{
	return io->ops->flush ? io->ops->flush(io, e) : 0;
}

int io_truncate(struct io *io, uint64_t size, struct error *e)
{
	if (check_writable(io, size, 0, e) < 0)
		return -1;
	if (!io->ops->truncate)
		return err_set(e, ERR_UNSUPPORTED, "%s: its size cannot change", io->name);
	return io->ops->truncate(io, size, e);
}

void io_close(struct io *io)
{
	if (io)
		io->ops->close(io);
}

void cleanup_io(struct io **io)
{
	io_close(*io);
}
