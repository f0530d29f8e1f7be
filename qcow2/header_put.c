/* SPDX-License-Identifier: Apache-2.0
 *
 * The one way to change the header of an image in place: only the bytes that differ, in one write, all within the first
 * sector, so that after a crash there is the old header or the new one (FORMAT.md §12.4).
 */
#include "qcow2/internal.h"

_Static_assert((int)QCOW2_HEADER_V3_BYTES <= 512, "the fixed header lies within one sector");

int header_put(struct qcow2 *q, const struct header *h, struct error *e)
{
	uint8_t bytes[QCOW2_HEADER_V3_BYTES];
	size_t first, end;

	memcpy(bytes, q->header_bytes, sizeof bytes);
	header_patch(bytes, &q->h, h, &first, &end);
	if (io_flush(q->file, e))
		return -1;
	if (first < end && (io_write(q->file, bytes + first, end - first, first, e) || io_flush(q->file, e)))
		return err_prefix(e, "header");
	memcpy(q->header_bytes, bytes, sizeof bytes);
	q->h = *h;
	return 0;
}
