/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening one qcow2 file: header (FORMAT.md §3), extensions (§4), backing name (§10.1), then its lists. All of it
 * belongs to one state of the header: where that changes meanwhile (another process takes a snapshot), reading
 * starts again.
 */
#include "qcow2/internal.h"

enum {
	FIRST_READ = 4096, /* enough for every header but one with a strange lot of extensions */
	OPEN_TRIES = 5,
	MAX_FORMAT_NAME = 15,
};

/* The start of the file while it is parsed. */
struct start {
	const uint8_t *bytes;
	size_t len; /* bytes of the first cluster that were read */
	struct extension feature_names, bitmaps;
	bool has_feature_names, has_bitmaps;
};

int header_read(struct io *file, uint8_t bytes[QCOW2_HEADER_V3_BYTES], size_t *len, struct error *e)
{
	*len = (size_t)min_u64(file->size, QCOW2_HEADER_V3_BYTES);
	return io_read(file, bytes, QCOW2_HEADER_V3_BYTES, 0, e);
}

/* A string of the file as ours. A NUL inside would make it mean one thing here and another there. */
static int take_string(char **out, const uint8_t *bytes, size_t len, const char *what, struct error *e)
{
	if (*out)
		return err_set(e, ERR_CORRUPT, "%s is there twice", what);
	if (memchr(bytes, 0, len))
		return err_set(e, ERR_CORRUPT, "%s holds a NUL byte", what);
	*out = mem_printf(e, "%.*s", (int)len, (const char *)bytes);
	return *out ? 0 : -1;
}

static int take_extension(struct qcow2 *q, struct start *s, const struct extension *x, unsigned flags, struct error *e)
{
	switch (x->type) {
	case EXT_BACKING_FORMAT:
		if (x->len > MAX_FORMAT_NAME)
			return err_set(e, ERR_CORRUPT, "backing format name of %u bytes is longer than %d", x->len,
				MAX_FORMAT_NAME);
		return take_string(&q->backing_format, x->data, x->len, "backing format name", e);
	case EXT_FEATURE_NAMES:
		s->feature_names = *x;
		s->has_feature_names = true;
		return 0;
	case EXT_BITMAPS:
		if (s->has_bitmaps)
			return err_set(e, ERR_CORRUPT, "bitmaps extension is there twice");
		s->bitmaps = *x;
		s->has_bitmaps = true;
		return 0;
	case EXT_DATA_FILE:
		return take_string(&q->data_file_name, x->data, x->len, "external data file name", e);
	case EXT_CRYPTO: /* an encrypted image does not come this far */
		return err_set(e, ERR_CORRUPT, "encryption header extension in an image that is not encrypted");
	default:
		if (flags & QCOW2_OPEN_STRICT)
			return err_set(e, ERR_DENIED,
				"unknown header extension 0x%08x is not accepted in an untrusted image", x->type);
		return 0;
	}
}

/* Walks the extensions within `end`; where the start was cut short by us, failure means nothing yet. */
static int read_extensions(struct qcow2 *q, struct start *s, size_t end, unsigned flags, struct error *e)
{
	size_t pos = q->h.header_length;
	struct extension x;
	int more;

	while ((more = extension_next(s->bytes, end, &pos, &x, e)) > 0)
		if (take_extension(q, s, &x, flags, e))
			return -1;
	return more;
}

static int append_feature(char **list, const struct start *s, unsigned bit, struct error *e)
{
	char name[47];
	char *longer;

	if (s->has_feature_names && feature_name(&s->feature_names, 0, bit, name))
		longer = mem_printf(e, "%s%s%s", *list ? *list : "", *list ? ", " : "", name);
	else
		longer = mem_printf(e, "%s%sunknown incompatible feature bit %u", *list ? *list : "", *list ? ", " : "",
			bit);
	if (!longer)
		return -1;
	free(*list);
	*list = longer;
	return 0;
}

static int refuse_unknown_features(const struct qcow2 *q, const struct start *s, struct error *e)
{
	uint64_t unknown = q->h.incompatible & ~(uint64_t)INCOMPAT_KNOWN;
	AUTO_FREE char *list = NULL;

	if (!unknown)
		return 0;
	for (unsigned bit = 0; bit < 64; bit++)
		if ((unknown >> bit & 1) && append_feature(&list, s, bit, e))
			return -1;
	return err_set(e, ERR_UNSUPPORTED, "Unsupported qcow2 feature(s): %s", list);
}

static int refuse_untrusted(const struct qcow2 *q, struct error *e)
{
	if (q->h.backing_offset)
		return err_set(e, ERR_DENIED, "a backing file is not accepted in an untrusted image");
	if ((q->h.incompatible & INCOMPAT_DATA_FILE) || q->data_file_name)
		return err_set(e, ERR_DENIED, "an external data file is not accepted in an untrusted image");
	if (q->h.incompatible & INCOMPAT_CORRUPT)
		return err_set(e, ERR_DENIED, "an image marked as corrupt is not accepted when untrusted");
	return 0;
}

