/* SPDX-License-Identifier: Apache-2.0
 *
 * The fixed header of an edited image (FORMAT.md §3): fields that lead from one state to another change together, by one write
 * within the first sector, which a disk does wholly or not at all.
 */
#include "qcow2/edit_internal.h"

int edit_put_header(struct edit *ed, const struct header *h, struct error *e)
{
	uint8_t bytes[QCOW2_HEADER_V3_BYTES];
	size_t first, end;

	memcpy(bytes, ed->q->header_bytes, sizeof bytes);
	header_patch(bytes, &ed->q->h, h, &first, &end);
	if (first == end)
		return 0;
	/* order: what the new fields lead to, flush, the fields, flush */
	if (edit_sync(ed, e) || edit_write_table(ed, bytes + first, end - first, first, "header", e) ||
		edit_sync(ed, e))
		return -1;
	memcpy(ed->q->header_bytes, bytes, sizeof bytes);
	ed->q->h = *h;
	return 0;
}
