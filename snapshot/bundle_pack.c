/* SPDX-License-Identifier: Apache-2.0
 *
 * A bundle as a tar stream: the manifest, then its files as it lists them.
 */
#include "snapshot/bundle.h"
#include "snapshot/tar.h"

struct packing {
	const struct bundle *b;
	const struct vm *vm;
	const char *folder;
};

static int stream_file(const struct packing *x, const struct tar_ops *ops, struct tar *tar, const struct bundle_file *f,
	struct error *e)
{
	enum { PIECE = 1 << 20 };
	AUTO_FREE char *path = mem_printf(e, "%s/%s", x->folder, f->name);
	AUTO_FREE uint8_t *buf = mem_alloc_pages(PIECE, "a file", e);
	AUTO_IO struct io *file = NULL;

	if (!path || !buf || io_file_open(&file, path, 0, e) || ops->add(tar, f->name, f->bytes, e))
		return -1;
	for (uint64_t at = 0; at < f->bytes;) {
		size_t len = (size_t)min_u64(PIECE, f->bytes - at);

		if (vm_go_on(x->vm, e))
			return -1;
		if (io_read(file, buf, len, at, e) || ops->write(tar, buf, len, e))
			return -1;
		at += len;
		progress_report(x->vm->opts.voice.progress, at, f->bytes);
	}
	return 0;
}

static int stream_all(const struct packing *x, const char *text, size_t len, struct io_stream *to, struct error *e)
{
	const struct tar_ops *ops = tar_ops(e);
	struct tar *tar;

	if (!ops || ops->create(&tar, to, e))
		return -1;
	int failed = ops->add(tar, BUNDLE_MANIFEST, len, e) || ops->write(tar, text, len, e);

	for (unsigned i = 0; i < x->b->file_count && !failed; i++)
		failed = stream_file(x, ops, tar, &x->b->files[i], e);
	failed = failed || ops->finish(tar, e) || io_stream_finish(to, e);
	ops->close(tar);
	return failed ? -1 : 0;
}

int bundle_pack(const struct bundle *b, const struct vm *vm, const char *folder, const char *text, size_t len, int fd,
	const char *to, struct error *e)
{
	const struct packing x = {.b = b, .vm = vm, .folder = folder};
	const struct progress *p = vm->opts.voice.progress;
	struct io_stream *stream;

	vm_step(vm, "pack", NULL);
	if (io_stream_fd(&stream, fd, to, e))
		return -1;
	stream->cancel = p ? p->cancel : NULL;
	int failed = stream_all(&x, text, len, stream, e);

	io_stream_close(stream);
	return failed;
}
