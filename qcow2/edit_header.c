/* SPDX-License-Identifier: Apache-2.0
 *
 * The fixed header of an edited image (FORMAT.md §3): fields that lead from one state to another change together, by one write
 * within the first sector, which a disk does wholly or not at all.
 */
#include "qcow2/edit_internal.h"

int edit_put_header(struct edit *ed, const struct header *h, struct error *e)
{
	uint8_t bytes[QCOW2_HEADER_V3_BYTES], *old = ed->q->header_bytes;
	size_t len, from = 0, to;

	memcpy(bytes, old, sizeof bytes);
	len = to = header_encode(h, bytes);
	if (h->size == ed->q->h.size) /* the file's may be no whole sector */
		memcpy(bytes + HEADER_SIZE_AT, old + HEADER_SIZE_AT, 8);
	while (from < len && bytes[from] == old[from])
		from++;
	if (from == len)
		return 0;
	while (bytes[to - 1] == old[to - 1])
		to--;
	/* order: what the new fields lead to, flush, the fields, flush */
	if (edit_sync(ed, e) || edit_write_table(ed, bytes + from, to - from, from, "header", e) || edit_sync(ed, e))
		return -1;
	memcpy(old, bytes, sizeof bytes);
	ed->q->h = *h;
	return 0;
}
