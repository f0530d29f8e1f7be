/* SPDX-License-Identifier: Apache-2.0
 *
 * The first cluster of an edited image: header, extensions (FORMAT.md §4) and the backing file's name (§10.1) changed together. What
 * readers need lies in the first sector, which a disk writes wholly or not at all; only the table of feature names, a
 * courtesy, may reach beyond it, and the backing file's name, which goes where the old one is not.
 * order: the new name, flush; the first sector without the feature names, flush; their part behind it, flush; the first sector
 * with them, flush; then the rest of the cluster is wiped.
 */
#include "qcow2/edit_internal.h"

enum { SECTOR = 512, END_BYTES = 8 };

/* The cluster as it is and as it is to be. */
struct start {
	uint8_t *old, *new;
	size_t size;            /* of the cluster */
	size_t old_end;         /* behind the old extensions */
	struct extension names; /* the feature name table, in `old`; len 0: none */
	size_t essential,
		end; /* in `new`: behind all but the feature names, behind all extensions, the end mark included */
	size_t name_at, name_len;
};

static bool is_ours(uint32_t type)
{
	return type == EXT_BACKING_FORMAT || type == EXT_DATA_FILE || type == EXT_BITMAPS;
}

static int add(struct start *s, size_t *pos, uint32_t type, const void *data, size_t len, struct error *e)
{
	*pos = extension_encode(s->new, s->size, *pos, type, data, (uint32_t)len);
	return *pos ? 0 : err_set(e, ERR_LIMIT, "the header's extensions do not fit into its cluster");
}

/* Extensions that this knows nothing of are kept byte for byte. */
static int keep_others(struct edit *ed, struct start *s, size_t *pos, struct error *e)
{
	const struct header *h = &ed->q->h;
	size_t at = h->header_length, end = h->backing_offset ? (size_t)h->backing_offset : s->size;
	struct extension x;
	int more;

	while ((more = extension_next(s->old, end, &at, &x, e)) > 0) {
		if (x.type == EXT_FEATURE_NAMES)
			s->names = x;
		else if (!is_ours(x.type) && add(s, pos, x.type, x.data, x.len, e))
			return -1;
	}
	s->old_end = (size_t)min_u64(at + END_BYTES, end);
	return more;
}

static int compose(struct edit *ed, struct start *s, const struct header *h, const struct header_strings *strings,
	const struct bitmaps_extension *b, struct error *e)
{
	size_t pos = h->header_length;
	uint8_t ext[QCOW2_BITMAPS_EXTENSION_BYTES];

	memcpy(s->new, s->old, min_u64(h->header_length, ed->q->h.header_length));
	if (strings->backing_name && strings->backing_format &&
		add(s, &pos, EXT_BACKING_FORMAT, strings->backing_format, strlen(strings->backing_format), e))
		return -1;
	if (strings->data_file_name &&
		add(s, &pos, EXT_DATA_FILE, strings->data_file_name, strlen(strings->data_file_name), e))
		return -1;
	if (b->count && add(s, &pos, EXT_BITMAPS, ext, bitmaps_extension_encode(b, ext), e))
		return -1;
	if (keep_others(ed, s, &pos, e))
		return -1;
	s->essential = pos + END_BYTES;
	if (s->essential > SECTOR)
		return err_set(e, ERR_LIMIT, "%s: the header's extensions do not fit into its first sector",
			ed->file->name);
	if (s->names.len && h->version >= 3 &&
		extension_encode(s->new, s->size - END_BYTES, pos, EXT_FEATURE_NAMES, s->names.data, s->names.len))
		pos = extension_encode(s->new, s->size, pos, EXT_FEATURE_NAMES, s->names.data, s->names.len);
	s->end = pos + END_BYTES;
	return 0;
}

