/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes in memory as an io, for tests and small things; and the io that keeps nothing but its size. Writers may come from
 * several threads: growing moves the bytes, so it excludes everybody else.
 */
#include "io/internal.h"

struct io_memory {
	struct io io;
	pthread_rwlock_t lock; /* held for writing while `bytes` may move */
	uint8_t *bytes;
	uint64_t room;
};

/* Makes the area `size` long; new bytes are zero. The caller holds the lock for writing. */
static int resize(struct io_memory *m, uint64_t size, struct error *e)
{
	if (size > m->room) {
		uint64_t room = max_u64(size, min_u64(m->room * 2, (uint64_t)1 << 40));
		uint8_t *bytes = realloc(m->bytes, room);
		if (!bytes)
			return err_set(e, ERR_NO_MEMORY, "%s: no memory for %llu bytes", m->io.name,
				(unsigned long long)room);
		m->bytes = bytes;
		m->room = room;
	}
	uint64_t old = io_size_now(&m->io);
	if (size > old)
		memset(m->bytes + old, 0, size - old);
	__atomic_store_n(&m->io.size, size, __ATOMIC_RELEASE);
	return 0;
}

static int grow(struct io_memory *m, uint64_t end, struct error *e)
{
	if (end <= io_size_now(&m->io))
		return 0;
	pthread_rwlock_wrlock(&m->lock);
	int rc = end > m->io.size ? resize(m, end, e) : 0;
	pthread_rwlock_unlock(&m->lock);
	return rc;
}

static int memory_read(struct io *io, void *buf, size_t len, uint64_t off, struct error *e)
{
	(void)e;
	struct io_memory *m = (struct io_memory *)io;
	pthread_rwlock_rdlock(&m->lock);
	memcpy(buf, m->bytes + off, len);
	pthread_rwlock_unlock(&m->lock);
	return 0;
}

static int memory_write(struct io *io, const void *buf, size_t len, uint64_t off, struct error *e)
{
	struct io_memory *m = (struct io_memory *)io;
	if (grow(m, off + len, e) < 0)
		return -1;
	pthread_rwlock_rdlock(&m->lock);
	memcpy(m->bytes + off, buf, len);
	pthread_rwlock_unlock(&m->lock);
	return 0;
}

static int memory_zero(struct io *io, uint64_t off, uint64_t len, unsigned flags, struct error *e)
{
	(void)flags;
	struct io_memory *m = (struct io_memory *)io;
	if (grow(m, off + len, e) < 0)
		return -1;
	pthread_rwlock_rdlock(&m->lock);
	memset(m->bytes + off, 0, len);
	pthread_rwlock_unlock(&m->lock);
	return 0;
}

static int memory_truncate(struct io *io, uint64_t size, struct error *e)
{
	struct io_memory *m = (struct io_memory *)io;
	pthread_rwlock_wrlock(&m->lock);
	int rc = resize(m, size, e);
	pthread_rwlock_unlock(&m->lock);
	return rc;
}

static void memory_close(struct io *io)
{
	struct io_memory *m = (struct io_memory *)io;
	pthread_rwlock_destroy(&m->lock);
	free(m->bytes);
	free(io->name);
	free(m);
}

static const struct io_ops memory_ops = {
	.read = memory_read,
	.write = memory_write,
	.zero = memory_zero,
	.truncate = memory_truncate,
	.close = memory_close,
};

int io_memory_new(struct io **out, const void *bytes, size_t len, const char *name, struct error *e)
{
	AUTO_FREE struct io_memory *m = mem_calloc(1, sizeof *m, "a memory file", e);
	AUTO_FREE uint8_t *copy = m ? mem_calloc(1, len ? len : 1, "a memory file", e) : NULL;
	AUTO_FREE char *own_name = copy ? mem_strdup(name, e) : NULL;
	if (!own_name)
		return -1;
	if (len && bytes)
		memcpy(copy, bytes, len);
	m->bytes = STEAL(copy);
	m->room = len ? len : 1;
	m->io = (struct io){.ops = &memory_ops, .size = len, .align = 1, .name = STEAL(own_name)};
	m->io.caps = IO_CAN_WRITE | (len ? 0 : IO_READS_ZERO);
	pthread_rwlock_init(&m->lock, NULL);
	*out = &STEAL(m)->io;
	return 0;
}

const uint8_t *io_memory_bytes(const struct io *io)
{
	return io->ops == &memory_ops ? ((const struct io_memory *)io)->bytes : NULL;
}

static int null_read(struct io *io, void *buf, size_t len, uint64_t off, struct error *e)
{
	(void)io, (void)off, (void)e;
	memset(buf, 0, len);
	return 0;
}

static int null_write(struct io *io, const void *buf, size_t len, uint64_t off, struct error *e)
{
	(void)buf, (void)e;
	io_size_grow(io, off + len);
	return 0;
}

static int null_zero(struct io *io, uint64_t off, uint64_t len, unsigned flags, struct error *e)
{
	(void)flags, (void)e;
	io_size_grow(io, off + len);
	return 0;
}

static int null_extent(struct io *io, uint64_t off, uint64_t len, struct extent *out, struct error *e)
{
	(void)io, (void)off, (void)len, (void)e;
	out->kind = EXTENT_ZERO;
	return 0;
}

static int null_truncate(struct io *io, uint64_t size, struct error *e)
{
	(void)e;
	__atomic_store_n(&io->size, size, __ATOMIC_RELEASE);
	return 0;
}

static void null_close(struct io *io)
{
	free(io->name);
	free(io);
}

static const struct io_ops null_ops = {
	.read = null_read,
	.write = null_write,
	.zero = null_zero,
	.extent = null_extent,
	.truncate = null_truncate,
	.close = null_close,
};

int io_null_new(struct io **out, struct error *e)
{
	AUTO_FREE struct io *io = mem_calloc(1, sizeof *io, "a null file", e);
	char *name = io ? mem_strdup("null", e) : NULL;
	if (!name)
		return -1;
	*io = (struct io){.ops = &null_ops, .align = 1, .name = name, .caps = IO_CAN_WRITE | IO_READS_ZERO};
	*out = STEAL(io);
	return 0;
}
