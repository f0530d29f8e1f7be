/* SPDX-License-Identifier: Apache-2.0
 *
 * Two disks side by side: the extent that each has at a position, and what the two extents tell without a look at the bytes.
 */
#include "convert/internal.h"

enum { SECTOR = 512 };

int side_open(struct side *s, struct chain *c, unsigned below, unsigned walk_flags, struct error *e)
{
	*s = (struct side){.chain = c, .size = c ? align_up(c->size, SECTOR) : 0};
	return c ? walk_new(&s->walk, c, below, walk_flags, e) : 0;
}

void side_close(struct side *s)
{
	walk_free(s->walk);
	s->walk = NULL;
}

int side_advance(struct side *s, uint64_t pos, uint64_t total, struct error *e)
{
	struct extent *x = &s->x;
	if (x->len && pos >= x->start && pos < x->start + x->len)
		return 0;
	if (s->chain && pos < s->chain->size)
		return walk_extent(s->walk, pos, s->chain->size, x, e);
	uint64_t end = pos < s->size ? s->size : total;
	*x = (struct extent){.start = pos, .len = end - pos, .kind = EXTENT_ABSENT};
	return 0;
}

bool extent_reads_zero(const struct extent *x)
{
	return x->kind == EXTENT_ZERO || x->kind == EXTENT_ABSENT;
}

bool extents_same_place(const struct extent *a, const struct extent *b, uint64_t pos)
{
	struct io_identity ia, ib;
	if (a->kind != b->kind || extent_reads_zero(a))
		return false;
	if (a->file != b->file && (!io_file_identity(a->file, &ia) || !io_file_identity(b->file, &ib) ||
					  ia.dev != ib.dev || ia.ino != ib.ino))
		return false;
	if (a->kind == EXTENT_DATA)
		return a->host + (pos - a->start) == b->host + (pos - b->start);
	return a->host == b->host && a->csize == b->csize && a->cluster_bits == b->cluster_bits &&
	       a->codec == b->codec && a->skip + (pos - a->start) == b->skip + (pos - b->start);
}
