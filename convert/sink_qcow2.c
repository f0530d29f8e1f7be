/* SPDX-License-Identifier: Apache-2.0
 *
 * A new qcow2 target (FORMAT.md §15): commit asks the writer where each piece goes, in guest order; the bytes are then
 * written by a worker, or at once where the target is a stream.
 *
 * order: the writer puts metadata behind the data that it maps; the header comes last.
 */
#include "convert/internal.h"

static const uint64_t grow_bytes = 256 << 20;

struct qcow2_sink {
	struct sink base;
	struct writer *writer;
	struct io *data;
	struct share *share;
	bool ordered, one_writer, external_data, copy_range, layout_only;
	uint64_t cluster_size;
	atomic_ullong written;
};

/* A cluster of an earlier state; when its refcount can go no higher, its bytes are stored once more. */
static int place_shared(struct qcow2_sink *s, struct piece *p, struct error *e)
{
	uint64_t host, bytes = p->size ? p->size : s->cluster_size;
	int r = p->size ? writer_share_compressed(s->writer, p->guest, p->size, p->host, e)
			: writer_share(s->writer, p->guest, p->len, p->host, e);
	if (r != 1)
		return r;
	r = p->size ? writer_compressed(s->writer, p->guest, p->size, &host, e)
		    : writer_data(s->writer, p->guest, p->len, &host, e);
	return r < 0 ? -1 : convert_copy(s->data, host, s->data, p->host, bytes, e);
}

/* Where the piece goes. 1: there are bytes to write; 0: none. */
static int place_piece(struct qcow2_sink *s, struct piece *p, struct error *e)
{
	switch (p->kind) {
	case PIECE_ABSENT:
		return 0;
	case PIECE_ZERO: {
		int r = writer_zero(s->writer, p->guest, p->len, &p->host, e);
		if (r == 1) /* version 2 has no zero clusters: real ones */
			return io_zero(s->data, p->host, align_up(p->len, s->cluster_size), 0, e);
		return r;
	}
	case PIECE_DATA:
		p->size = s->external_data ? p->len : align_up(p->len, s->cluster_size);
		return writer_data(s->writer, p->guest, p->len, &p->host, e) < 0 ? -1 : 1;
	case PIECE_COMPRESSED:
		return writer_compressed(s->writer, p->guest, p->size, &p->host, e) < 0 ? -1 : 1;
	case PIECE_SHARED:
		return place_shared(s, p, e);
	}
	return err_set(e, ERR_USAGE, "piece of kind %d", p->kind);
}

/* Neighbouring streams lie one behind the other both in the job and in the file: one write. */
static int write_pieces(struct qcow2_sink *s, const struct piece *p, unsigned count, struct error *e)
{
	for (unsigned i = 0; i < count;) {
		if (p[i].kind != PIECE_DATA && p[i].kind != PIECE_COMPRESSED) {
			i++;
			continue;
		}
		uint64_t len = p[i].size;
		unsigned next = i + 1;
		while (next < count && p[next].kind == p[i].kind && p[next].host == p[i].host + len &&
			p[next].bytes == p[i].bytes + len)
			len += p[next++].size;
		if (io_write(s->data, p[i].bytes, len, p[i].host, e) < 0)
			return -1;
		atomic_fetch_add_explicit(&s->written, len, memory_order_relaxed);
		i = next;
	}
	return 0;
}

/* Remembers where the job's clusters went, for the states to come. */
static int note_places(struct qcow2_sink *s, const struct job *job, struct error *e)
{
	unsigned first = 0;
	for (unsigned i = 0; i < job->piece_count; i++) {
		const struct piece *p = &job->pieces[i];
		if (p->kind != PIECE_DATA && p->kind != PIECE_COMPRESSED)
			continue;
		for (uint64_t at = 0; at < p->len; at += s->cluster_size) {
			uint64_t start = p->guest + at, end = min_u64(start + s->cluster_size, p->guest + p->len);
			struct share_place place = {p->host + at, p->kind == PIECE_COMPRESSED ? p->size : 0};
			if (share_add(s->share, share_key(job->extents, job->extent_count, &first, start, end), place,
				    e) < 0)
				return -1;
		}
	}
	return 0;
}

