/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables of an image as they are read from beginning to end: a part of each in memory (FORMAT.md §5).
 */
#include "qcow2/internal.h"

int table_window_init(struct table_window *w, size_t cap, struct error *e)
{
	*w = (struct table_window){.buf = mem_calloc(1, cap, "table window", e), .cap = cap};
	return w->buf ? 0 : -1;
}

int table_window_fill(struct table_window *w, struct io *file, uint64_t host, uint64_t stop, const char *what,
	struct error *e)
{
	size_t want = (size_t)min_u64(w->cap, stop - host);

	/* Tables that lie one behind the other are read many at once. */
	if (host == w->host + w->len && host < file->size)
		want = (size_t)max_u64(want, min_u64(w->cap, file->size - host));
	w->len = 0;
	if (io_read_exact(file, w->buf, want, host, what, e))
		return -1;
	w->host = host;
	w->len = want;
	return 0;
}
