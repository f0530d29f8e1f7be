/* SPDX-License-Identifier: Apache-2.0
 *
 * Internal snapshots as they are read (FORMAT.md §8): the table, finding one, reading the image as it was then,
 * and proof afterwards that it was still the same. Nobody holds a lock that keeps a snapshot alive, hence the
 * proof.
 */
#include "qcow2/internal.h"

#include <openssl/evp.h>

enum { TABLE_WINDOW = 16 << 10, L1_WINDOW = 64 << 10, VERIFY_TRIES = 5, AT_EXTRA_BYTES = 36 /* of an entry */ };

/* The part of the table that is in memory. */
struct table_reader {
	struct io *file;
	uint64_t host; /* of buf[0] */
	uint8_t *buf;  /* owned */
	size_t len, cap;
	bool damaged; /* for a repair */
};

/* Makes `need` bytes at `host` available. An entry is at most 40 + 1024 + 2 * 65535 bytes. */
static int table_at(struct table_reader *t, uint64_t host, size_t need, struct error *e)
{
	size_t want = (size_t)max_u64(need, TABLE_WINDOW);

	if (host >= t->host && host - t->host <= t->len && t->len - (host - t->host) >= need)
		return 0;
	if (host < t->file->size && t->file->size - host < want)
		want = (size_t)max_u64(need, t->file->size - host);
	if (want > t->cap) {
		free(t->buf);
		t->cap = t->len = 0;
		t->buf = mem_calloc(1, want, "snapshot table", e);
		if (!t->buf)
			return -1;
		t->cap = want;
	}
	t->host = host;
	t->len = 0;
	if (io_read_exact(t->file, t->buf, want, host, "snapshot table", e))
		return -1;
	t->len = want;
	return 0;
}

static int keep_entry(struct qcow2_snapshot *s, const struct snapshot_entry *x, const struct header *h, struct error *e)
{
	s->entry = *x;
	s->entry.id = s->entry.name = NULL;
	s->disk_size = qcow2_whole_sectors(x->has_disk_size ? x->disk_size : h->size);
	s->id = mem_printf(e, "%.*s", (int)x->id_len, x->id);
	s->name = s->id ? mem_printf(e, "%.*s", (int)x->name_len, x->name) : NULL;
	return s->name ? 0 : -1;
}

/* An entry with more extra data than allowed, as if it had none but what is known. */
static int read_overlong(struct table_reader *t, uint64_t host, struct snapshot_entry *x, struct error *e)
{
	enum { KNOWN = 24 };
	const uint32_t extra = get_be32(t->buf + (host - t->host) + AT_EXTRA_BYTES);
	uint8_t start[QCOW2_SNAPSHOT_ENTRY_BYTES + KNOWN];
	AUTO_FREE uint8_t *entry = NULL;
	size_t names;
	uint64_t bytes;

	memcpy(start, t->buf + (host - t->host), QCOW2_SNAPSHOT_ENTRY_BYTES);
	put_be32(start + AT_EXTRA_BYTES, KNOWN);
	if (io_read_exact(t->file, start + QCOW2_SNAPSHOT_ENTRY_BYTES, KNOWN, host + QCOW2_SNAPSHOT_ENTRY_BYTES,
		    "snapshot table", e))
		return -1;
	snapshot_entry_decode(start, sizeof start, x, e);
	names = (size_t)x->id_len + x->name_len;
	bytes = QCOW2_SNAPSHOT_ENTRY_BYTES + (uint64_t)extra + names;
	entry = mem_calloc(1, sizeof start + names, "snapshot entry", e);
	if (!entry || io_read_exact(t->file, entry + sizeof start, names, host + bytes - names, "snapshot table", e))
		return -1;
	memcpy(entry, start, sizeof start);
	if (snapshot_entry_decode(entry, sizeof start + names, x, e))
		return -1;
	/* The id and name found there are used before anything else is read. */
	free(t->buf);
	t->buf = STEAL(entry);
	t->cap = sizeof start + names;
	t->len = 0;
	x->extra_bytes = extra;
	x->bytes = (size_t)align_up(bytes, 8);
	return 0;
}