/* Pages can be filled inside the file only. It grows in large steps, because for each of them all writers are waited for; the
 * writer sets the true length at the end. */
static int grow(struct qcow2_sink *s, const struct job *job, struct error *e)
{
	uint64_t end = 0;
	for (unsigned i = 0; i < job->piece_count; i++)
		if (job->pieces[i].kind == PIECE_DATA)
			end = job->pieces[i].host + job->pieces[i].size;
	if (!(s->data->caps & IO_FILLS) || end <= s->data->size)
		return 0;
	return io_truncate(s->data, end + grow_bytes, e);
}

static int commit_data(struct qcow2_sink *s, struct job *job, struct error *e)
{
	int bytes = 0;
	for (unsigned i = 0; i < job->piece_count; i++) {
		int r = place_piece(s, &job->pieces[i], e);
		if (r < 0)
			return -1;
		bytes |= r;
		if (r && s->ordered && !s->layout_only && write_pieces(s, &job->pieces[i], 1, e) < 0)
			return -1;
	}
	if (s->share && job->kind == JOB_DATA && note_places(s, job, e) < 0)
		return -1;
	if (s->ordered || !bytes)
		return 0;
	if (s->one_writer)
		return write_pieces(s, job->pieces, job->piece_count, e);
	return grow(s, job, e) < 0 ? -1 : 1;
}

static int commit_clone(struct qcow2_sink *s, struct job *job, struct error *e)
{
	const struct extent *x = &job->extents[0];
	uint64_t host;
	if (writer_data(s->writer, job->guest, job->len, &host, e) < 0)
		return -1;
	int r = s->copy_range ? io_copy_range(s->data, host, x->file, x->host, job->len, e)
			      : io_clone(s->data, host, x->file, x->host, job->len, e);
	if (r < 0)
		return -1;
	if (r == 0) {
		s->base.cloned += job->len;
		return 0;
	}
	s->base.clone_failed = true;
	s->base.written += job->len;
	return convert_copy(s->data, host, x->file, x->host, job->len, e);
}

static int qcow2_commit(struct sink *base, struct job *job, struct error *e)
{
	struct qcow2_sink *s = (struct qcow2_sink *)base;
	if (job->kind == JOB_CLONE)
		return commit_clone(s, job, e);
	if (job->kind == JOB_DATA || job->kind == JOB_SHARE)
		return commit_data(s, job, e);
	/* a skipped run may be longer than a piece can say */
	for (uint64_t at = 0; at < job->len;) {
		struct piece p = {
			.kind = job->skip_as, .guest = job->guest + at, .len = min_u64(job->len - at, 1u << 30)};
		if (place_piece(s, &p, e) < 0)
			return -1;
		at += p.len;
	}
	return 0;
}

static int qcow2_write(struct sink *base, struct job *job, struct error *e)
{
	return write_pieces((struct qcow2_sink *)base, job->pieces, job->piece_count, e);
}

static int qcow2_finish(struct sink *base, uint64_t total, struct error *e)
{
	struct qcow2_sink *s = (struct qcow2_sink *)base;
	(void)total;
	base->written += atomic_load(&s->written);
	return writer_finish(s->writer, e);
}

static void qcow2_sink_close(struct sink *base)
{
	free(base);
}

static const struct sink_ops qcow2_ops = {.commit = qcow2_commit,
	.write = qcow2_write,
	.finish = qcow2_finish,
	.close = qcow2_sink_close};

int sink_qcow2_new(struct sink **out, struct writer *writer, const struct qcow2_sink_opts *opts, struct error *e)
{
	struct qcow2_sink *s = mem_calloc(1, sizeof *s, "sink", e);
	if (!s)
		return -1;
	s->base.ops = &qcow2_ops;
	s->base.light_commit = !opts->ordered && !opts->one_writer;
	s->writer = writer;
	s->data = opts->data;
	s->ordered = opts->ordered;
	s->one_writer = opts->one_writer;
	s->layout_only = opts->layout_only;
	s->external_data = opts->external_data;
	s->copy_range = opts->copy_range;
	s->cluster_size = opts->cluster_size;
	s->share = opts->share;
	*out = &s->base;
	return 0;
}
