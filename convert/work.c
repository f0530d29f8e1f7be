/* SPDX-License-Identifier: Apache-2.0
 *
 * work: the second stage of the pipeline, on any thread. Reads a job's extents, tells zeros from data granule by granule,
 * compresses. Touches its job, its worker's own contexts, and nothing else; so the result is a function of the job alone.
 */
#include "convert/internal.h"

struct worker {
	struct reader *reader;
	struct codec *codec;
	uint8_t *buf; /* guest bytes of sinks that are done with them when the work is done */
};

void work_free(struct work *w)
{
	for (unsigned i = 0; w->workers && i < w->worker_count; i++) {
		reader_free(w->workers[i].reader);
		codec_free(w->workers[i].codec);
		free(w->workers[i].buf);
	}
	free(w->workers);
	w->workers = NULL;
}

int work_init(struct work *w, unsigned threads, struct error *e)
{
	w->worker_count = threads ? threads : 1;
	w->workers = mem_calloc(w->worker_count, sizeof *w->workers, "workers", e);
	if (!w->workers)
		return -1;
	for (unsigned i = 0; i < w->worker_count; i++) {
		struct worker *k = &w->workers[i];
		if (reader_new(&k->reader, e) < 0)
			return -1;
		k->buf = mem_alloc_pages(w->plan->job_bytes + w->cluster_size, "job buffer", e);
		if (!k->buf)
			return -1;
		if (!w->compress)
			continue;
		if (codec_new(&k->codec, w->opts->create.compression, w->cluster_size, e) < 0 ||
			codec_set_level(k->codec, w->opts->create.level, e) < 0)
			return -1;
	}
	return 0;
}

/* Reads in small steps and leaves zeros where it cannot (--salvage). */
static void read_salvaging(struct worker *k, const struct extent *x, uint8_t *to, struct job *job)
{
	const uint64_t step = 4096;
	for (uint64_t at = 0; at < x->len; at += step) {
		size_t n = min_u64(step, x->len - at);
		struct error ignored;
		if (reader_read(k->reader, x, at, to + at, n, &ignored) < 0) {
			memset(to + at, 0, n);
			job->salvaged++;
		}
	}
}

static int read_extent(struct work *w, struct worker *k, struct job *job, const struct extent *x, struct error *e)
{
	uint8_t *to = job->buf + (x->start - job->guest);
	if (x->kind == EXTENT_ABSENT || x->kind == EXTENT_ZERO) {
		memset(to, 0, x->len);
		return 0;
	}
	job->read_bytes += x->len;
	if (reader_read(k->reader, x, 0, to, x->len, e) == 0)
		return 0;
	if (!w->opts->salvage) /* the message names the file; a compressed cluster's the place, too */
		return x->kind == EXTENT_COMPRESSED
			       ? -1
			       : err_prefix(e, "guest offset 0x%llx", (unsigned long long)x->start);
	read_salvaging(k, x, to, job);
	return 0;
}

/* Zeros that somebody looks at: in a granule that is not the extent's alone, and in gaps so short that they become data. */
static void clear_extent(const struct work *w, struct job *job, const struct extent *x)
{
	uint64_t start = x->start - job->guest, end = start + x->len;
	uint64_t first = align_up(start, w->granule), last = align_down(end, w->granule);
	if (w->plan->write_zeros || last < first + max_u64(w->opts->sparse_bytes, w->granule)) {
		memset(job->buf + start, 0, x->len);
		return;
	}
	memset(job->buf + start, 0, first - start);
	memset(job->buf + last, 0, end - last);
}

/* The part of the extent in [start, end). */
static struct extent part_of(const struct extent *x, uint64_t start, uint64_t end)
{
	struct extent part = *x;
	uint64_t cut = part.start < start ? start - part.start : 0;
	if (cut && part.kind == EXTENT_COMPRESSED)
		part.skip += cut;
	else
		part.host += cut;
	part.start += cut;
	part.len = min_u64(part.len - cut, end - part.start);
	return part;
}

