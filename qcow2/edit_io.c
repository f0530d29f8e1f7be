/* SPDX-License-Identifier: Apache-2.0
 *
 * An edited image as one more kind of io: read, write, zero, extents, flush, resize.
 */
#include "qcow2/edit_internal.h"

struct edited_io {
	struct io io;
	struct edit *ed;
};

static struct edit *editor(struct io *io)
{
	return ((struct edited_io *)io)->ed;
}

static int disk_read(struct io *io, void *buf, size_t len, uint64_t guest, struct error *e)
{
	return edit_read(editor(io), buf, len, guest, e);
}

static int disk_write(struct io *io, const void *buf, size_t len, uint64_t guest, struct error *e)
{
	return edit_write(editor(io), buf, len, guest, e);
}

static int disk_zero(struct io *io, uint64_t guest, uint64_t len, unsigned flags, struct error *e)
{
	return edit_zero(editor(io), guest, len, flags & IO_ZERO_UNMAP ? EDIT_MAY_UNMAP : 0, e);
}

/* With what the backing shows below. */
static int disk_extent(struct io *io, uint64_t guest, uint64_t len, struct extent *out, struct error *e)
{
	struct edit *ed = editor(io);

	if (edit_extent(ed, guest, len, out, e))
		return -1;
	if (out->kind != EXTENT_ABSENT || !ed->backing || guest >= ed->backing->size)
		return 0;
	len = min_u64(out->len, ed->backing->size - guest);
	if (io_extent(ed->backing, guest, len, out, e))
		return -1;
	out->depth++;
	return 0;
}

static int disk_flush(struct io *io, struct error *e)
{
	return edit_flush(editor(io), e);
}

static int disk_truncate(struct io *io, uint64_t size, struct error *e)
{
	if (edit_resize(editor(io), size, PREALLOC_OFF, e))
		return -1;
	io->size = size;
	return 0;
}

static void disk_close(struct io *io)
{
	free(io->name);
	free(io);
}

static const struct io_ops disk_ops = {
	.read = disk_read,
	.write = disk_write,
	.zero = disk_zero,
	.extent = disk_extent,
	.flush = disk_flush,
	.truncate = disk_truncate,
	.close = disk_close,
};

int edit_io(struct io **out, struct edit *ed, struct error *e)
{
	struct edited_io *m = mem_calloc(1, sizeof *m, "image", e);

	if (!m)
		return -1;
	m->ed = ed;
	m->io = (struct io){.ops = &disk_ops,
		.size = ed->q->size,
		.caps = IO_CAN_WRITE | IO_CAN_PUNCH,
		.align = 1,
		.name = mem_strdup(ed->l->path, e)};
	if (!m->io.name) {
		free(m);
		return -1;
	}
	*out = &m->io;
	return 0;
}
