/* SPDX-License-Identifier: Apache-2.0
 *
 * The plain copy behind everything that the file system could have done for us but would not.
 */
#include "convert/internal.h"

int convert_copy(struct io *dst, uint64_t dst_off, struct io *src, uint64_t src_off, uint64_t len, struct error *e)
{
	const size_t step = 1 << 20;
	AUTO_FREE uint8_t *buf = mem_alloc_pages(step, "copy buffer", e);
	if (!buf)
		return -1;
	for (uint64_t at = 0; at < len; at += step) {
		size_t n = min_u64(step, len - at);
		if (io_read(src, buf, n, src_off + at, e) < 0 || io_write(dst, buf, n, dst_off + at, e) < 0)
			return -1;
	}
	return 0;
}
