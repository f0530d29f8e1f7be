/* SPDX-License-Identifier: Apache-2.0
 *
 * A target that exists already: nobody else may be using it, and with -n a qcow2 image keeps its own options.
 */
#include "convert/internal.h"

/* Whether some cluster of the image itself (not of its backing files) holds anything. */
static int is_empty(struct chain *chain, bool *empty, struct error *e)
{
	struct walk *walk;
	*empty = true;
	if (walk_new(&walk, chain, 1, WALK_FILE_HOLES, e) < 0)
		return -1;
	int r = 0;
	for (uint64_t at = 0; r == 0 && *empty && at < chain->size;) {
		struct extent x;
		r = walk_extent(walk, at, chain->size, &x, e);
		*empty = r == 0 && (x.kind == EXTENT_ABSENT || (x.kind == EXTENT_ZERO && x.has_host));
		at += r == 0 ? x.len : 0;
	}
	walk_free(walk);
	return r;
}

/* The new image replaces the whole old one, so the old one must have nothing that would be lost. */
static int check_replaceable(struct chain *chain, uint64_t source_size, struct error *e)
{
	const struct qcow2 *q = chain->layers[0].q;
	bool empty;
	if (q->snapshot_count || q->bitmap_count)
		return err_set(e, ERR_UNSUPPORTED, "%s: has internal snapshots or bitmaps, which -n would lose",
			chain->layers[0].path);
	if (q->size < source_size)
		return err_set(e, ERR_USAGE, "%s: the target is smaller (%llu bytes) than the source (%llu)",
			chain->layers[0].path, (unsigned long long)q->size, (unsigned long long)source_size);
	if (q->size == source_size && !q->backing_name)
		return 0;
	if (is_empty(chain, &empty, e) < 0)
		return -1;
	return empty ? 0
		     : err_set(e, ERR_UNSUPPORTED,
			       "%s: -n into an image that holds data needs one of the source's size and "
			       "without a backing file",
			       chain->layers[0].path);
}

int existing_qcow2(struct chain **out, const char *path, struct image_create *create, struct error *e)
{
	AUTO_CHAIN struct chain *chain = NULL;
	struct chain_opts opts = {
		.format = IMAGE_QCOW2, .no_backing = true, .inspect = true, .write = true, .lock = IO_LOCK_WRITE};
	if (chain_open(&chain, path, &opts, e) < 0 || check_replaceable(chain, create->size, e) < 0)
		return -1;
	const struct qcow2 *q = chain->layers[0].q;
	create->size = q->size;
	create->version = q->h.version;
	create->cluster_size = q->g.cluster_size;
	create->refcount_bits = 1u << q->h.refcount_order;
	create->extended_l2 = q->h.incompatible & INCOMPAT_EXTENDED_L2;
	create->lazy_refcounts = q->h.compatible & COMPAT_LAZY_REFCOUNTS;
	create->compression = q->h.compression_type;
	create->backing_name = q->backing_name;
	create->backing_format = q->backing_format;
	create->data_file = q->data_file_name;
	create->data_file_raw = q->h.autoclear & AUTOCLEAR_DATA_FILE_RAW;
	*out = STEAL(chain);
	return 0;
}
