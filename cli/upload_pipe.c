/* SPDX-License-Identifier: Apache-2.0
 *
 * `upload -`: standard input's bytes are the image. They pass as they are, so a qcow2 image must be one that stands alone, which
 * its header tells.
 */
#include "cli/upload.h"
#include "qcow2/format.h"

#include <errno.h>
#include <unistd.h>

enum { PIECE = 1 << 20, EXTENSIONS_END = 64 << 10 };

/* Fills the buffer; fewer bytes only at the end. -1: errno */
static ssize_t read_full(uint8_t *buf, size_t len, const atomic_bool *cancel)
{
	size_t got = 0;
	while (got < len) {
		ssize_t n = read(STDIN_FILENO, buf + got, len - got);
		if (n < 0 && errno == EINTR && !atomic_load_explicit(cancel, memory_order_relaxed))
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

static int check_alone(const uint8_t *bytes, size_t len, uint64_t *virtual_size, struct error *e)
{
	struct header h;
	if (header_decode(bytes, len, &h, e) < 0)
		return -1;
	const char *why = h.backing_offset                             ? "has a backing file"
			  : h.incompatible & INCOMPAT_DATA_FILE        ? "has an external data file"
			  : h.incompatible & INCOMPAT_EXTENDED_L2      ? "has extended L2 entries"
			  : h.incompatible & ~(uint64_t)INCOMPAT_KNOWN ? "has an unknown feature"
			  : h.incompatible & INCOMPAT_DIRTY            ? "is marked as dirty"
			  : h.incompatible & INCOMPAT_CORRUPT          ? "is marked as corrupt"
			  : h.snapshot_count                           ? "has internal snapshots"
			  : h.crypt_method                             ? "is encrypted"
			  : h.version < 3                              ? "is of version 2"
								       : NULL;
	*virtual_size = h.size;
	return why ? err_set(e, ERR_UNSUPPORTED,
			     "the image %s: upload it from a file, which makes one that stands alone", why)
		   : 0;
}

int upload_pipe(struct upload_args *a, struct io_stream *out, uint64_t *virtual_size, struct error *e)
{
	const bool qcow2 = a->convert.create.format == IMAGE_QCOW2;
	const atomic_bool *cancel = a->store.opts.cancel;
	AUTO_FREE uint8_t *buf = mem_alloc_pages(PIECE, "a buffer", e);
	bool first = true;
	ssize_t n;

	if (!buf)
		return -1;
	do {
		n = read_full(buf, PIECE, cancel);
		if (atomic_load_explicit(cancel, memory_order_relaxed))
			return err_set(e, ERR_CANCELLED, "cancelled");
		if (n < 0)
			return err_sys(e, errno, "standard input");
		if (first && n == 0)
			return err_set(e, ERR_USAGE, "standard input is empty");
		if (first && qcow2 && check_alone(buf, (size_t)n, virtual_size, e) < 0)
			return err_prefix(e, "standard input");
		first = false;
		if (io_stream_append(out, buf, (size_t)n, e) < 0)
			return -1;
	} while (n == PIECE);
	if (!qcow2)
		*virtual_size = out->pos;
	return io_stream_finish(out, e);
}
