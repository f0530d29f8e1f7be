/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream as target: raw and uncompressed qcow2 go straight through, compressed qcow2 by a spool or twice over the data.
 */
#include "convert/internal.h"

/* The header of a qcow2 stream comes first, so its contents must be known: from a dry run over metadata, or over the data
 * itself (--two-pass). */
static int stream_qcow2(struct conversion *c, struct io_stream *stream, struct io *out, struct error *e)
{
	struct io *nowhere;
	uint64_t total = c->plan.total;
	bool twice = c->opts->compress;
	AUTO_FREE uint8_t *header = mem_calloc(1, c->create.cluster_size, "header", e);
	if (!header || io_null_new(&nowhere, e) < 0)
		return -1;
	c->work.by_metadata = !twice;
	struct qcow2_pass dry = {.file = nowhere,
		.keep_header = header,
		.ordered = true,
		.layout_only = !twice,
		.progress_total = twice ? 2 * total : 0};
	/* the layout run is not what the user waits for: no progress of its own */
	struct progress *shown = c->opts->progress;
	struct convert_opts quiet = *c->opts;
	struct progress cancel_only = {.cancel = shown ? shown->cancel : NULL};
	if (!twice)
		quiet.progress = &cancel_only;
	quiet.warn = NULL;
	c->work.opts = &quiet;
	c->plan.salvage = c->opts->salvage ? &quiet : NULL;
	int r = pass_qcow2(c, &dry, e);
	io_close(nowhere);
	c->work.opts = c->opts;
	c->plan.salvage = c->opts->salvage ? c->opts : NULL;
	c->result->read_bytes = c->result->salvaged_errors = 0;
	if (r < 0 || io_stream_expect(stream, c->result->target_bytes, e) < 0)
		return -1;
	struct qcow2_pass wet = {.file = out,
		.header_first = header,
		.ordered = true,
		.done = twice ? total : 0,
		.progress_total = twice ? 2 * total : total};
	return pass_qcow2(c, &wet, e);
}

/* The second half of the progress: a network may take longer than the compression. */
static int send_spool(struct conversion *c, struct io *out, struct io *spool, uint64_t bytes, struct error *e)
{
	enum { PIECE = 4 << 20 };
	const uint64_t half = c->plan.total;
	for (uint64_t at = 0, n; at < bytes; at += n) {
		n = min_u64(PIECE, bytes - at);
		if (progress_cancelled(c->opts->progress))
			return err_set(e, ERR_CANCELLED, "cancelled");
		if (convert_copy(out, at, spool, at, n, e) < 0)
			return -1;
		progress_report(c->opts->progress, half + (uint64_t)((double)half * (double)(at + n) / (double)bytes),
			2 * half);
	}
	return 0;
}

/* Compressed sizes are known only afterwards: the image is made in an unnamed file and sent from there. */
static int spool_qcow2(struct conversion *c, struct io_stream *stream, struct io *out, struct error *e)
{
	struct io *spool;
	if (io_spool_new(&spool, c->opts->spool_dir, e) < 0)
		return -1;
	struct qcow2_pass pass = {.file = spool, .progress_total = 2 * c->plan.total};
	int r = pass_qcow2(c, &pass, e);
	c->result->spool_bytes = c->result->target_bytes;
	if (r == 0)
		r = io_stream_expect(stream, c->result->target_bytes, e);
	if (r == 0)
		r = send_spool(c, out, spool, c->result->target_bytes, e);
	io_close(spool);
	return r;
}

static int stream_raw(struct conversion *c, struct io_stream *stream, struct io *out, struct error *e)
{
	return io_stream_expect(stream, c->plan.total, e) < 0 ? -1 : pass_raw(c, out, true, e);
}

static int stream_passes(struct conversion *c, struct io_stream *stream, struct error *e)
{
	AUTO_IO struct io *out = NULL;
	if (io_from_stream(&out, stream, e) < 0)
		return -1;
	c->new_file = true;
	c->plan.clone = false;
	int r = c->create.format == IMAGE_RAW             ? stream_raw(c, stream, out, e)
		: c->opts->compress && !c->opts->two_pass ? spool_qcow2(c, stream, out, e)
							  : stream_qcow2(c, stream, out, e);
	c->result->target_bytes = stream->pos;
	return r;
}

int convert_to_stream(struct conversion *c, struct error *e)
{
	const struct convert_opts *o = c->opts;
	struct io_stream *pipe = NULL, *hashed = NULL;
	struct hash *hash = NULL;
	if (c->create.prealloc > PREALLOC_METADATA || c->create.data_file)
		return err_set(e, ERR_USAGE, "a stream takes no preallocation and no data file");
	if (o->keep_snapshots || o->bitmaps)
		return err_set(e, ERR_USAGE, "a stream takes neither snapshots nor bitmaps");
	int r = o->stream ? 0 : io_stream_fd(&pipe, o->stream_fd, "standard output", e);
	struct io_stream *to = o->stream ? o->stream : pipe;
	if (r == 0 && o->progress)
		to->cancel = o->progress->cancel;
	if (r == 0 && o->hash) {
		r = hash_new(&hash, o->hash, e) < 0 ? -1 : hash_stream_new(&hashed, to, hash, e);
		to = hashed;
	}
	if (r == 0)
		r = stream_passes(c, to, e);
	if (r == 0)
		r = convert_verify(c, e);
	if (r == 0)
		r = io_stream_finish(to, e);
	if (r == 0 && hash)
		r = hash_finish(hash, c->result->digest, e);
	io_stream_close(hashed);
	io_stream_close(pipe);
	hash_free(hash);
	return r;
}
