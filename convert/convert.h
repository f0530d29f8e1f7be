/* SPDX-License-Identifier: Apache-2.0
 *
 * convert: what is done with whole images by one pipeline: plan (one thread walks merged extents and makes jobs), work (N
 * threads read, decompress, find zeros, compress), commit (the planner's thread, in order). ARCHITECTURE.md tells more.
 */
#ifndef QSNAP_CONVERT_H
#define QSNAP_CONVERT_H

#include "qcow2/writer.h"

struct convert_source {
	const char *name;
	struct chain_opts open; /* format, lock mode, direct, untrusted, snapshot */
	/* with create.backing_name, which holds this snapshot of the source, or create.nameless_backing, a disk that is this snapshot: only
	 * what differs from it; NULL: all */
	const struct snapshot_query *since;
	uint64_t skip, end; /* dd: only bytes [skip, end) of the disk are read; end 0: up to the disk's end */
};

struct convert_opts {
	const struct convert_source *sources; /* read one after the other, as one disk */
	unsigned source_count;
	const char *target; /* a path; "-": a stream */
	/* With target "-". It is told the length before its first byte, and is finished only when the source was proven to have
	 * held still; not closed. NULL: stream_fd. */
	struct io_stream *stream;
	int stream_fd;
	struct image_create create; /* format and options of the target; size is filled in from the sources */
	bool compress;              /* -c */
	/* -S: zero runs of at least this become holes; 0 = write everything; default 4096 */
	uint64_t sparse_bytes;
	unsigned threads; /* 0: serial */
	bool in_place;    /* -n */
	bool target_is_zero;
	bool copy_range; /* -C */
	bool no_reflink;
	bool salvage;
	bool recompress;
	bool two_pass;
	bool bitmaps, skip_broken_bitmaps;
	bool keep_snapshots;
	struct target_opts target_opts;
	uint64_t rate_limit; /* bytes a second, 0: none */
	const char *hash;    /* digest of the target's bytes: a name libcrypto knows; NULL: none */
	const char *spool_dir;
	struct progress *progress;
	/* things to tell that are no failure (salvaged ranges, skipped bitmaps); may be NULL */
	void (*warn)(void *ctx, const char *text);
	void *warn_ctx;
};

struct convert_result {
	uint64_t virtual_size;
	uint64_t target_bytes; /* length of the target */
	/* bytes; passed_through: compressed bytes copied as they were */
	uint64_t read_bytes, written_bytes, cloned_bytes, passed_through;
	uint64_t spool_bytes;
	unsigned salvaged_errors;
	char digest[129]; /* hex, "" without --hash */
};

/* Fills the defaults of qemu-img's convert. */
void convert_defaults(struct convert_opts *o);
int convert_run(const struct convert_opts *o, struct convert_result *out, struct error *e);
/* The digest of a file's bytes, in hex: what `hash` of a conversion gives, for one that should not wait for it (convert/digest.c). */
int convert_digest(const char *path, const char *algorithm, const struct progress *progress, char hex[129],
	struct error *e);

/* ---- compare (convert/compare.c) ---- */

struct compare_result {
	enum { COMPARE_SAME, COMPARE_DIFFERENT, COMPARE_SIZE_DIFFERENT, COMPARE_STATUS_DIFFERENT } verdict;
	uint64_t at;           /* first differing byte, rounded down to 512 */
	bool size_mismatch;    /* sizes differ; SAME then says that the longer tail reads as zeros */
	unsigned failed_image; /* after an error: 0 = a, 1 = b */
};
/* -1: an error in reading one of the two. Parallel; threads 0: serial. `strict` as qemu-img's -s: sizes must be the same, and
 * what is allocated, zero or compressed in one must be so in the other. */
int convert_compare(struct chain *a, struct chain *b, bool strict, unsigned threads, struct progress *p,
	struct compare_result *out, struct error *e);

/* ---- resize (convert/resize.c) ---- */

/* `image`: opened for writing, with its backing files: a longer disk shows zeros, not more of them. What is cut off is gone. */
int convert_resize(struct chain *image, uint64_t size, enum prealloc prealloc, struct progress *progress,
	struct error *e);

/* ---- commit (convert/commit.c) ---- */

struct commit_opts {
	struct chain *image;    /* layers 0 (unless `keep`) and `base` opened for writing */
	unsigned base;          /* the layer that takes what those above it hold; at least 1 */
	bool keep;              /* the image is not emptied */
	bool flatten_snapshots; /* of the image: what they would show of the base otherwise becomes theirs first */
	uint64_t rate_limit;    /* bytes a second, 0: none */
	unsigned threads;       /* 0: serial */
	struct progress *progress;
};
/* The base grows if it is shorter. ERR_UNSUPPORTED before the first write when an internal snapshot of a layer above the base would
 * show something else afterwards. A crash or a failure leaves the disk as it was. */
int convert_commit(const struct commit_opts *o, struct error *e);

/* ---- rebase (convert/rebase.c) ---- */

struct rebase_opts {
	struct chain *image; /* its top opened for writing, with its present backing files (`unsafe`: without) */
	struct chain *onto;  /* the new ones; NULL: none */
	const char *backing_name, *backing_format; /* for the header; NULL: none */
	bool unsafe;                               /* nothing but the header changes */
	bool compress;
	bool flatten_snapshots; /* what they would show of the backing file otherwise becomes theirs first */
	unsigned threads;       /* 0: serial */
	struct progress *progress;
};
/* The disk reads the same afterwards. ERR_UNSUPPORTED before the first write when an internal snapshot would not. */
int convert_rebase(const struct rebase_opts *o, struct error *e);

/* ---- measure (convert/measure.c) ---- */

struct measure_result {
	uint64_t required, fully_allocated;
	bool has_bitmaps;
	uint64_t bitmaps;
};
/* What `create` with these options would take; `source` NULL: an empty disk of create->size. */
int convert_measure(struct chain *source, const struct image_create *create, struct measure_result *out,
	struct error *e);

#endif