static int read_entry(struct table_reader *t, uint64_t host, struct snapshot_entry *x, struct error *e)
{
	size_t need = QCOW2_SNAPSHOT_ENTRY_BYTES;
	int more;

	do {
		if (table_at(t, host, need, e))
			return -1;
		if (t->damaged && get_be32(t->buf + (host - t->host) + AT_EXTRA_BYTES) > QCOW2_MAX_SNAPSHOT_EXTRA)
			return read_overlong(t, host, x, e);
		more = snapshot_entry_decode(t->buf + (host - t->host), t->len - (size_t)(host - t->host), x, e);
		/* Without the padding: that of the last entry may lie past the file's end. */
		need = QCOW2_SNAPSHOT_ENTRY_BYTES + (size_t)x->extra_bytes + x->id_len + x->name_len;
	} while (more > 0);
	return more;
}

static int read_entries(struct snapshot_list *list, struct table_reader *t, const struct header *h, struct error *e)
{
	uint64_t host = h->snapshots_offset;

	for (; list->count < h->snapshot_count; list->count++) {
		struct snapshot_entry x;

		if (t->damaged && list->count == QCOW2_MAX_SNAPSHOTS)
			return 0;
		if (read_entry(t, host, &x, e))
			return err_prefix(e, "snapshot %u", list->count);
		host += x.bytes;
		if (t->damaged && host - h->snapshots_offset > QCOW2_MAX_SNAPSHOT_TABLE_BYTES)
			return 0;
		if (host - h->snapshots_offset > QCOW2_MAX_SNAPSHOT_TABLE_BYTES)
			return err_set(e, ERR_LIMIT, "snapshot table is larger than %d bytes",
				QCOW2_MAX_SNAPSHOT_TABLE_BYTES);
		if (keep_entry(&list->entries[list->count], &x, h, e)) {
			list->count++;
			return -1;
		}
	}
	return 0;
}

static int read_list(struct snapshot_list *list, struct table_reader *t, const struct header *h, struct error *e)
{
	uint32_t count = h->snapshot_count;
	int failed;

	*list = (struct snapshot_list){0};
	if (!count)
		return 0;
	if (t->damaged && count > QCOW2_MAX_SNAPSHOTS)
		count = QCOW2_MAX_SNAPSHOTS;
	/* Before memory is taken for them: each has at least its fixed part in the file. */
	if (h->snapshots_offset > t->file->size ||
		(t->file->size - h->snapshots_offset) / QCOW2_SNAPSHOT_ENTRY_BYTES < count)
		return err_set(e, ERR_CORRUPT, "snapshot table of %u entries at 0x%llx lies past the end of the file",
			count, (unsigned long long)h->snapshots_offset);
	list->entries = mem_calloc(count, sizeof *list->entries, "snapshot list", e);
	if (!list->entries)
		return -1;
	failed = read_entries(list, t, h, e);
	free(t->buf);
	return failed;
}

int snapshot_list_read(struct snapshot_list *list, struct io *file, const struct header *h, struct error *e)
{
	struct table_reader t = {.file = file};
	return read_list(list, &t, h, e);
}

int snapshot_list_read_damaged(struct snapshot_list *list, struct io *file, const struct header *h, struct error *e)
{
	struct table_reader t = {.file = file, .damaged = true};
	return read_list(list, &t, h, e);
}

void snapshot_list_free(struct snapshot_list *list)
{
	for (uint32_t i = 0; i < list->count; i++) {
		free(list->entries[i].id);
		free(list->entries[i].name);
	}
	free(list->entries);
	*list = (struct snapshot_list){0};
}

static bool matches(const struct qcow2_snapshot *s, const char *id, const char *name)
{
	return (!id || strcmp(s->id, id) == 0) && (!name || strcmp(s->name, name) == 0);
}

