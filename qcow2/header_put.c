/* SPDX-License-Identifier: Apache-2.0
 *
 * The one way to change the header of an image in place: only the bytes that differ, in one write, all within the first
 * sector, so that after a crash there is the old header or the new one (FORMAT.md §12.4).
 */
#include "qcow2/internal.h"

_Static_assert((int)QCOW2_HEADER_V3_BYTES <= 512, "the fixed header lies within one sector");

int header_put(struct qcow2 *q, const struct header *h, struct error *e)
{
	uint8_t old[QCOW2_HEADER_V3_BYTES] = {0}, new[QCOW2_HEADER_V3_BYTES] = {0}, bytes[QCOW2_HEADER_V3_BYTES];
	size_t first = QCOW2_HEADER_V3_BYTES, end = 0;

	header_encode(&q->h, old);
	header_encode(h, new);
	/* What the file has may differ in details that decoding drops; those stay. */
	memcpy(bytes, q->header_bytes, sizeof bytes);
	for (size_t i = 0; i < sizeof bytes; i++) {
		if (old[i] == new[i])
			continue;
		bytes[i] = new[i];
		first = min_u64(first, i);
		end = i + 1;
	}
	if (io_flush(q->file, e))
		return -1;
	if (first < end && (io_write(q->file, bytes + first, end - first, first, e) || io_flush(q->file, e)))
		return err_prefix(e, "header");
	memcpy(q->header_bytes, bytes, sizeof bytes);
	q->h = *h;
	return 0;
}
