/* SPDX-License-Identifier: Apache-2.0
 *
 * New empty images: a qcow2 image is a writer that gets no data; a raw one is a length.
 */
#include "qcow2/writer.h"

static int create_raw(const struct image_create *c, struct io *file, struct error *e)
{
	if (file->caps & IO_IS_DEVICE) {
		if (c->size > file->size)
			return err_set(e, ERR_USAGE, "%s: the device has only %llu bytes", file->name,
				(unsigned long long)file->size);
	} else if (io_truncate(file, c->size, e) < 0) {
		return -1;
	}
	if (c->prealloc == PREALLOC_FALLOC)
		return io_file_reserve(file, 0, c->size, e);
	if (c->prealloc == PREALLOC_FULL)
		return io_write_zeros(file, 0, c->size, e);
	return 0;
}

int image_create_run(const struct image_create *c, struct io *file, struct io *data, struct error *e)
{
	if (image_create_check(c, e) < 0)
		return -1;
	if (c->format == IMAGE_RAW)
		return create_raw(c, file, e);
	struct writer *w;
	if (writer_new(&w, c, file, data, e) < 0)
		return -1;
	int r = writer_finish(w, e);
	writer_free(w);
	return r;
}