/* Of what is left to the backing file only granules that are not the extent's alone are looked at. */
static int read_edges(struct work *w, struct worker *k, struct job *job, const struct extent *x, struct error *e)
{
	uint64_t end = x->start + x->len;
	uint64_t first = job->guest + align_up(x->start - job->guest, w->granule);
	uint64_t last = job->guest + align_down(end - job->guest, w->granule);
	if (first >= last)
		return read_extent(w, k, job, x, e);
	struct extent head = part_of(x, x->start, first), tail = part_of(x, last, end);
	return (head.len && read_extent(w, k, job, &head, e) < 0) || (tail.len && read_extent(w, k, job, &tail, e) < 0)
		       ? -1
		       : 0;
}

static int read_extents(struct work *w, struct worker *k, struct job *job, struct error *e)
{
	for (unsigned i = 0; i < job->extent_count; i++) {
		const struct extent *x = &job->extents[i];
		if (x->kind == EXTENT_ABSENT || x->kind == EXTENT_ZERO)
			clear_extent(w, job, x);
		else if ((plan_absent(w->plan, x) ? read_edges : read_extent)(w, k, job, x, e) < 0)
			return -1;
	}
	return 0;
}

static void add_piece(struct job *job, enum piece_kind kind, uint64_t guest, uint32_t len, const uint8_t *bytes,
	uint32_t size)
{
	struct piece *last = job->piece_count ? &job->pieces[job->piece_count - 1] : NULL;
	if (last && last->kind == kind && kind != PIECE_COMPRESSED) {
		last->len += len;
		last->size += size;
		return;
	}
	job->pieces[job->piece_count++] =
		(struct piece){.kind = kind, .guest = guest, .len = len, .bytes = bytes, .size = size};
}

/* What metadata says of [start, end): data if any extent in it is, zero or absent if all are. *first is moved along. */
static enum piece_kind metadata_kind(const struct work *w, const struct job *job, unsigned *first, uint64_t start,
	uint64_t end)
{
	while (job->extents[*first].start + job->extents[*first].len <= start)
		(*first)++;
	bool any_absent = false, any_zero = false;
	for (unsigned i = *first; i < job->extent_count && job->extents[i].start < end; i++) {
		const struct extent *x = &job->extents[i];
		if (plan_absent(w->plan, x))
			any_absent = true;
		else if (x->kind == EXTENT_DATA || x->kind == EXTENT_COMPRESSED)
			return PIECE_DATA;
		else
			any_zero = true;
	}
	if (any_absent && any_zero)
		return PIECE_DATA; /* the backing file's bytes are copied beside the zeros */
	return any_absent ? PIECE_ABSENT : PIECE_ZERO;
}

/* The extent's stream may stand in the target as it is: same codec, same cluster size, the whole cluster visible. */
static bool can_pass(const struct work *w, const struct extent *x, uint64_t start, uint64_t len)
{
	return w->pass_through && x->kind == EXTENT_COMPRESSED && x->start == start && x->len == len && x->skip == 0 &&
	       len == w->cluster_size && x->codec == w->opts->create.compression &&
	       1u << x->cluster_bits == w->cluster_size;
}

/* Reads one cluster's extents. 1: *stream is its ready compressed form. */
static int read_cluster(struct work *w, struct worker *k, struct job *job, unsigned first, uint64_t start, uint64_t end,
	const uint8_t **stream, size_t *stream_len, struct error *e)
{
	const struct extent *x = &job->extents[first];
	if (can_pass(w, x, start, end - start)) {
		job->read_bytes += x->len;
		struct error broken;
		if (reader_stream(k->reader, x, job->buf + (start - job->guest), stream, stream_len, &broken) == 0)
			return *stream_len < w->cluster_size;
	}
	for (unsigned i = first; i < job->extent_count && job->extents[i].start < end; i++) {
		struct extent part = part_of(&job->extents[i], start, end);
		if (read_extent(w, k, job, &part, e) < 0)
			return -1;
	}
	return 0;
}

