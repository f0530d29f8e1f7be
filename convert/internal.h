/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of convert/ share: the job that goes through the pipeline, the plan that makes jobs, the sink that
 * takes them. ARCHITECTURE.md, "The pipeline".
 */
#ifndef QSNAP_CONVERT_INTERNAL_H
#define QSNAP_CONVERT_INTERNAL_H

#include "convert/convert.h"

/* ---- jobs ---- */

enum piece_kind {
	PIECE_ABSENT, /* left to the target's backing file */
	PIECE_ZERO,
	PIECE_DATA,
	PIECE_COMPRESSED,
};
struct piece {
	enum piece_kind kind;
	uint32_t len;         /* guest bytes */
	uint32_t size;        /* bytes to store: len, or the compressed stream's length */
	uint64_t guest, host; /* host: set by the sink's commit */
	const uint8_t *bytes; /* into the job's buffers */
};

enum job_kind {
	JOB_DATA,  /* extents to be read; at most plan.job_bytes */
	JOB_SKIP,  /* a run that reads as zeros or is left to the backing file; any length */
	JOB_CLONE, /* a run that the file system can share with the target; any length */
};
enum job_stage { STAGE_READ, STAGE_WRITE };
struct work;

struct job {
	enum job_kind kind;
	enum job_stage stage;
	uint64_t guest, len;
	enum piece_kind skip_as; /* SKIP: ABSENT or ZERO */
	struct extent *extents;  /* start in the target's guest space */
	unsigned extent_count;
	struct work *work;
	uint8_t *own_buf;   /* NULL where the worker's own serves */
	uint8_t *buf, *out; /* guest bytes; compressed streams */
	struct piece *pieces;
	unsigned piece_count;
	uint64_t read_bytes, passed_bytes;
	unsigned salvaged;
	bool failed;
	struct error err;
};

/* ---- the plan: which jobs, in guest order (convert/plan.c) ---- */

struct source {
	struct chain *chain;
	struct walk *walk;
	uint64_t start, len; /* in the target's guest space; len is rounded up to whole sectors */
	uint64_t skip, end;  /* the part of the disk that is read, in its own guest space */
};

struct plan {
	struct source *sources;
	unsigned source_count;
	uint64_t total; /* bytes */
	uint64_t unit;  /* jobs begin and end at its multiples: the target's cluster, or 4 KiB */
	uint64_t job_bytes;
	unsigned backing_depth;
	bool write_zeros; /* -S 0: no skipping */
	bool clone;       /* JOB_CLONE is worth a try */
	uint64_t clone_align;
	uint64_t pos; /* where the next job begins */
};

/* 1: *job describes the next range; 0: all planned; -1: metadata cannot be read. */
int plan_next(struct plan *p, struct job *job, struct error *e);
/* Treats the extent as "left to the backing file" (convert -B). */
static inline bool plan_absent(const struct plan *p, const struct extent *x)
{
	return p->backing_depth != UINT32_MAX && (x->kind == EXTENT_ABSENT || x->depth >= p->backing_depth);
}

/* ---- the work: what threads do with a job (convert/work.c) ---- */

struct sink;

struct work {
	const struct convert_opts *opts;
	struct plan *plan;
	struct sink *sink;
	struct worker *workers; /* one a thread */
	unsigned worker_count;
	uint32_t cluster_size; /* of the target; 0: raw */
	uint64_t granule;      /* zero detection looks at whole granules */
	bool by_metadata;  /* no zero detection: what metadata calls data is data (streams know their layout first) */
	bool layout_only;  /* no data is read at all */
	bool pass_through; /* compressed clusters of the same kind are copied */
	bool compress;
};

int work_init(struct work *w, unsigned threads, struct error *e);
void work_free(struct work *w);
/* pool_work_fn's body: never fails itself, the job does. */
void work_run(struct work *w, struct job *job, unsigned worker);

/* ---- the sink: where committed jobs go (convert/sink_raw.c, sink_qcow2.c) ---- */

struct sink_ops {
	/* On a worker, after reading: sinks without order write here. NULL: nothing to do. */
	int (*place)(struct sink *s, struct job *job, struct error *e);
	/* On the planner's thread, in guest order. 1: the job wants a write stage; 0: it is done. */
	int (*commit)(struct sink *s, struct job *job, struct error *e);
	/* On a worker, after commit returned 1. */
	int (*write)(struct sink *s, struct job *job, struct error *e);
	int (*finish)(struct sink *s, uint64_t total, struct error *e);
	void (*close)(struct sink *s);
};
struct sink {
	const struct sink_ops *ops;
	bool clone_failed; /* the file system said no: plan no more clones */
	uint64_t written, cloned;
};

/* Raw bytes at their guest offset. `ordered`: only the planner's thread writes, ascending (a stream). `zeros_needed`: the target
 * does not read as zeros by itself. `copy_range`: clone jobs use copy_file_range. */
struct raw_sink_opts {
	bool ordered, zeros_needed, copy_range, set_size;
	enum prealloc prealloc;
};
int sink_raw_new(struct sink **out, struct io *target, const struct raw_sink_opts *opts, struct error *e);
/* A new qcow2 image through a writer. */
struct qcow2_sink_opts {
	struct io *data; /* where guest data goes: the file, or its external data file */
	uint64_t cluster_size;
	bool ordered;       /* a stream, or a dry run of one: bytes are written at commit */
	bool layout_only;   /* no bytes at all, only the writer's calls */
	bool external_data; /* the last cluster is not filled up */
	bool copy_range;
};
int sink_qcow2_new(struct sink **out, struct writer *writer, const struct qcow2_sink_opts *opts, struct error *e);
static inline void sink_close(struct sink *s)
{
	if (s)
		s->ops->close(s);
}
/* Copies bytes between ios through a buffer (convert/copy.c). */
int convert_copy(struct io *dst, uint64_t dst_off, struct io *src, uint64_t src_off, uint64_t len, struct error *e);

/* ---- one pass (convert/pipeline.c) ---- */

/* Plans, works and commits until all is in the sink or something failed (the error of the lowest offset). `done_before` and
 * `progress_total` place this pass in the whole operation. */
int pipeline_run(struct work *w, unsigned threads, uint64_t done_before, uint64_t progress_total,
	struct convert_result *result, struct error *e);

/* ---- targets that exist (convert/existing.c) ---- */

/* -n: takes the options of the qcow2 image at `path`; its strings live as long as *out. create->size comes as the source's and goes
 * as the target's. */
int existing_qcow2(struct chain **out, const char *path, struct image_create *create, struct error *e);

/* ---- digests (convert/hash.c) ---- */

struct hash;
int hash_known(const char *algorithm, struct error *e); /* 0 or ERR_USAGE */
int hash_new(struct hash **out, const char *algorithm, struct error *e);
int hash_update(struct hash *h, const void *bytes, size_t len, struct error *e);
int hash_finish(struct hash *h, char hex[129], struct error *e);
void hash_free(struct hash *h);
int hash_io(struct io *io, uint64_t len, const char *algorithm, char hex[129], struct error *e);
/* A stream that hashes what passes; borrows both. */
int hash_stream_new(struct io_stream **out, struct io_stream *below, struct hash *h, struct error *e);

#endif
