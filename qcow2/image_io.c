/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole chain as one io to read: what the engine shows is one more kind of file (FORMAT.md §5.6).
 */
#include "qcow2/internal.h"

struct image_io {
	struct io io;
	struct walk *walk;
	struct reader *reader;
};

static int image_read(struct io *io, void *buf, size_t len, uint64_t guest, struct error *e)
{
	struct image_io *m = (struct image_io *)io;
	uint64_t end = guest + len;
	uint8_t *p = buf;

	while (guest < end) {
		struct extent x;

		if (walk_extent(m->walk, guest, end, &x, e) || reader_read(m->reader, &x, 0, p, (size_t)x.len, e))
			return -1;
		guest += x.len;
		p += x.len;
	}
	return 0;
}

static int image_extent(struct io *io, uint64_t guest, uint64_t len, struct extent *out, struct error *e)
{
	return walk_extent(((struct image_io *)io)->walk, guest, guest + len, out, e);
}

static void image_close(struct io *io)
{
	struct image_io *m = (struct image_io *)io;

	walk_free(m->walk);
	reader_free(m->reader);
	free(m->io.name);
	free(m);
}

static const struct io_ops image_ops = {
	.read = image_read,
	.extent = image_extent,
	.close = image_close,
};

int chain_io(struct io **out, struct chain *c, struct error *e)
{
	struct image_io *m = mem_calloc(1, sizeof *m, "image", e);

	if (!m)
		return -1;
	m->io = (struct io){.ops = &image_ops, .size = c->size, .align = 1, .name = mem_strdup(c->layers[0].path, e)};
	if (!m->io.name || walk_new(&m->walk, c, c->count, 0, e) || reader_new(&m->reader, e)) {
		image_close(&m->io);
		return -1;
	}
	*out = &m->io;
	return 0;
}
