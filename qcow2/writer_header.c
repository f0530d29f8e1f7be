/* SPDX-License-Identifier: Apache-2.0
 *
 * The first cluster of a new image: header (FORMAT.md §3), extensions (FORMAT.md §4) and the backing file's name behind
 * them (FORMAT.md §10.1). The feature name table is a courtesy and left out where it does not fit.
 */
#include "qcow2/writer_internal.h"

/* Appends one extension; *pos becomes 0 when something did not fit. */
static void add(struct writer *w, uint8_t *cluster, size_t *pos, uint32_t type, const void *data, size_t len)
{
	if (*pos)
		*pos = extension_encode(cluster, w->g.cluster_size, *pos, type, data, (uint32_t)len);
}

static bool build(struct writer *w, uint8_t *cluster, bool with_names)
{
	uint8_t names[1024];
	const struct image_create *c = &w->c;
	memset(cluster, 0, w->g.cluster_size);
	size_t pos = c->version == 2 ? QCOW2_HEADER_V2_BYTES : QCOW2_HEADER_V3_BYTES;
	if (c->backing_name && c->backing_format)
		add(w, cluster, &pos, EXT_BACKING_FORMAT, c->backing_format, strlen(c->backing_format));
	if (c->data_file)
		add(w, cluster, &pos, EXT_DATA_FILE, c->data_file, strlen(c->data_file));
	if (with_names)
		add(w, cluster, &pos, EXT_FEATURE_NAMES, names, feature_table_encode(names, sizeof names));
	if (w->bitmaps_ext.count) {
		uint8_t ext[24];
		add(w, cluster, &pos, EXT_BITMAPS, ext, bitmaps_extension_encode(&w->bitmaps_ext, ext));
	}
	add(w, cluster, &pos, EXT_END, NULL, 0);
	if (!pos)
		return false;
	w->h.backing_len = c->backing_name ? (uint32_t)strlen(c->backing_name) : 0;
	w->h.backing_offset = c->backing_name ? pos : 0;
	if (w->h.backing_len > w->g.cluster_size - pos)
		return false;
	if (c->backing_name)
		memcpy(cluster + pos, c->backing_name, w->h.backing_len);
	header_encode(&w->h, cluster);
	return true;
}

int writer_header_build(struct writer *w, uint8_t *cluster, struct error *e)
{
	if ((w->c.version == 3 && build(w, cluster, true)) || build(w, cluster, false))
		return 0;
	return err_set(e, ERR_USAGE, "the names of backing file and data file do not fit into a cluster of %u bytes",
		w->g.cluster_size);
}