/* `s` holds the first cluster up to s->len; 1: more of it is needed. */
static int parse_start(struct qcow2 *q, struct start *s, unsigned flags, struct error *e)
{
	bool cut = s->len < q->g.cluster_size && s->len < q->file->size;
	size_t end = s->len;

	if (q->h.backing_offset)
		end = (size_t)min_u64(end, q->h.backing_offset);
	if (q->h.backing_offset && q->h.backing_offset + q->h.backing_len > s->len)
		return cut ? 1 : err_set(e, ERR_CORRUPT, "backing file name lies past the end of the file");
	if (read_extensions(q, s, end, flags, e))
		return cut && e->code == ERR_CORRUPT ? 1 : -1;
	if (q->h.backing_offset && q->h.backing_len &&
		take_string(&q->backing_name, s->bytes + q->h.backing_offset, q->h.backing_len, "backing file name", e))
		return -1;
	return 0;
}

static void forget_strings(struct qcow2 *q)
{
	free(STEAL(q->backing_name));
	free(STEAL(q->backing_format));
	free(STEAL(q->data_file_name));
}

static int read_lists(struct qcow2 *q, const struct start *s, unsigned flags, struct error *e)
{
	struct snapshot_list list;
	struct bitmaps_extension b;

	if (flags & QCOW2_OPEN_REPAIR ? snapshot_list_read_damaged(&list, q->file, &q->h, e)
				      : snapshot_list_read(&list, q->file, &q->h, e)) {
		snapshot_list_free(&list);
		return -1;
	}
	q->snapshots = list.entries;
	q->snapshot_count = list.count;
	if (!s->has_bitmaps || !(q->h.autoclear & AUTOCLEAR_BITMAPS))
		return 0;
	if (bitmaps_extension_decode(&s->bitmaps, q->g.cluster_size, &b, e))
		return -1;
	return bitmap_list_read(q, &b, e);
}

static int read_start(struct qcow2 *q, size_t want, unsigned flags, struct error *e)
{
	struct start s = {.len = (size_t)min_u64(want, min_u64(q->g.cluster_size, q->file->size))};
	AUTO_FREE uint8_t *bytes = mem_calloc(1, s.len, "first cluster", e);
	struct error unknown;
	int more;

	if (!bytes || io_read(q->file, bytes, s.len, 0, e))
		return -1;
	s.bytes = bytes;
	more = parse_start(q, &s, flags, e);
	if (more > 0) {
		forget_strings(q);
		return 1;
	}
	/* An unknown feature may have changed what the rest means: it is named before anything else is complained
	 * about. */
	if (refuse_unknown_features(q, &s, &unknown)) {
		*e = unknown;
		return -1;
	}
	if (more || ((flags & QCOW2_OPEN_STRICT) && refuse_untrusted(q, e)))
		return -1;
	return read_lists(q, &s, flags, e);
}

static int open_once(struct qcow2 *q, unsigned flags, struct error *e)
{
	size_t len;
	int more;

	if (header_read(q->file, q->header_bytes, &len, e))
		return -1;
	if (!qcow2_probe(q->header_bytes, len) && (len < 4 || get_be32(q->header_bytes) != QCOW2_MAGIC))
		return err_set(e, ERR_CORRUPT, "Image is not in qcow2 format");
	if (flags & QCOW2_OPEN_REPAIR ? header_decode_damaged(q->header_bytes, len, &q->h, e)
				      : header_decode(q->header_bytes, len, &q->h, e))
		return -1;
	if (q->h.crypt_method)
		return err_set(e, ERR_UNSUPPORTED, "encrypted images are not supported (encryption method %u)",
			q->h.crypt_method);
	header_geometry(&q->h, &q->g);
	q->l1_offset = q->h.l1_offset;
	q->l1_entries = q->h.l1_entries;
	q->size = qcow2_whole_sectors(q->h.size);
	q->snapshot = -1;
	more = read_start(q, FIRST_READ, flags, e);
	if (more > 0)
		more = read_start(q, q->g.cluster_size, flags, e);
	return more;
}

/* 1: the header is not the one that we read. */
static int header_changed(const struct qcow2 *q, struct error *e)
{
	uint8_t now[QCOW2_HEADER_V3_BYTES];
	size_t len;

	if (header_read(q->file, now, &len, e))
		return -1;
	return memcmp(now, q->header_bytes, sizeof now) != 0;
}

int qcow2_open(struct qcow2 **out, struct io *file, unsigned flags, struct error *e)
{
	for (unsigned i = 0; i < OPEN_TRIES; i++) {
		struct qcow2 *q = mem_calloc(1, sizeof *q, "opened image", e);
		struct error first;
		int failed, changed;

		if (!q)
			return -1;
		q->file = file;
		failed = open_once(q, flags, &first);
		changed = header_changed(q, e);
		if (!failed && !changed) {
			*out = q;
			return 0;
		}
		qcow2_close(q);
		if (!changed)
			*e = first;
		if (changed <= 0)
			return -1;
	}
	return err_set(e, ERR_CHANGED, "the header changed %d times while it was read", OPEN_TRIES);
}

void qcow2_close(struct qcow2 *q)
{
	struct snapshot_list list;

	if (!q)
		return;
	list = (struct snapshot_list){q->snapshots, q->snapshot_count};
	snapshot_list_free(&list);
	bitmap_list_free(q);
	forget_strings(q);
	free(q);
}
