/* SPDX-License-Identifier: Apache-2.0
 *
 * An image's version and options changed (FORMAT.md §3): all that forbids it is looked at first, then one thing after the other, each
 * of which leaves a whole image.
 * order of a downgrade: zero clusters of all states become what version 2 can say, flush; the header in its old length, with the
 * extensions behind it, one sector.
 */
#include "qcow2/snapshot_edit.h"

/* ---- version 3 to 2 ---- */

static int refuse_snapshots(const struct edit *ed, struct error *e)
{
	for (uint32_t i = 0; i < ed->q->snapshot_count; i++) {
		const struct qcow2_snapshot *s = &ed->q->snapshots[i];

		if (s->entry.vm_state_bytes || s->disk_size != ed->q->size)
			return err_set(e, ERR_UNSUPPORTED, "Internal snapshots prevent downgrade of image: '%s' has %s",
				s->name, s->entry.vm_state_bytes ? "VM state" : "another size than the disk");
	}
	return 0;
}

static int refuse_downgrade(struct edit *ed, const struct image_amend *a, struct error *e)
{
	const struct header *h = &ed->q->h;

	if (h->version < 3)
		return 0;
	if (a->refcount_bits != 16)
		return err_set(e, ERR_UNSUPPORTED, "compat=0.10 requires refcount_bits=16");
	if (h->incompatible & INCOMPAT_DATA_FILE)
		return err_set(e, ERR_UNSUPPORTED, "Cannot downgrade an image with a data file");
	if (h->incompatible)
		return err_set(e, ERR_UNSUPPORTED, "Cannot downgrade an image with incompatible features 0x%llx set",
			(unsigned long long)h->incompatible);
	if (ed->q->bitmap_count)
		return err_set(e, ERR_UNSUPPORTED,
			"Cannot downgrade an image with bitmaps: version 2 has none (remove them first)");
	return refuse_snapshots(ed, e);
}

static int put_version(struct edit *ed, struct header *h, struct error *e)
{
	const struct header_strings s = {ed->q->backing_name, ed->q->backing_format, ed->q->data_file_name};

	return edit_put_start(ed, h, &s, &ed->q->bitmap_directory, e);
}

static int downgrade(struct edit *ed, struct error *e)
{
	struct header h;

	if (edit_expand_zeros(ed, e) || edit_flush(ed, e))
		return -1;
	h = ed->q->h;
	h.version = 2;
	h.header_length = QCOW2_HEADER_V2_BYTES;
	h.compatible = h.autoclear = 0;
	return put_version(ed, &h, e);
}

/* ---- version 2 to 3 ---- */

/* Version 3 wants the size of the disk in every entry of the snapshot table. */
static int complete_snapshots(struct edit *ed, struct error *e)
{
	struct snapshot_edit s = {.ed = ed};
	bool complete = true, switched = false;
	int failed;

	for (uint32_t i = 0; i < ed->q->snapshot_count; i++)
		complete &= ed->q->snapshots[i].entry.has_disk_size;
	if (complete)
		return 0;
	failed = snapshot_table_make(&s, NOWHERE, NULL, e) || snapshot_table_place(&s, e) || edit_flush(ed, e) ||
		 snapshot_table_switch(&s, &ed->q->h, &switched, e);
	free(s.table);
	return failed ? -1 : 0;
}

static int upgrade(struct edit *ed, struct error *e)
{
	struct header h;

	if (complete_snapshots(ed, e) || edit_flush(ed, e))
		return -1;
	h = ed->q->h;
	h.version = 3;
	h.header_length = QCOW2_HEADER_V3_BYTES;
	h.incompatible = h.compatible = h.autoclear = 0;
	h.refcount_order = 4;
	h.compression_type = QCOW2_COMPRESSION_DEFLATE;
	return put_version(ed, &h, e);
}

/* ---- the rest ---- */

static int refuse(struct edit *ed, const struct image_amend *a, struct error *e)
{
	const struct header *h = &ed->q->h;
	bool raw = h->autoclear & AUTOCLEAR_DATA_FILE_RAW;

	if (a->version < 3 && a->lazy_refcounts)
		return err_set(e, ERR_USAGE,
			"Lazy refcounts only supported with compatibility level 1.1 and above "
			"(use compat=1.1 or greater)");
	if (a->data_file && !(h->incompatible & INCOMPAT_DATA_FILE))
		return err_set(e, ERR_USAGE, "data-file can only be set for images that use an external data file");
	if (a->data_file_raw && !raw)
		return err_set(e, ERR_USAGE, "data-file-raw cannot be set on existing images");
	if (a->size % 512)
		return err_set(e, ERR_USAGE, "The new size must be a multiple of 512");
	return a->version < 3 ? refuse_downgrade(ed, a, e) : 0;
}

static int put_flags(struct edit *ed, const struct image_amend *a, struct error *e)
{
	struct header h = ed->q->h;

	if (h.version < 3)
		return 0;
	h.compatible &= ~(uint64_t)COMPAT_LAZY_REFCOUNTS;
	h.compatible |= a->lazy_refcounts ? COMPAT_LAZY_REFCOUNTS : 0;
	if (!a->data_file_raw)
		h.autoclear &= ~(uint64_t)AUTOCLEAR_DATA_FILE_RAW;
	return edit_put_header(ed, &h, e);
}

int edit_amend(struct edit *ed, const struct image_amend *a, struct error *e)
{
	struct header_strings s = {ed->q->backing_name, ed->q->backing_format, a->data_file};

	if (refuse(ed, a, e) || edit_begin_change(ed, e) || edit_flush(ed, e))
		return -1;
	if (a->version >= 3 && ed->q->h.version < 3 && upgrade(ed, e))
		return -1;
	if (a->refcount_bits != 1u << ed->g.refcount_order && edit_set_refcount_bits(ed, a->refcount_bits, e))
		return -1;
	if (put_flags(ed, a, e) || (a->data_file && edit_set_strings(ed, &s, e)))
		return -1;
	if (a->size != ed->q->size && edit_resize(ed, a->size, PREALLOC_OFF, e))
		return -1;
	return a->version < 3 && ed->q->h.version >= 3 ? downgrade(ed, e) : 0;
}
