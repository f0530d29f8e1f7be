/* SPDX-License-Identifier: Apache-2.0
 *
 * Internal snapshots of a new image (FORMAT.md §8): each is written like a disk of its own, before the active one, and may
 * refer to clusters that an earlier state has. Every state has its own L2 tables. A cluster is COPIED only where the
 * active disk had it made for itself, so no entry has to be taken back when another state comes to share it.
 */
#include "qcow2/writer_internal.h"

#include <assert.h>

uint8_t *writer_buffer_extend(struct writer_buffer *b, size_t more, size_t limit, const char *what, struct error *e)
{
	if (more > limit - b->len)
		return err_set(e, ERR_LIMIT, "%s would exceed %zu bytes", what, limit), NULL;
	uint8_t *bytes = realloc(b->bytes, b->len + more);
	if (!bytes)
		return err_set(e, ERR_NO_MEMORY, "no memory for %s", what), NULL;
	b->bytes = bytes;
	b->len += more;
	return b->bytes + b->len - more;
}

uint64_t writer_vm_state_guest(const struct writer *w, uint64_t disk_size)
{
	return geometry_l1_entries(&w->g, disk_size) * geometry_l2_span(&w->g);
}

/* Where the guest offsets of a snapshot end: with its disk, or with the VM state behind that. */
static int snapshot_limit(const struct writer *w, const struct snapshot_entry *s, uint64_t *limit, struct error *e)
{
	*limit = s->disk_size;
	if (s->disk_size > INT64_MAX)
		return err_set(e, ERR_LIMIT, "a snapshot of %llu bytes", (unsigned long long)s->disk_size);
	if (s->vm_state_bytes &&
		(add_overflows(writer_vm_state_guest(w, s->disk_size), s->vm_state_bytes, limit) || *limit > INT64_MAX))
		return err_set(e, ERR_LIMIT, "a VM state of %llu bytes does not fit behind a disk of %llu bytes",
			(unsigned long long)s->vm_state_bytes, (unsigned long long)s->disk_size);
	return 0;
}

int writer_snapshot_begin(struct writer *w, const struct snapshot_entry *s, struct error *e)
{
	assert(!w->in_snapshot && !w->guest_next && !w->bitmap_table && s->has_disk_size);
	uint64_t limit;
	struct writer_l1 l1;
	if (w->data)
		return err_set(e, ERR_UNSUPPORTED, "an image with an external data file cannot hold snapshots");
	if (w->h.snapshot_count == QCOW2_MAX_SNAPSHOTS)
		return err_set(e, ERR_LIMIT, "more than %d snapshots", QCOW2_MAX_SNAPSHOTS);
	if (snapshot_limit(w, s, &limit, e) < 0 || writer_l1_new(w, &l1, limit, e) < 0)
		return -1;
	w->active_l1 = w->l1;
	w->l1 = l1;
	w->snapshot = *s;
	w->in_snapshot = w->keep_refs = true;
	return 0;
}

int writer_snapshot_end(struct writer *w, struct error *e)
{
	assert(w->in_snapshot);
	struct snapshot_entry *s = &w->snapshot;
	if (writer_complete_state(w, e) < 0)
		return -1;
	s->l1_entries = (uint32_t)w->l1.entries;
	s->l1_offset = 0;
	if (s->l1_entries && writer_host_write(w, w->l1.bytes, w->l1.entries * 8, &s->l1_offset, e) < 0)
		return -1;
	/* At most this long, whatever the entry's fixed part and extra data take. */
	size_t room = 128 + (size_t)s->id_len + s->name_len;
	uint8_t *at =
		writer_buffer_extend(&w->snapshots, room, QCOW2_MAX_SNAPSHOT_TABLE_BYTES, "the snapshot table", e);
	if (!at)
		return -1;
	w->snapshots.len -= room - snapshot_entry_encode(s, at, room);
	w->h.snapshot_count++;
	free(w->l1.bytes);
	w->l1 = w->active_l1;
	w->active_l1.bytes = NULL;
	w->in_snapshot = false;
	w->guest_next = 0;
	return 0;
}

/* One more reference to every cluster of [host, end); 1: some of them has as many as its refcount can tell. */
static int refer(struct writer *w, uint64_t host, uint64_t end, struct error *e)
{
	assert(w->keep_refs && host >= w->g.cluster_size && end <= w->next);
	uint64_t first = host >> w->g.cluster_bits, last = (end - 1) >> w->g.cluster_bits;
	for (uint64_t cluster = first; cluster <= last; cluster++)
		if (writer_refs_get(w, cluster) == refcount_max(w->g.refcount_order))
			return 1;
	return writer_refs_add(w, first, last - first + 1, e);
}

int writer_share(struct writer *w, uint64_t guest, uint64_t len, uint64_t host, struct error *e)
{
	uint64_t n = geometry_clusters(&w->g, len);
	assert(geometry_in_cluster(&w->g, host) == 0);
	int r = refer(w, host, host + (n << w->g.cluster_bits), e);
	if (r != 0)
		return r;
	if (writer_advance(w, guest, len, e) < 0)
		return -1;
	return writer_map_run(w, guest, n, host, w->g.cluster_size, ALL_SUBCLUSTERS, e);
}

int writer_share_compressed(struct writer *w, uint64_t guest, size_t len, uint64_t host, struct error *e)
{
	int r = refer(w, host, host + len, e);
	if (r != 0)
		return r;
	if (writer_advance(w, guest, w->g.cluster_size, e) < 0)
		return -1;
	return writer_map_run(w, guest, 1, l2_compressed_encode(&w->g, host, len), 0, 0, e);
}

int writer_snapshots_finish(struct writer *w, struct error *e)
{
	if (!w->snapshots.len)
		return 0;
	return writer_host_write(w, w->snapshots.bytes, w->snapshots.len, &w->h.snapshots_offset, e);
}
