/* SPDX-License-Identifier: Apache-2.0
 *
 * A new snapshot table, FORMAT.md §8.1. Entries that stay are copied as bytes: what other programs have put into their extra
 * data is not lost.
 */
#include "qcow2/snapshot_edit.h"

void snapshot_next_id(const struct qcow2 *q, char id[24])
{
	uint64_t highest = 0, next;
	bool taken = true;
	for (uint32_t i = 0; i < q->snapshot_count; i++)
		highest = max_u64(highest, strtoull(q->snapshots[i].id, NULL, 10));
	next = highest + 1;
	/* Past the largest number there is: the first that nobody has. */
	for (next += next == 0; taken; next++) {
		snprintf(id, 24, "%llu", (unsigned long long)next);
		taken = false;
		for (uint32_t i = 0; i < q->snapshot_count && !taken; i++)
			taken = strcmp(q->snapshots[i].id, id) == 0;
	}
}

static uint64_t table_bytes(const struct qcow2 *q)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < q->snapshot_count; i++)
		bytes += q->snapshots[i].entry.bytes;
	return bytes;
}

/* Appends entry `i`, whose bytes are at `old`. One that does not tell its disk's size has that of the header, which may change:
 * now it is written down. */
static int keep_entry(struct snapshot_edit *s, uint32_t i, const uint8_t *old, size_t room, struct error *e)
{
	const struct qcow2_snapshot *sn = &s->ed->q->snapshots[i];
	struct snapshot_entry x;
	if (snapshot_entry_decode(old, sn->entry.bytes, &x, e) != 0)
		return err_set(e, ERR_CHANGED, "the snapshot table changed while it was open");
	s->count++;
	if (x.has_disk_size) {
		memcpy(s->table + s->table_bytes, old, x.bytes);
		s->table_bytes += x.bytes;
		return 0;
	}
	x.disk_size = sn->disk_size;
	s->table_bytes += snapshot_entry_encode(&x, s->table + s->table_bytes, room);
	return 0;
}

int snapshot_table_make(struct snapshot_edit *s, uint64_t skip, const struct snapshot_entry *add, struct error *e)
{
	enum { MOST_ADDED = 64 /* by writing an entry anew */ };
	const struct qcow2 *q = s->ed->q;
	const uint64_t old_bytes = table_bytes(q);
	const size_t room = add ? 128 + (size_t)add->id_len + add->name_len : 0;
	const size_t total = (size_t)old_bytes + (size_t)q->snapshot_count * MOST_ADDED + room;
	if (add && q->snapshot_count >= QCOW2_MAX_SNAPSHOTS)
		return err_set(e, ERR_LIMIT, "an image has at most %d snapshots", QCOW2_MAX_SNAPSHOTS);
	AUTO_FREE uint8_t *old = mem_calloc(1, (size_t)old_bytes + 1, "snapshot table", e);
	s->table = mem_calloc(1, total + 1, "snapshot table", e);
	s->table_bytes = s->count = 0;
	if (!old || !s->table ||
		(old_bytes && io_read(s->ed->file, old, (size_t)old_bytes, q->h.snapshots_offset, e) < 0))
		return -1;
	for (uint32_t i = 0, at = 0; i < q->snapshot_count; at += (uint32_t)q->snapshots[i++].entry.bytes)
		if (i != skip && keep_entry(s, i, old + at, total - s->table_bytes, e) < 0)
			return -1;
	if (add) {
		s->table_bytes += snapshot_entry_encode(add, s->table + s->table_bytes, room);
		s->count++;
	}
	if (s->table_bytes > QCOW2_MAX_SNAPSHOT_TABLE_BYTES)
		return err_set(e, ERR_LIMIT, "the snapshot table would be larger than %d bytes",
			QCOW2_MAX_SNAPSHOT_TABLE_BYTES);
	return 0;
}

int snapshot_check_names(const struct edit *ed, const struct snapshot_new *n, struct error *e)
{
	if (strlen(n->name) > UINT16_MAX || (n->id && strlen(n->id) > UINT16_MAX))
		return err_set(e, ERR_LIMIT, "a snapshot's name is at most %d bytes long", UINT16_MAX);
	for (uint32_t i = 0; n->id && i < ed->q->snapshot_count; i++)
		if (strcmp(n->id, ed->q->snapshots[i].id) == 0)
			return err_set(e, ERR_USAGE, "there is a snapshot with the id '%s' already", n->id);
	return 0;
}

int snapshot_table_add(struct snapshot_edit *s, const struct snapshot_new *n, uint64_t l1_host, uint32_t l1_entries,
	struct error *e)
{
	const struct edit *ed = s->ed;
	char next[24];
	snapshot_next_id(ed->q, next);
	const char *id = n->id ? n->id : next;
	const struct snapshot_entry x = {.l1_offset = l1_host,
		.l1_entries = l1_entries,
		.date_sec = n->date_sec,
		.date_nsec = n->date_nsec,
		.vm_clock_nsec = n->vm_clock_nsec,
		.disk_size = ed->q->h.size,
		.has_disk_size = true,
		.icount = n->icount,
		.has_icount = n->icount != UINT64_MAX,
		.id = id,
		.id_len = (uint16_t)strlen(id),
		.name = n->name,
		.name_len = (uint16_t)strlen(n->name)};
	free(STEAL(s->table));
	return snapshot_table_make(s, NOWHERE, &x, e);
}

int snapshot_table_place(struct snapshot_edit *s, struct error *e)
{
	struct edit *ed = s->ed;
	if (s->count == 0)
		return 0;
	if (alloc_clusters(ed, geometry_clusters(&ed->g, s->table_bytes), &s->table_host, e) < 0)
		return -1;
	return edit_write_table(ed, s->table, s->table_bytes, s->table_host, "snapshot table", e);
}

int snapshot_table_switch(struct snapshot_edit *s, const struct header *h, bool *switched, struct error *e)
{
	struct edit *ed = s->ed;
	struct qcow2 *q = ed->q;
	const uint64_t old_host = q->h.snapshots_offset, old_bytes = table_bytes(q);
	struct snapshot_list list, old = {q->snapshots, q->snapshot_count};
	struct header now = *h;
	now.snapshot_count = s->count;
	now.snapshots_offset = s->table_host;
	/* Before the switch: afterwards nothing may fail. */
	if (snapshot_list_read(&list, ed->file, &now, e) < 0) {
		snapshot_list_free(&list);
		return -1;
	}
	*switched = true;
	if (edit_put_header(ed, &now, e) < 0) {
		snapshot_list_free(&list);
		return -1;
	}
	q->snapshots = list.entries;
	q->snapshot_count = list.count;
	snapshot_list_free(&old);
	if (old_bytes == 0)
		return 0;
	return edit_drop(ed, old_host, geometry_clusters(&ed->g, old_bytes), e);
}
