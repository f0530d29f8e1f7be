/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of convert/ share: the job that goes through the pipeline, the plan that makes jobs, the sink that
 * takes them. ARCHITECTURE.md, "The pipeline".
 */
#ifndef QSNAP_CONVERT_INTERNAL_H
#define QSNAP_CONVERT_INTERNAL_H

#include "convert/convert.h"
#include "qcow2/edit.h"

/* ---- jobs ---- */

enum piece_kind {
	PIECE_ABSENT, /* left to the target's backing file */
	PIECE_ZERO,
	PIECE_DATA,
	PIECE_COMPRESSED,
	PIECE_SHARED, /* an earlier state of the target has it at `host`; size 0: plain, else a compressed stream's length */
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
	JOB_SHARE, /* clusters that an earlier state of the target has: pieces say where */
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
	unsigned extent_count, extent_room;
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
	unsigned backing_depth; /* -B: layers from here on are the target's backing file; UINT32_MAX: it has none */
	unsigned
		absent_depth; /* -B: what no layer has down to here is left to it; zeros of a short layer above are not */
	struct diff *since;   /* --since: what differs from the backing file; NULL: backing_depth tells */
	struct diff_extent change; /* of since: nothing differs from change_from up to its start */
	uint64_t change_from;
	uint64_t since_end;   /* up to here the backing file holds the snapshot */
	uint64_t backing_end; /* from here on the backing file shows nothing */
	bool write_zeros;     /* -S 0: no skipping */
	struct share *share;  /* several states: what earlier ones have; NULL: one state */
	bool clone;           /* JOB_CLONE is worth a try */
	uint64_t clone_align;
	uint64_t pos; /* where the next job begins */
	/* --salvage: whom to tell of metadata that cannot be read; NULL: that is an error */
	const struct convert_opts *salvage;
	uint64_t lost, lost_to; /* bytes behind such metadata; how far they are counted */
};

/* 1: *job describes the next range; 0: all planned; -1: metadata cannot be read. */
int plan_next(struct plan *p, struct job *job, struct error *e);
/* Treats the extent as "left to the backing file" (convert -B). */
static inline bool plan_absent(const struct plan *p, const struct extent *x)
{
	return x->in_backing || (p->backing_depth != UINT32_MAX &&
					x->depth >= (x->kind == EXTENT_ABSENT ? p->absent_depth : p->backing_depth));
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
	bool light_commit; /* commit writes no guest bytes itself */
	uint64_t written, cloned;
};

/* Writes into the page cache of one file exclude each other in the kernel, where the one that waits burns its processor. So the
 * planner's thread writes such files alone, and workers read meanwhile. Devices and O_DIRECT take writes from all, as do new files
 * on tmpfs: whole pages where none are yet. */
static inline bool sink_one_writer(const struct io *io, const struct convert_opts *o)
{
	bool fills = io->caps & IO_FILLS && !o->compress && o->create.prealloc == PREALLOC_OFF;
	return !fills && !(io->caps & (IO_DIRECT | IO_IS_DEVICE));
}

/* Raw bytes at their guest offset. `ordered`: ascending (a stream); gaps become zeros by themselves. `zeros_needed`: the target
 * does not read as zeros by itself. `copy_range`: clone jobs use copy_file_range. */
