/* SPDX-License-Identifier: Apache-2.0
 *
 * Host space of a new image: whole clusters at the end, and compressed clusters packed back to back (FORMAT.md §6.3) as far
 * as the refcount width lets them share a host cluster.
 */
#include "qcow2/writer_internal.h"

#include <assert.h>

static int append(struct writer *w, uint64_t clusters, uint64_t *host, struct error *e)
{
	const uint64_t limit = ENTRY_OFFSET_MASK >> w->g.cluster_bits;
	if (clusters > limit || (w->next >> w->g.cluster_bits) + clusters > limit)
		return err_set(e, ERR_LIMIT, "the new image would exceed 2^56 bytes");
	if (writer_refs_add(w, w->next >> w->g.cluster_bits, clusters, e) < 0)
		return -1;
	*host = w->next;
	w->next += clusters << w->g.cluster_bits;
	return 0;
}

int writer_host_append(struct writer *w, uint64_t clusters, uint64_t *host, struct error *e)
{
	if (append(w, clusters, host, e) < 0)
		return -1;
	if (w->ascending)
		w->tail = 0;
	return 0;
}

int writer_host_write(struct writer *w, const void *bytes, size_t len, uint64_t *host, struct error *e)
{
	if (writer_host_append(w, geometry_clusters(&w->g, len), host, e) < 0)
		return -1;
	return io_write(w->file, bytes, len, *host, e);
}

/* Whether a compressed cluster of `len` bytes may begin at the tail of the one before. */
static bool tail_takes(const struct writer *w, size_t len)
{
	if (!w->tail || writer_refs_get(w, w->tail >> w->g.cluster_bits) == refcount_max(w->g.refcount_order))
		return false;
	uint64_t end = align_up(w->tail, w->g.cluster_size);
	return len <= end - w->tail || end == w->next;
}

int writer_host_pack(struct writer *w, size_t len, uint64_t *host, struct error *e)
{
	assert(len && len < w->g.cluster_size);
	uint64_t fresh;
	if (!tail_takes(w, len)) {
		if (append(w, 1, host, e) < 0)
			return -1;
	} else {
		*host = w->tail;
		if (writer_refs_add(w, w->tail >> w->g.cluster_bits, 1, e) < 0)
			return -1;
		if (len > align_up(w->tail, w->g.cluster_size) - w->tail && append(w, 1, &fresh, e) < 0)
			return -1;
	}
	if (*host + len > 1ull << w->g.csize_shift)
		return err_set(e, ERR_LIMIT, "compressed clusters cannot lie past 2^%u with clusters of %u bytes",
			w->g.csize_shift, w->g.cluster_size);
	w->tail = *host + len;
	if (geometry_in_cluster(&w->g, w->tail) == 0)
		w->tail = 0;
	return 0;
}

int writer_host_blank(struct writer *w, uint64_t host, uint64_t len, struct error *e)
{
	struct io *io = w->data ? w->data : w->file;
	switch (w->c.prealloc) {
	case PREALLOC_FALLOC:
		return io_file_reserve(io, host, len, e);
	case PREALLOC_FULL:
		return io_write_zeros(io, host, len, e);
	default:
		return io->caps & IO_READS_ZERO ? 0 : io_zero(io, host, len, IO_ZERO_UNMAP, e);
	}
}