static bool overlap(size_t a, size_t a_len, size_t b, size_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* Neither where something is now nor where the extensions will be. */
static bool is_free(const struct edit *ed, const struct start *s, size_t at)
{
	const struct header *h = &ed->q->h;

	if (at > s->size || s->name_len > s->size - at)
		return false;
	/* One sector holds everything: it all changes at once. */
	if (at + s->name_len <= SECTOR && s->end <= SECTOR)
		return true;
	return at >= SECTOR && at >= s->old_end &&
	       !overlap(at, s->name_len, h->backing_offset, h->backing_offset ? h->backing_len : 0);
}

static int place_name(const struct edit *ed, struct start *s, const char *name, struct error *e)
{
	size_t behind = (size_t)align_up(ed->q->h.backing_offset + ed->q->h.backing_len, 8);
	size_t beyond = max_u64(max_u64(s->end, s->old_end), SECTOR);

	s->name_len = name ? strlen(name) : 0;
	if (!name)
		return 0;
	if (s->name_len > QCOW2_MAX_BACKING_NAME)
		return err_set(e, ERR_LIMIT, "backing file name of %zu bytes is longer than %d", s->name_len,
			QCOW2_MAX_BACKING_NAME);
	const size_t places[] = {
		s->end, (size_t)align_up(beyond, 8), max_u64(behind, beyond), s->size - min_u64(s->size, s->name_len)};
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (places[i] >= s->end && is_free(ed, s, places[i])) {
			s->name_at = places[i];
			memcpy(s->new + s->name_at, name, s->name_len);
			return 0;
		}
	return err_set(e, ERR_LIMIT, "%s: the backing file's name does not fit into a cluster of %zu bytes",
		ed->file->name, s->size);
}

static int write_part(struct edit *ed, const uint8_t *cluster, size_t from, size_t to, struct error *e)
{
	if (from >= to)
		return 0;
	return edit_write_table(ed, cluster + from, to - from, from, "header", e) || edit_sync(ed, e) ? -1 : 0;
}

static int write_start(struct edit *ed, const struct start *s, struct error *e)
{
	uint8_t sector[SECTOR];

	if (edit_sync(ed, e) ||
		(s->name_at >= SECTOR && write_part(ed, s->new, s->name_at, s->name_at + s->name_len, e)))
		return -1;
	memcpy(sector, s->new, SECTOR);
	if (s->end > SECTOR)
		memset(sector + s->essential - END_BYTES, 0, SECTOR - (s->essential - END_BYTES));
	if (write_part(ed, sector, 0, SECTOR, e))
		return -1;
	if (s->end > SECTOR && (write_part(ed, s->new, SECTOR, s->end, e) || write_part(ed, s->new, 0, SECTOR, e)))
		return -1;
	/* Nothing leads to what is left of the old one; it is wiped, so that no name lingers. */
	if (memcmp(s->old + SECTOR, s->new + SECTOR, s->size - SECTOR) == 0)
		return 0;
	return write_part(ed, s->new, SECTOR, s->size, e);
}

static void replace_string(char **to, char *with)
{
	free(*to);
	*to = with;
}

static char *copy_string(const char *from, bool *failed, struct error *e)
{
	char *copy = from && !*failed ? mem_strdup(from, e) : NULL;

	*failed |= from && !copy;
	return copy;
}

/* What was written is what is in memory, too. The new strings may be the old ones. */
static int take_over(struct edit *ed, const struct start *s, const struct header *h,
	const struct header_strings *strings, const struct bitmaps_extension *b, struct error *e)
{
	struct qcow2 *q = ed->q;
	bool failed = false;
	char *name = copy_string(strings->backing_name, &failed, e);
	char *format = copy_string(strings->backing_name ? strings->backing_format : NULL, &failed, e);
	char *data = copy_string(strings->data_file_name, &failed, e);

	memcpy(q->header_bytes, s->new, sizeof q->header_bytes);
	q->h = *h;
	q->bitmap_directory = *b;
	replace_string(&q->backing_name, name);
	replace_string(&q->backing_format, format);
	replace_string(&q->data_file_name, data);
	return failed ? -1 : 0;
}

static int put_start(struct edit *ed, struct start *s, const struct header *wanted,
	const struct header_strings *strings, const struct bitmaps_extension *b, struct error *e)
{
	struct header h = *wanted;
	size_t first, end;

	if (io_read(ed->file, s->old, s->size, 0, e) || compose(ed, s, &h, strings, b, e) ||
		place_name(ed, s, strings->backing_name, e))
		return -1;
	h.backing_offset = s->name_at;
	h.backing_len = (uint32_t)s->name_len;
	header_patch(s->new, &ed->q->h, &h, &first, &end);
	if (write_start(ed, s, e))
		return -1;
	return take_over(ed, s, &h, strings, b, e);
}

int edit_put_start(struct edit *ed, const struct header *h, const struct header_strings *strings,
	const struct bitmaps_extension *b, struct error *e)
{
	struct start s = {.size = ed->g.cluster_size};
	AUTO_FREE uint8_t *old = mem_calloc(1, s.size, "first cluster", e);
	AUTO_FREE uint8_t *new = old ? mem_calloc(1, s.size, "first cluster", e) : NULL;

	if (!new)
		return -1;
	s.old = old;
	s.new = new;
	return put_start(ed, &s, h, strings, b, e);
}

int edit_set_strings(struct edit *ed, const struct header_strings *strings, struct error *e)
{
	if (edit_begin_change(ed, e) || edit_flush(ed, e))
		return -1;
	return edit_put_start(ed, &ed->q->h, strings, &ed->q->bitmap_directory, e);
}
