/* SPDX-License-Identifier: Apache-2.0
 *
 * The bits of a persistent bitmap (FORMAT.md §9.3, §9.4), a piece at a time.
 */
#include "qcow2/internal.h"

static uint64_t bits_of(const struct qcow2 *q, uint32_t index)
{
	return div_round_up(q->h.size, 1ull << q->bitmaps[index].entry.granularity_bits);
}

uint64_t qcow2_bitmap_bytes(const struct qcow2 *q, uint32_t index)
{
	return div_round_up(bits_of(q, index), 8);
}

/* Within one cluster of the bitmap. */
static int read_part(const struct qcow2 *q, uint32_t index, uint64_t at, uint8_t *to, size_t len, struct error *e)
{
	const struct bitmap_entry *x = &q->bitmaps[index].entry;
	uint64_t i = at >> q->g.cluster_bits, host;
	uint8_t raw[8];
	bool ones;

	if (i >= x->table_entries)
		return err_set(e, ERR_CORRUPT, "its table has %u entries, too few for the disk", x->table_entries);
	if (io_read_exact(q->file, raw, sizeof raw, x->table_offset + 8 * i, "bitmap table", e) ||
		bitmap_table_entry_decode(&q->g, get_be64(raw), &host, &ones, e))
		return -1;
	if (host)
		return io_read_exact(q->file, to, len, host + geometry_in_cluster(&q->g, at), "bitmap data", e);
	memset(to, ones ? 0xff : 0, len);
	return 0;
}

int qcow2_bitmap_read(const struct qcow2 *q, uint32_t index, uint64_t at, uint8_t *to, size_t len, struct error *e)
{
	unsigned tail = bits_of(q, index) % 8;

	for (size_t done = 0, n; done < len; done += n) {
		n = min_u64(len - done, q->g.cluster_size - geometry_in_cluster(&q->g, at + done));
		if (read_part(q, index, at + done, to + done, n, e))
			return -1;
	}
	if (tail && len && at + len == qcow2_bitmap_bytes(q, index))
		to[len - 1] &= (uint8_t)((1u << tail) - 1);
	return 0;
}
