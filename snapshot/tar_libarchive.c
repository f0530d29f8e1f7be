/* SPDX-License-Identifier: Apache-2.0
 *
 * tar by libarchive: pax for what is long or large, no compression, no other format. Nothing is ever unpacked by it: names and bytes
 * are handed over, and what is no plain file is an error.
 */
#include "snapshot/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, TICK_MS = 200 };

struct tar {
	struct archive *a;
	struct archive_entry *entry; /* writing */
	struct io_stream *to;
	int fd; /* reading */
	const atomic_bool *cancel;
	uint8_t *block;
	struct error why; /* what a callback of ours failed with */
	bool writes;
};

/* What ours said, else what libarchive says. */
static int fail(const struct tar *t, struct error *e)
{
	if (t->why.code)
		*e = t->why;
	else
		err_fill(e, t->writes ? ERR_IO : ERR_CORRUPT, "tar: %s",
			t->a && archive_error_string(t->a) ? archive_error_string(t->a) : "no memory");
	return -1;
}

static void close_tar(struct tar *t)
{
	if (!t)
		return;
	if (t->a && t->writes)
		archive_write_free(t->a);
	else if (t->a)
		archive_read_free(t->a);
	archive_entry_free(t->entry);
	free(t->block);
	free(t);
}

/* ---- writing ---- */

static la_ssize_t give(struct archive *a, void *ctx, const void *bytes, size_t len)
{
	struct tar *t = ctx;

	(void)a;
	if (t->why.code) /* libarchive goes on to end what failed */
		return -1;
	return io_stream_append(t->to, bytes, len, &t->why) ? -1 : (la_ssize_t)len;
}

static int create(struct tar **out, struct io_stream *to, struct error *e)
{
	struct tar *t = mem_calloc(1, sizeof *t, "tar", e);

	if (!t)
		return -1;
	*t = (struct tar){.a = archive_write_new(), .entry = archive_entry_new(), .to = to, .fd = -1, .writes = true};
	if (!t->a || !t->entry || archive_write_set_format_pax_restricted(t->a) != ARCHIVE_OK ||
		archive_write_add_filter_none(t->a) != ARCHIVE_OK ||
		archive_write_set_bytes_in_last_block(t->a, 1) != ARCHIVE_OK ||
		archive_write_open(t->a, t, NULL, give, NULL) != ARCHIVE_OK) {
		fail(t, e);
		close_tar(t);
		return -1;
	}
	*out = t;
	return 0;
}

static int add(struct tar *t, const char *name, uint64_t bytes, struct error *e)
{
	archive_entry_clear(t->entry);
	archive_entry_set_pathname(t->entry, name);
	archive_entry_set_filetype(t->entry, AE_IFREG);
	archive_entry_set_perm(t->entry, 0600);
	archive_entry_set_size(t->entry, (la_int64_t)bytes);
	return archive_write_header(t->a, t->entry) == ARCHIVE_OK ? 0 : fail(t, e);
}

static int write_bytes(struct tar *t, const void *buf, size_t len, struct error *e)
{
	return archive_write_data(t->a, buf, len) == (la_ssize_t)len ? 0 : fail(t, e);
}

static int finish(struct tar *t, struct error *e)
{
	return archive_write_close(t->a) == ARCHIVE_OK ? 0 : fail(t, e);
}

/* ---- reading ---- */

/* A pipe's writer may be slow, and a cancel must be heard meanwhile. */
static la_ssize_t get(struct archive *a, void *ctx, const void **bytes)
{
	struct tar *t = ctx;
	ssize_t n;

	(void)a;
	for (;;) {
		struct pollfd p = {.fd = t->fd, .events = POLLIN};

		if (t->cancel && atomic_load(t->cancel)) {
			err_fill(&t->why, ERR_CANCELLED, "cancelled");
			return -1;
		}
		if (poll(&p, 1, TICK_MS) <= 0)
			continue;
		n = read(t->fd, t->block, BLOCK);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			err_fill_sys(&t->why, errno, "reading a tar stream");
		*bytes = t->block;
		return n;
	}
}

static int open_tar(struct tar **out, int fd, const atomic_bool *cancel, struct error *e)
{
	struct tar *t = mem_calloc(1, sizeof *t, "tar", e);

	if (!t)
		return -1;
	*t = (struct tar){
		.a = archive_read_new(), .fd = fd, .cancel = cancel, .block = mem_alloc_pages(BLOCK, "tar", e)};
	if (!t->a || !t->block || archive_read_support_format_tar(t->a) != ARCHIVE_OK ||
		archive_read_support_filter_none(t->a) != ARCHIVE_OK ||
		archive_read_open(t->a, t, NULL, get, NULL) != ARCHIVE_OK) {
		fail(t, e);
		close_tar(t);
		return -1;
	}
	*out = t;
	return 0;
}

static int next(struct tar *t, const char **name, uint64_t *bytes, struct error *e)
{
	struct archive_entry *entry;
	int rc = archive_read_next_header(t->a, &entry);

	if (rc == ARCHIVE_EOF)
		return 0;
	if (rc != ARCHIVE_OK)
		return fail(t, e);
	*name = archive_entry_pathname(entry);
	if (!*name)
		return err_set(e, ERR_CORRUPT, "tar: something without a name");
	if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) ||
		archive_entry_symlink(entry) || archive_entry_sparse_count(entry))
		return err_set(e, ERR_CORRUPT, "tar: something in it is no plain file");
	if (!archive_entry_size_is_set(entry) || archive_entry_size(entry) < 0)
		return err_set(e, ERR_CORRUPT, "tar: a file without a size");
	*bytes = (uint64_t)archive_entry_size(entry);
	return 1;
}

static int read_bytes(struct tar *t, void *buf, size_t len, struct error *e)
{
	for (size_t done = 0; done < len;) {
		la_ssize_t n = archive_read_data(t->a, (uint8_t *)buf + done, len - done);

		if (n < 0)
			return fail(t, e);
		if (!n)
			return err_set(e, ERR_CORRUPT, "tar: a file ends early");
		done += (size_t)n;
	}
	return 0;
}

const struct tar_ops *qsnap_tar_ops(void)
{
	static const struct tar_ops ops = {.create = create,
		.add = add,
		.write = write_bytes,
		.finish = finish,
		.open = open_tar,
		.next = next,
		.read = read_bytes,
		.close = close_tar};

	return &ops;
}
