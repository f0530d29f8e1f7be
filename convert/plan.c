/* SPDX-License-Identifier: Apache-2.0
 *
 * plan: the first stage of the pipeline. Walks the sources' merged extents once, in guest order, and cuts them into jobs
 * that begin and end at multiples of the target's unit, so that every target cluster belongs to one job.
 */
#include "convert/internal.h"

/* A clone run at least this long ends a data job early, and so does a skip run that goes on past the job's end; others travel
 * inside it: what is scattered would else be a job, and two threads woken, for each few clusters. */
static const uint64_t long_run = 256 << 10;
static const uint64_t clone_max = 1ull << 30; /* so that progress moves and cancelling is heard */
static const uint64_t salvage_max = 64 << 20; /* each step asks for all up to there again */

static struct source *plan_source(struct plan *p, uint64_t pos)
{
	for (unsigned i = 0; i < p->source_count; i++)
		if (pos < p->sources[i].start + p->sources[i].len)
			return &p->sources[i];
	return NULL;
}

/* Damage to a layer's map hides whole clusters of it. */
static uint64_t smallest_cluster(const struct chain *chain)
{
	uint64_t size = 1 << 30;
	for (unsigned i = 0; i < chain->count; i++)
		if (chain->layers[i].q)
			size = min_u64(size, chain->layers[i].q->g.cluster_size);
	return size;
}

/* Tells of a range once, though it may be planned twice. */
static void tell_lost(struct plan *p, uint64_t pos, uint64_t len, const struct error *why)
{
	char text[sizeof why->msg + 80];
	if (pos + len <= p->lost_to)
		return;
	if (p->salvage->warn && (!p->lost_to || pos > p->lost_to)) {
		snprintf(text, sizeof text, "%s: zeros from guest offset 0x%llx on", why->msg, (unsigned long long)pos);
		p->salvage->warn(p->salvage->warn_ctx, text);
	}
	p->lost += pos + len - max_u64(pos, p->lost_to);
	p->lost_to = pos + len;
}

/* walk_extent for --salvage: where metadata cannot be read there are zeros, as far as that is so. */
static void salvage_extent(struct plan *p, struct source *s, uint64_t from, uint64_t end, struct extent *x)
{
	uint64_t step = smallest_cluster(s->chain), to = from;
	struct error why, ignored;
	end = min_u64(end, from + salvage_max);
	if (walk_extent(s->walk, from, end, x, &why) == 0)
		return;
	while (to < end) {
		/* not further than one cluster: what lies behind it may be what is wrong */
		uint64_t next = min_u64(align_down(to, step) + step, end);
		if (walk_extent(s->walk, to, next, x, &ignored) == 0)
			break;
		to = next;
	}
	if (to == from)
		return;
	*x = (struct extent){.start = from, .len = to - from, .kind = EXTENT_ZERO};
	tell_lost(p, s->start + (from - s->skip), x->len, &why);
}

/* The extent at `pos` of the target's guest space; what rounds a source up to whole sectors reads as zeros. */
static int plan_extent(struct plan *p, uint64_t pos, uint64_t end, struct extent *x, struct error *e)
{
	struct source *s = plan_source(p, pos);
	uint64_t in_source = s->skip + (pos - s->start), source_end = s->skip + min_u64(end - s->start, s->len);
	if (in_source >= s->end) {
		*x = (struct extent){.start = pos, .len = source_end - in_source, .kind = EXTENT_ABSENT};
		return 0;
	}
	source_end = min_u64(source_end, s->end);
	if (p->salvage)
		salvage_extent(p, s, in_source, source_end, x);
	else if (walk_extent(s->walk, in_source, source_end, x, e) < 0)
		return err_prefix(e, "%s", s->chain->layers[0].path);
	x->start = pos;
	return p->since ? since_extent(p, x, e) : 0;
}

static bool is_skip(const struct plan *p, const struct extent *x)
{
	return plan_absent(p, x) || x->kind == EXTENT_ABSENT || x->kind == EXTENT_ZERO;
}

