/* SPDX-License-Identifier: Apache-2.0
 *
 * --keep-snapshots: each internal snapshot of the source becomes one of the target, through the same pipeline, sharing clusters
 * as the source's states do (FORMAT.md §8). VM state is copied as the guest data that it is stored as (§8.5).
 */
#include "convert/internal.h"

int snapshots_prepare(struct conversion *c, struct error *e)
{
	const struct convert_opts *o = c->opts;
	const struct qcow2 *q = c->plan.sources[0].chain->layers[0].q;
	if (c->create.format != IMAGE_QCOW2 || !q || o->source_count > 1 || c->create.data_file)
		return err_set(e, ERR_USAGE,
			"--keep-snapshots takes one qcow2 source, a qcow2 target and no data file");
	if (o->sources[0].open.snapshot || c->create.backing_name || o->sources[0].skip || o->sources[0].end)
		return err_set(e, ERR_USAGE,
			"--keep-snapshots takes the whole image: no -l, no backing file for the target");
	return q->snapshot_count ? share_new(&c->plan.share, e) : 0;
}

/* Where a snapshot's VM state begins: behind the last L1 entry of its own disk. */
static uint64_t source_vm_state(const struct qcow2 *q)
{
	return geometry_l1_entries(&q->g, q->size) * geometry_l2_span(&q->g);
}

static int copy_vm_bytes(struct walk *walk, uint64_t from, uint64_t to, uint64_t len, struct conversion *c,
	struct writer *writer, struct io *data, struct error *e)
{
	const uint32_t step = c->create.cluster_size;
	struct reader *reader = NULL;
	AUTO_FREE uint8_t *buf = mem_alloc_pages(step, "VM state", e);
	int r = buf ? reader_new(&reader, e) : -1;
	for (uint64_t at = 0; r == 0 && at < len; at += step) {
		uint64_t n = min_u64(step, len - at), host;
		struct extent x;
		memset(buf, 0, step);
		for (uint64_t got = 0; r == 0 && got < n; got += x.len) {
			r = walk_extent(walk, from + at + got, from + at + n, &x, e);
			if (r == 0 && (x.kind == EXTENT_DATA || x.kind == EXTENT_COMPRESSED))
				r = reader_read(reader, &x, 0, buf + got, x.len, e);
		}
		if (r < 0 || mem_is_zero(buf, step))
			continue;
		r = writer_data(writer, to + at, step, &host, e);
		if (r == 0)
			r = io_write(data, buf, step, host, e);
	}
	reader_free(reader);
	return r;
}

static int copy_vm_state(struct conversion *c, struct chain *chain, struct writer *writer, struct io *data,
	const struct snapshot_entry *s, struct error *e)
{
	struct walk *walk;
	struct layer *top = &chain->layers[0];
	uint64_t from = source_vm_state(top->q), size = chain->size, end;
	if (!s->vm_state_bytes)
		return 0;
	if (add_overflows(from, s->vm_state_bytes, &end) || end > INT64_MAX)
		return err_set(e, ERR_CORRUPT, "VM state of %llu bytes", (unsigned long long)s->vm_state_bytes);
	/* for the reader it is a part of the disk, beyond what the guest sees of it */
	top->size = chain->size = end;
	int r = walk_new(&walk, chain, 1, 0, e);
	if (r == 0) {
		r = copy_vm_bytes(walk, from, writer_vm_state_guest(writer, s->disk_size), s->vm_state_bytes, c, writer,
			data, e);
		walk_free(walk);
	}
	top->size = chain->size = size;
	return r;
}

/* Everything of one snapshot; the plan is lent to it. */
static int write_snapshot(struct conversion *c, struct chain *chain, uint32_t index, struct writer *writer,
	struct sink *sink, struct io *data, uint64_t done, uint64_t total, struct error *e)
{
	struct qcow2 *q = chain->layers[0].q;
	struct plan active = c->plan;
	struct source source = {.chain = chain};
	if (qcow2_snapshot_select(q, index, e) < 0)
		return -1;
	chain->layers[0].size = chain->size = q->size;
	struct snapshot_entry s = q->snapshots[index].entry;
	s.id = q->snapshots[index].id;
	s.id_len = (uint16_t)strlen(s.id);
	s.name = q->snapshots[index].name;
	s.name_len = (uint16_t)strlen(s.name);
	s.disk_size = q->size;
	s.has_disk_size = true;
	if (walk_new(&source.walk, chain, chain->count, 0, e) < 0)
		return -1;
	source.end = q->size;
	source.len = align_up(q->size, 512);
	c->plan.sources = &source;
	c->plan.source_count = 1;
	c->plan.total = source.len;
	int r = writer_snapshot_begin(writer, &s, e);
	if (r == 0)
		r = pass_run(c, sink, done, total, e);
	if (r == 0)
		r = copy_vm_state(c, chain, writer, data, &s, e);
	if (r == 0)
		r = writer_snapshot_end(writer, e);
	if (r == 0)
		r = qcow2_snapshot_verify(q, e);
	walk_free(source.walk);
	active.clone = c->plan.clone;
	c->plan = active;
	return r;
}

int snapshots_write(struct conversion *c, struct writer *writer, struct sink *sink, struct io *data, uint64_t *done,
	uint64_t *total, struct error *e)
{
	AUTO_CHAIN struct chain *chain = NULL;
	const struct convert_source *source = &c->opts->sources[0];
	if (chain_open(&chain, source->name, &source->open, e) < 0)
		return -1;
	const struct qcow2 *q = chain->layers[0].q;
	for (uint32_t i = 0; i < q->snapshot_count; i++)
		if (add_overflows(*total, q->snapshots[i].disk_size, total))
			return err_set(e, ERR_LIMIT, "%s: the snapshots together are too large", source->name);
	for (uint32_t i = 0; i < q->snapshot_count; i++) {
		if (write_snapshot(c, chain, i, writer, sink, data, *done, *total, e) < 0)
			return err_prefix(e, "%s: snapshot %s", source->name, q->snapshots[i].id);
		*done += q->snapshots[i].disk_size;
	}
	return 0;
}
