/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of qcow2/ share about reading: tables of an opened image, one layer's map, names of files.
 */
#ifndef QSNAP_QCOW2_INTERNAL_H
#define QSNAP_QCOW2_INTERNAL_H

#include "qcow2/qcow2.h"

/* ---- tables of an image (snapshot.c, bitmap.c) ---- */

struct snapshot_list {
	struct qcow2_snapshot *entries;
	uint32_t count;
};
/* Reads the snapshot table that `h` leads to. Free with snapshot_list_free, also after a failure. */
int snapshot_list_read(struct snapshot_list *list, struct io *file, const struct header *h, struct error *e);
/* The same for a repair: entries beyond the limits of FORMAT.md §14 are left out at the end, too much extra data are passed over;
 * extra_bytes and bytes of the entry tell what the file has. */
int snapshot_list_read_damaged(struct snapshot_list *list, struct io *file, const struct header *h, struct error *e);
void snapshot_list_free(struct snapshot_list *list);
int bitmap_list_read(struct qcow2 *q, const struct bitmaps_extension *x, struct error *e);
void bitmap_list_free(struct qcow2 *q);

/* Reads what of the fixed header is there: QCOW2_HEADER_V3_BYTES, zeros past a short file's end; *len = bytes in
 * the file. */
int header_read(struct io *file, uint8_t bytes[QCOW2_HEADER_V3_BYTES], size_t *len, struct error *e);
/* Writes what differs between q->h and `h`, one write within the first sector, flushed before and after (FORMAT.md §12.4). q->h is
 * then `h`. */
int header_put(struct qcow2 *q, const struct header *h, struct error *e);
/* QEMU counts in whole sectors, the header's size in bytes. */
static inline uint64_t qcow2_whole_sectors(uint64_t bytes)
{
	return align_down(bytes, 512);
}

/* ---- probing (probe.c) ---- */

/* The format of the file's first bytes; a format that is known but not done here is ERR_UNSUPPORTED. */
int image_probe(struct io *file, enum image_format *out, struct error *e);

/* ---- names of images (name.c, name_json.c, FORMAT.md §10.3) ---- */

/* What a name says: a path, and where it is a json: name perhaps more. */
struct image_name {
	char *path;
	enum image_format format; /* AUTO: not said */
	bool no_backing;          /* "backing": null */
	char *backing;            /* a backing name that overrules the stored one; NULL: none */
	char *data_file;          /* the same for the external data file */
};
int image_name_parse(struct image_name *out, const char *name, struct error *e);
int image_name_parse_json(struct image_name *out, const char *text, struct error *e);
void image_name_clear(struct image_name *n);
/* The scheme of "scheme:rest", its length; 0: a plain path. */
size_t image_name_scheme(const char *name);
/* The format that a backing format name or a json: driver means. */
int image_driver_parse(const char *driver, enum image_format *out, struct error *e);

/* ---- some bytes of a table in memory (table_window.c) ---- */

struct table_window {
	uint8_t *buf; /* owned: free() */
	size_t cap, len;
	uint64_t host; /* of buf[0] */
};
int table_window_init(struct table_window *w, size_t cap, struct error *e);
/* Reads on from `host` of a table that ends at `stop`. */
int table_window_fill(struct table_window *w, struct io *file, uint64_t host, uint64_t stop, const char *what,
	struct error *e);
/* A pointer to the entry at `host` of a table that ends at `stop`, and how many bytes of whole entries follow it. */
static inline int table_window_at(struct table_window *w, struct io *file, uint64_t host, uint64_t stop, size_t entry,
	const char *what, const uint8_t **p, size_t *bytes, struct error *e)
{
	bool inside = host >= w->host && host - w->host + entry <= w->len;

	if (!inside && table_window_fill(w, file, host, stop, what, e))
		return -1;
	*p = w->buf + (host - w->host);
	*bytes = (size_t)min_u64(w->len - (host - w->host), stop - host) / entry * entry;
	return 0;
}

/* ---- the map of one layer (layer_walk.c) ---- */

enum run_kind {
	RUN_UNALLOCATED, /* the layer below decides */
	RUN_ZERO,
	RUN_DATA,
	RUN_COMPRESSED, /* within one cluster */
	RUN_END,        /* past this layer's end: zeros, whatever lies below */
};
struct run {
	uint64_t start, end; /* guest */
	enum run_kind kind;
	bool has_host;
	bool hole; /* ZERO by a hole of the file where a cluster is allocated */
	uint32_t csize;
	uint64_t host; /* of `start`; of the stream's first byte when COMPRESSED */
};

struct layer_walk;
/* `window`: bytes of table read at once. `ask_holes`: holes of the file beneath data become ZERO, where the image seems
 * preallocated. */
int layer_walk_new(struct layer_walk **out, const struct layer *l, size_t window, bool ask_holes, struct error *e);
void layer_walk_free(struct layer_walk *w);
/* The run that holds `guest`; it begins at or before it. It was looked for up to `limit` only, so it may go on
 * after its end. */
int layer_walk_run(struct layer_walk *w, uint64_t guest, uint64_t limit, struct run *out, struct error *e);

#endif