/* How much of the extent, from its start, could be shared with the target. */
static uint64_t clone_span(const struct plan *p, const struct extent *x)
{
	if (!p->clone || x->kind != EXTENT_DATA || plan_absent(p, x) || !(x->file->caps & IO_CAN_CLONE))
		return 0;
	if (x->start % p->unit || x->start % p->clone_align || x->host % p->clone_align || x->host >= x->file->size)
		return 0;
	uint64_t in_file = min_u64(x->len, x->file->size - x->host);
	return min_u64(in_file - in_file % max_u64(p->unit, p->clone_align), clone_max);
}

/* How much of the extent, from its start, is whole units of nothing to copy. */
static uint64_t skip_span(const struct plan *p, const struct extent *x)
{
	if (!is_skip(p, x) || (p->write_zeros && !plan_absent(p, x)))
		return 0;
	return x->start + x->len == p->total ? x->len : x->len - x->len % p->unit;
}

/* Collects extents until the job is full or a long run that is better off alone begins at one of its units. */
static int plan_data(struct plan *p, struct job *job, struct error *e)
{
	uint64_t end = min_u64(job->guest + p->job_bytes, p->total), pos = job->guest;
	while (pos < end) {
		struct extent x;
		/* looks past the job's end, so that a long run is seen as one */
		if (plan_extent(p, pos, min_u64(end + long_run, p->total), &x, e) < 0)
			return -1;
		bool at_unit = pos > job->guest && pos % p->unit == 0;
		uint64_t skip = skip_span(p, &x);
		if (at_unit && ((skip >= long_run && pos + skip > end) || clone_span(p, &x) >= long_run))
			break;
		if (job->extent_count == job->extent_room)
			return err_set(e, ERR_LIMIT, "more than %u extents within %llu bytes at guest offset 0x%llx",
				job->extent_room, (unsigned long long)p->job_bytes, (unsigned long long)job->guest);
		x.len = min_u64(x.len, end - pos);
		job->extents[job->extent_count++] = x;
		pos += x.len;
	}
	job->len = pos - job->guest;
	return 1;
}

/* Cuts a data job where clusters begin or end that an earlier state has; if it begins with such, that run is the job. */
static void plan_share(struct plan *p, struct job *job)
{
	unsigned first = 0;
	uint64_t at = job->guest, end = job->guest + job->len;
	bool shared = false;
	job->piece_count = 0;
	while (at < end) {
		uint64_t len = min_u64(p->unit, end - at);
		struct share_key key = share_key(job->extents, job->extent_count, &first, at, at + len);
		const struct share_place *place = share_find(p->share, key);
		if (at == job->guest)
			shared = place != NULL;
		if (shared != (place != NULL))
			break;
		if (place)
			job->pieces[job->piece_count++] = (struct piece){.kind = PIECE_SHARED,
				.guest = at,
				.len = (uint32_t)len,
				.host = place->host,
				.size = place->size};
		at += len;
	}
	if (shared)
		job->kind = JOB_SHARE;
	job->len = at - job->guest;
}

int plan_next(struct plan *p, struct job *job, struct error *e)
{
	if (p->pos >= p->total)
		return 0;
	job->guest = p->pos;
	job->stage = STAGE_READ;
	job->extent_count = 0;
	struct extent x = {.in_backing = true};
	uint64_t skip = 0, clone = 0;
	if (p->since && since_same(p, p->pos, &skip, e) < 0)
		return -1;
	if (!skip) {
		if (plan_extent(p, p->pos, p->total, &x, e) < 0)
			return -1;
		skip = skip_span(p, &x);
		clone = clone_span(p, &x);
	}
	if (skip) {
		job->kind = JOB_SKIP;
		job->skip_as = plan_absent(p, &x) ? PIECE_ABSENT : PIECE_ZERO;
		job->len = skip;
	} else if (clone) {
		job->kind = JOB_CLONE;
		job->len = clone;
		job->extents[job->extent_count++] = x;
	} else {
		job->kind = JOB_DATA;
		if (plan_data(p, job, e) < 0)
			return -1;
		if (p->share)
			plan_share(p, job);
	}
	p->pos += job->len;
	return 1;
}