/* The first match; *count of all. */
static int find(const struct qcow2 *q, const char *id, const char *name, unsigned *count)
{
	int found = -1;

	for (uint32_t i = 0; i < q->snapshot_count; i++) {
		if (!matches(&q->snapshots[i], id, name))
			continue;
		if (found < 0)
			found = (int)i;
		(*count)++;
	}
	return found;
}

static int refuse_ambiguous(const struct qcow2 *q, const struct snapshot_query *query, struct error *e)
{
	char list[400] = "";
	size_t at = 0;

	for (uint32_t i = 0; i < q->snapshot_count && at < sizeof list - 1; i++) {
		const struct qcow2_snapshot *s = &q->snapshots[i];

		if (query->any ? !matches(s, query->any, NULL) && !matches(s, NULL, query->any)
			       : !matches(s, query->id, query->name))
			continue;
		at += (size_t)snprintf(list + at, sizeof list - at, "%sid '%s' name '%s'", at ? ", " : "", s->id,
			s->name);
	}
	return err_set(e, ERR_USAGE, "the snapshot is not unique: %s", list);
}

int qcow2_snapshot_find(const struct qcow2 *q, const struct snapshot_query *query, struct error *e)
{
	unsigned count = 0;
	int index;

	if (query->any) {
		unsigned by_id = 0;
		int id_index = find(q, query->any, NULL, &by_id);

		index = find(q, NULL, query->any, &count);
		if (index >= 0 && id_index >= 0 && index != id_index)
			count += by_id;
		if (index < 0) {
			index = id_index;
			count = by_id;
		}
	} else {
		index = find(q, query->id, query->name, &count);
	}
	if (index < 0)
		return err_set(e, ERR_NOT_FOUND, "Could not find snapshot '%s'",
			query->any    ? query->any
			: query->name ? query->name
			: query->id   ? query->id
				      : "");
	if (count > 1 && query->refuse_ambiguous)
		return refuse_ambiguous(q, query, e);
	return index;
}

/* SHA-256 of the L1 table's bytes, in windows. */
static int l1_digest(struct io *file, uint64_t host, uint32_t entries, uint8_t digest[32], struct error *e)
{
	AUTO_FREE uint8_t *buf = mem_alloc_pages(L1_WINDOW, "L1 table", e);
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint64_t left = entries * UINT64_C(8);
	int failed = !buf || !md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL);

	if (failed)
		err_set(e, ERR_NO_MEMORY, "no memory to read the L1 table");
	while (!failed && left) {
		size_t n = (size_t)min_u64(left, L1_WINDOW);

		failed = io_read_exact(file, buf, n, host, "snapshot's L1 table", e);
		if (!failed && !EVP_DigestUpdate(md, buf, n))
			failed = err_set(e, ERR_NO_MEMORY, "no memory to read the L1 table");
		host += n;
		left -= n;
	}
	if (!failed && !EVP_DigestFinal_ex(md, digest, NULL))
		failed = err_set(e, ERR_NO_MEMORY, "no memory to read the L1 table");
	EVP_MD_CTX_free(md);
	return failed ? -1 : 0;
}

void qcow2_state_active(const struct qcow2 *q, struct qcow2_state *out)
{
	*out = (struct qcow2_state){.l1_offset = q->h.l1_offset,
		.l1_entries = q->h.l1_entries,
		.size = qcow2_whole_sectors(q->h.size),
		.snapshot = -1};
}

int qcow2_state_of_snapshot(const struct qcow2 *q, uint32_t index, struct qcow2_state *out, struct error *e)
{
	const struct qcow2_snapshot *s = &q->snapshots[index];
	/* Without a size of its own (version 2) the L1 may be that of a smaller disk; what it lacks is unallocated. */
	uint64_t checked_size = s->entry.has_disk_size ? s->entry.disk_size : 0;

	*out = (struct qcow2_state){.l1_offset = s->entry.l1_offset,
		.l1_entries = s->entry.l1_entries,
		.size = s->disk_size,
		.snapshot = (int)index};
	if (l1_table_check(&q->g, out->l1_offset, out->l1_entries, checked_size, e) ||
		l1_digest(q->file, out->l1_offset, out->l1_entries, out->l1_digest, e))
		return err_prefix(e, "snapshot '%s'", s->name);
	return 0;
}