struct raw_sink_opts {
	bool ordered, one_writer, zeros_needed, copy_range, set_size;
};
int sink_raw_new(struct sink **out, struct io *target, const struct raw_sink_opts *opts, struct error *e);
/* A new qcow2 image through a writer. */
struct qcow2_sink_opts {
	struct io *data; /* where guest data goes: the file, or its external data file */
	uint64_t cluster_size;
	bool ordered; /* a stream, or a dry run of one: bytes are written at commit, each piece before the next is placed */
	bool one_writer;    /* bytes are written at commit, a job at a time */
	bool layout_only;   /* no bytes at all, only the writer's calls */
	bool external_data; /* the last cluster is not filled up */
	bool copy_range;
	struct share *share; /* where to note what went where; NULL: nobody asks */
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

/* ---- rate limit (convert/rate.c) ---- */

struct rate {
	uint64_t limit, moved, started_ns; /* limit: bytes a second, 0: none */
	const struct progress *progress;
};
void rate_begin(struct rate *r, uint64_t limit, const struct progress *progress);
/* So many more bytes were moved: waits until they are due, in steps that let a cancel be heard. */
void rate_moved(struct rate *r, uint64_t bytes);

/* ---- two disks side by side (convert/side.c) ---- */

struct side {
	struct chain *chain; /* NULL: zeros everywhere */
	struct walk *walk;
	uint64_t size;   /* whole sectors */
	struct extent x; /* the one that was looked at last; len 0: none yet */
};
/* Of layers [0, below) of the chain; walk_flags: enum walk_flags. */
int side_open(struct side *s, struct chain *c, unsigned below, unsigned walk_flags, struct error *e);
void side_close(struct side *s);
/* Moves x to the extent that holds `pos`, in ascending order. What lies past the disk's end counts as absent. */
int side_advance(struct side *s, uint64_t pos, uint64_t total, struct error *e);
bool extent_reads_zero(const struct extent *x);
/* Both are the same bytes of the same file: a layer that both chains share. Data and compressed ones only. */
bool extents_same_place(const struct extent *a, const struct extent *b, uint64_t pos);

/* ---- what one disk shows and another would not (convert/transfer.c) ---- */

struct transfer {
	struct side from, onto; /* what is to be shown; what would be shown */
	bool compare;           /* only what differs is moved; else all of `from` that is not absent */
	unsigned
		absent_depth; /* without compare: from which depth on absent is absent; above it a layer's end shows zeros */
	bool exact;           /* zeros over something else are looked at, too, before they are moved */
	uint64_t unit;        /* a power of two: what differs is moved in whole units; 1 without compare */
	uint64_t total;       /* of guest bytes */
	/* The next range to be looked at, from `pos` on, beginning at a multiple of the unit: 1; 0: there is none. */
	int (*range)(void *ctx, uint64_t pos, uint64_t *start, uint64_t *end, struct error *e);
	/* Takes what is moved, in guest order, on the caller's thread; bytes NULL: zeros. 1: that is enough. */
	int (*take)(void *ctx, uint64_t guest, uint64_t len, const uint8_t *bytes, struct error *e);
	void *ctx;
	unsigned threads;    /* 0: serial */
	uint64_t rate_limit; /* bytes a second, 0: none */
	struct progress *progress;
};
int transfer_run(struct transfer *t, struct error *e);

/* ---- snapshots whose backing changes (convert/states.c) ---- */

struct state_change {
	const struct chain *chain; /* layers [0, below) keep their clusters; what lies under them changes */
	unsigned first, below;     /* only snapshots of layers [first, below) are looked at */
	struct chain *now, *to;    /* what lies there, and what is going to; NULL: nothing */
	/* Only ranges change in which layers [0, below) of this chain hold something; NULL: all may. */
	struct chain *written;
	unsigned threads;
	struct progress *cancel;
};
/* ERR_UNSUPPORTED naming the internal snapshots of these layers that would show something else than they do now. */
int states_refuse_change(const struct state_change *s, struct error *e);
/* Gives the snapshots of the top layer, which is open for writing, clusters of their own for what would change. What they show stays
 * the same at any moment. ERR_UNSUPPORTED, nothing changed, when snapshots of other layers would change. */
int states_flatten(const struct state_change *s, struct error *e);

/* ---- one conversion (convert/run.c) ---- */

struct conversion {
	const struct convert_opts *opts;
	struct image_create create;
	struct plan plan;
	struct work work;
	struct target *target, *data_target;
	struct chain *existing;          /* -n: the qcow2 image whose options the new one has */
	struct qcow2_state since, until; /* --since: both states */
	struct convert_result *result;
	unsigned threads;
	bool new_file; /* the target starts empty and reads as zeros */
};

/* After the last read: selected snapshots were still the same. */
int convert_verify(struct conversion *c, struct error *e);
int convert_to_stream(struct conversion *c, struct error *e); /* convert/stream.c */

/* ---- passes (convert/pass.c) ---- */

/* Plans, works and commits into the sink, which stays open. */
int pass_run(struct conversion *c, struct sink *sink, uint64_t done, uint64_t progress_total, struct error *e);
int pass_raw(struct conversion *c, struct io *io, bool ordered, struct error *e);
/* How one pass makes a qcow2 image. */
struct qcow2_pass {
	struct io *file, *data;      /* data: an external data file or NULL */
	const uint8_t *header_first; /* from a dry run, NULL: the header comes last */
	uint8_t *keep_header;        /* dry run: a cluster's bytes for the header found; NULL: not wanted */
	bool ordered, layout_only;
	uint64_t done, progress_total;
};

int pass_qcow2(struct conversion *c, const struct qcow2_pass *p, struct error *e);

/* ---- internal snapshots that travel along (convert/snapshots.c, share.c) ---- */

/* Refuses what cannot be kept, makes the share. */
int snapshots_prepare(struct conversion *c, struct error *e);
/* Each snapshot of the source as a state of the target, before the active one. `done` and `total` of the progress are moved. */
int snapshots_write(struct conversion *c, struct writer *writer, struct sink *sink, struct io *data, uint64_t *done,
	uint64_t *total, struct error *e);

/* Which target cluster holds what a source cluster holds: states of one image share clusters. 32 bytes for each cluster noted,
 * times two at most. */
struct share;
struct share_key {
	uint64_t a, b; /* both 0: nothing to share */
};
struct share_place {
	uint64_t host;
	uint32_t size; /* of a compressed stream; 0: plain */
};
int share_new(struct share **out, struct error *e);
void share_free(struct share *s);
/* What the extents show in [start, end), as a key: the same key means the same bytes. *first is moved along. */
struct share_key share_key(const struct extent *x, unsigned count, unsigned *first, uint64_t start, uint64_t end);
const struct share_place *share_find(const struct share *s, struct share_key key);
int share_add(struct share *s, struct share_key key, struct share_place place, struct error *e);

/* ---- what differs from a snapshot (convert/since.c) ---- */

/* Finds the snapshot; refuses what does not go together. */
int since_prepare(struct conversion *c, struct error *e);
void since_backing(struct conversion *c, uint64_t backing_size);
/* How far from `pos` on, in whole units, the backing file shows all: nobody need look into the tables there. */
int since_same(struct plan *p, uint64_t pos, uint64_t *len, struct error *e);
/* Cuts the extent to what is all in the backing file or all not, and says so in it. */
int since_extent(struct plan *p, struct extent *x, struct error *e);

/* ---- persistent bitmaps that travel along (convert/bitmaps.c) ---- */

int bitmaps_write(struct conversion *c, struct writer *writer, struct error *e);

/* ---- targets that exist (convert/existing.c) ---- */

/* -n: takes the options of the qcow2 image at `path`; its strings live as long as *out. create->size comes as the source's and goes
 * as the target's. */
int existing_qcow2(struct chain **out, const char *path, struct image_create *create, struct error *e);

#endif
