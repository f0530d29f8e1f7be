/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of a new image (FORMAT.md §15).
 *
 * order: the rest of the L2 tables, snapshot table and bitmap directory, the rest of the refcount blocks, the refcount
 * table, L1, the file's length, and the header last. Until then the file is no qcow2 image.
 */
#include "qcow2/writer_internal.h"

#include <assert.h>

/* Refcounts, then L1 as the end of the file, which need not be a whole cluster. */
static int write_end(struct writer *w, struct error *e)
{
	uint64_t bytes = align_up(w->l1.entries * 8, 512), host;
	if (writer_refs_finish(w, geometry_clusters(&w->g, bytes), &host, e) < 0)
		return -1;
	if (!bytes)
		return 0;
	w->h.l1_offset = host;
	w->next = host + bytes;
	return io_write(w->file, w->l1.bytes, bytes, host, e);
}

static int set_size(struct io *io, uint64_t size, struct error *e)
{
	return io->caps & IO_IS_DEVICE || io->size == size ? 0 : io_truncate(io, size, e);
}

static int write_header(struct writer *w, struct error *e)
{
	AUTO_FREE uint8_t *cluster = mem_calloc(1, w->g.cluster_size, "the header", e);
	if (!cluster || writer_header_build(w, cluster, e) < 0)
		return -1;
	if (!w->header_first) {
		memcpy(w->header, cluster, w->g.cluster_size);
		return io_write(w->file, cluster, w->g.cluster_size, 0, e);
	}
	if (memcmp(cluster, w->header, w->g.cluster_size) != 0)
		return err_set(e, ERR_CHANGED, "the source changed between the two passes over it");
	return 0;
}

int writer_finish(struct writer *w, struct error *e)
{
	assert(!w->in_snapshot && !w->bitmap_table);
	if (writer_complete_state(w, e) < 0 || writer_snapshots_finish(w, e) < 0 || writer_bitmaps_finish(w, e) < 0 ||
		write_end(w, e) < 0)
		return -1;
	if (set_size(w->file, w->next, e) < 0 || (w->data && set_size(w->data, w->c.size, e) < 0))
		return -1;
	return write_header(w, e);
}