int qcow2_snapshot_select(struct qcow2 *q, uint32_t index, struct error *e)
{
	struct qcow2_state state;

	if (qcow2_state_of_snapshot(q, index, &state, e))
		return -1;
	q->l1_offset = state.l1_offset;
	q->l1_entries = state.l1_entries;
	q->size = state.size;
	q->snapshot = state.snapshot;
	memcpy(q->l1_digest, state.l1_digest, sizeof q->l1_digest);
	return 0;
}

void qcow2_state_selected(const struct qcow2 *q, struct qcow2_state *out)
{
	*out = (struct qcow2_state){
		.l1_offset = q->l1_offset, .l1_entries = q->l1_entries, .size = q->size, .snapshot = q->snapshot};
	memcpy(out->l1_digest, q->l1_digest, sizeof out->l1_digest);
}

static bool same_snapshot(const struct qcow2_snapshot *a, const struct qcow2_snapshot *b)
{
	return strcmp(a->id, b->id) == 0 && strcmp(a->name, b->name) == 0 && a->entry.date_sec == b->entry.date_sec &&
	       a->entry.date_nsec == b->entry.date_nsec && a->entry.l1_offset == b->entry.l1_offset &&
	       a->entry.l1_entries == b->entry.l1_entries && a->disk_size == b->disk_size;
}

static bool list_has(const struct snapshot_list *list, const struct qcow2_snapshot *s)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (same_snapshot(&list->entries[i], s))
			return true;
	return false;
}

/* 0 still there, 1 the header changed under us: again, -1 gone or unreadable. */
static int verify_once(const struct qcow2 *q, const struct qcow2_state *state, struct error *e)
{
	const struct qcow2_snapshot *s = &q->snapshots[state->snapshot];
	uint8_t before[QCOW2_HEADER_V3_BYTES], after[QCOW2_HEADER_V3_BYTES], digest[32];
	struct snapshot_list list = {0};
	struct header h;
	size_t len;
	int failed;

	if (header_read(q->file, before, &len, e) || header_decode(before, len, &h, e))
		return -1;
	/* A snapshot without a size of its own has the header's, which may have changed since. */
	h.size = q->h.size;
	failed = snapshot_list_read(&list, q->file, &h, e);
	if (!failed && !list_has(&list, s))
		failed = err_set(e, ERR_CHANGED, "snapshot '%s' is not there any more", s->name);
	snapshot_list_free(&list);
	if (!failed)
		failed = l1_digest(q->file, s->entry.l1_offset, s->entry.l1_entries, digest, e);
	if (!failed && memcmp(digest, state->l1_digest, sizeof digest) != 0)
		failed = err_set(e, ERR_CHANGED, "the L1 table of snapshot '%s' changed while it was read", s->name);
	if (header_read(q->file, after, &len, e))
		return -1;
	return memcmp(before, after, sizeof before) != 0 ? 1 : failed;
}

int qcow2_state_verify(const struct qcow2 *q, const struct qcow2_state *state, struct error *e)
{
	int again = 1;

	if (state->snapshot < 0)
		return 0;
	for (unsigned i = 0; i < VERIFY_TRIES && again > 0; i++)
		again = verify_once(q, state, e);
	if (again > 0)
		return err_set(e, ERR_CHANGED, "the header changed %d times while the snapshot was looked up",
			VERIFY_TRIES);
	return again;
}

int qcow2_snapshot_verify(struct qcow2 *q, struct error *e)
{
	struct qcow2_state state;

	qcow2_state_selected(q, &state);
	return qcow2_state_verify(q, &state, e);
}
