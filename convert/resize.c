/* SPDX-License-Identifier: Apache-2.0
 *
 * resize: another size for a disk, raw or qcow2, in place.
 */
#include "convert/internal.h"

/* order: what is reserved or written behind the old end, then the length; a shorter file in one step */
static int resize_raw(struct layer *l, uint64_t size, enum prealloc prealloc, struct error *e)
{
	uint64_t old = l->file->size;

	if (prealloc == PREALLOC_METADATA)
		return err_set(e, ERR_UNSUPPORTED, "Unsupported preallocation mode: metadata");
	if (size > old && prealloc == PREALLOC_FALLOC && io_file_reserve(l->file, old, size - old, e))
		return -1;
	if (size > old && prealloc == PREALLOC_FULL && io_write_zeros(l->file, old, size - old, e)) {
		struct error unsaid;

		(void)io_truncate(l->file, old, &unsaid);
		return -1;
	}
	if (size != l->file->size && io_truncate(l->file, size, e))
		return -1;
	l->size = align_up(size, 512);
	return io_flush(l->file, e);
}

int convert_resize(struct chain *image, uint64_t size, enum prealloc prealloc, struct progress *progress,
	struct error *e)
{
	struct edited top;
	struct error unsaid;
	int failed;

	if (!image->layers[0].q)
		return resize_raw(&image->layers[0], size, prealloc, e);
	if (edited_open(&top, image, 0, progress, e))
		return -1;
	failed = edit_resize(top.ed, size, prealloc, e) || edit_flush(top.ed, e);
	return edited_close(&top, failed ? &unsaid : e) || failed ? -1 : 0;
}