/* -c: cluster by cluster, each as a stream in job->out, one right behind the other. */
static int compress_job(struct work *w, struct worker *k, struct job *job, struct error *e)
{
	unsigned first = 0;
	size_t used = 0;
	for (uint64_t at = job->guest; at < job->guest + job->len; at += w->cluster_size) {
		uint64_t end = min_u64(at + w->cluster_size, job->guest + job->len);
		uint8_t *cluster = job->buf + (at - job->guest);
		enum piece_kind kind = metadata_kind(w, job, &first, at, end);
		if (kind == PIECE_ABSENT || (kind == PIECE_ZERO && !w->plan->write_zeros)) {
			add_piece(job, kind, at, end - at, NULL, 0);
			continue;
		}
		const uint8_t *stream = NULL;
		size_t len = 0;
		int ready = read_cluster(w, k, job, first, at, end, &stream, &len, e);
		if (ready < 0)
			return -1;
		memset(cluster + (end - at), 0, w->cluster_size - (end - at));
		if (!w->plan->write_zeros && mem_is_zero(cluster, w->cluster_size)) {
			add_piece(job, PIECE_ZERO, at, end - at, NULL, 0);
			continue;
		}
		if (ready) {
			memcpy(job->out + used, stream, len);
			job->passed_bytes += len;
		} else {
			len = codec_compress(k->codec, cluster, w->cluster_size, job->out + used, w->cluster_size - 1);
		}
		if (len)
			add_piece(job, PIECE_COMPRESSED, at, end - at, job->out + used, len);
		else
			add_piece(job, PIECE_DATA, at, end - at, cluster, w->cluster_size);
		used += len;
	}
	return 0;
}

/* Zero runs shorter than -S between data are data after all. */
static void fill_short_gaps(const struct work *w, struct job *job)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < job->piece_count; i++) {
		struct piece p = job->pieces[i];
		bool inside = i > 0 && i + 1 < job->piece_count;
		if (p.kind == PIECE_ZERO && inside && p.len < w->opts->sparse_bytes) {
			p.kind = PIECE_DATA;
			p.bytes = job->buf + (p.guest - job->guest);
			p.size = p.len;
		}
		struct piece *last = kept ? &job->pieces[kept - 1] : NULL;
		if (last && last->kind == PIECE_DATA && p.kind == PIECE_DATA) {
			last->len += p.len;
			last->size += p.size;
		} else {
			job->pieces[kept++] = p;
		}
	}
	job->piece_count = kept;
}

/* Plain data: granule by granule, zeros found by looking unless the layout was fixed by metadata. */
static void split_job(struct work *w, struct job *job)
{
	unsigned first = 0;
	bool look = !w->by_metadata && !w->plan->write_zeros;
	for (uint64_t at = job->guest; at < job->guest + job->len; at += w->granule) {
		uint64_t len = min_u64(w->granule, job->guest + job->len - at);
		const uint8_t *bytes = job->buf + (at - job->guest);
		enum piece_kind kind = metadata_kind(w, job, &first, at, at + len);
		if (kind == PIECE_ZERO && w->plan->write_zeros)
			kind = PIECE_DATA;
		if (kind == PIECE_DATA && look && mem_is_zero(bytes, len))
			kind = PIECE_ZERO;
		add_piece(job, kind, at, len, bytes, kind == PIECE_DATA ? len : 0);
	}
	if (look && w->opts->sparse_bytes > w->granule)
		fill_short_gaps(w, job);
}

static int read_job(struct work *w, struct worker *k, struct job *job, struct error *e)
{
	job->piece_count = 0;
	job->read_bytes = job->passed_bytes = 0;
	job->salvaged = 0;
	if (w->sink->ops->place)
		job->buf = k->buf;
	if (w->compress)
		return compress_job(w, k, job, e);
	if (!w->layout_only && read_extents(w, k, job, e) < 0)
		return -1;
	if (w->cluster_size && !w->layout_only) /* the last cluster of the disk is stored whole */
		memset(job->buf + job->len, 0, align_up(job->len, w->cluster_size) - job->len);
	split_job(w, job);
	return w->sink->ops->place ? w->sink->ops->place(w->sink, job, e) : 0;
}

void work_run(struct work *w, struct job *job, unsigned worker)
{
	job->failed = false;
	if (job->kind != JOB_DATA || progress_cancelled(w->opts->progress))
		return;
	int r = job->stage == STAGE_WRITE ? w->sink->ops->write(w->sink, job, &job->err)
					  : read_job(w, &w->workers[worker], job, &job->err);
	job->failed = r < 0;
}
