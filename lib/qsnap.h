/* SPDX-License-Identifier: Apache-2.0
 *
 * libqsnap: disk images (qcow2 and raw, with their backing files) opened, looked at, read, changed and converted.
 *
 * Errors: a function that can fail returns 0 on success and -1 on failure, and then fills the qsnap_error given, which may
 * be NULL. Nothing here prints, exits, or changes signals, the locale or the umask.
 *
 * Threads: a qsnap_image is for one thread at a time; any number of images may be used by as many threads. qsnap_convert and what
 * changes snapshots make threads of their own and end them before they return.
 *
 * Units are bytes. Offsets and lengths on the disk that a guest sees are "guest", places in files "host". Strings end with a
 * NUL; those given to a function are not kept. FORMAT.md, which is cited here, describes the format; it comes with the source.
 *
 * All structures but qsnap_error begin with their own size, so that they may grow: clear one with
 * `struct qsnap_open_options o = { .size = sizeof o };`. 0 is the default of all options. A program compiled with an older or
 * a newer header works with this library; an option it does not know is QSNAP_ERROR_UNSUPPORTED. Enumerations may get new
 * members.
 */
#ifndef QSNAP_H
#define QSNAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QSNAP_API __attribute__((visibility("default")))

/* The version of the library that runs, as "0.1.0". Static. */
QSNAP_API const char *qsnap_version(void);

/* ---- errors ---- */

enum qsnap_error_code {
	QSNAP_OK = 0,
	QSNAP_ERROR_USAGE,       /* the request makes no sense */
	QSNAP_ERROR_IO,          /* the system said no: see sys_errno */
	QSNAP_ERROR_NOT_FOUND,   /* there is no such file or snapshot */
	QSNAP_ERROR_CORRUPT,     /* the image breaks its format */
	QSNAP_ERROR_UNSUPPORTED, /* encryption, unknown features (FORMAT.md §3.3), other formats */
	QSNAP_ERROR_LIMIT,       /* larger than the format (FORMAT.md §14) or the caller allows */
	QSNAP_ERROR_DENIED,      /* not allowed for an untrusted image */
	QSNAP_ERROR_BUSY,        /* somebody else has the image open for writing (FORMAT.md §13) */
	QSNAP_ERROR_CHANGED,     /* the source changed while it was read */
	QSNAP_ERROR_NO_MEMORY,
	QSNAP_ERROR_CANCELLED /* the caller's progress function said so */
};

/* Never changes its size. Left as it was by a call that succeeds. */
struct qsnap_error {
	int code;           /* enum qsnap_error_code */
	int sys_errno;      /* 0 when no system call was behind it */
	char message[1000]; /* one line in English without a newline, names the file and what is wrong in it */
};

/* ---- opening ---- */

typedef struct qsnap_image qsnap_image;

enum qsnap_open_flags {
	/* no backing file and no data file is opened: for looking only, data cannot be read */
	QSNAP_OPEN_TOP_ONLY = 1,
	/* although others may write to it (qemu-img's -U); what is read may then be a mixture */
	QSNAP_OPEN_SHARED = 2,
	/* a stranger's image: no backing file, no data file, nothing unknown; needs a format. Set max_virtual_size, too. It does
	 * not confine the process: that is the caller's */
	QSNAP_OPEN_UNTRUSTED = 4,
	/* O_DIRECT, not through the page cache, where the file system can */
	QSNAP_OPEN_DIRECT = 8,
	/* to be changed: nobody else may have it open then (FORMAT.md §13). A raw image needs its format said, since a guest can write
	 * what looks like another. With TOP_ONLY, for snapshots alone. Not with SHARED, nor with a snapshot. An image that was left
	 * dirty is repaired first (FORMAT.md §12.1) */
	QSNAP_OPEN_WRITE = 16
};

struct qsnap_open_options {
	size_t size;        /* sizeof(struct qsnap_open_options) */
	const char *format; /* "qcow2", "raw"; NULL: find out. Never NULL for a disk that a guest could write to. */
	/* name or id of an internal snapshot to be read instead of the active state, at its own size (FORMAT.md §8.4); refused
	 * when two fit; NULL: none */
	const char *snapshot;
	unsigned flags;            /* enum qsnap_open_flags */
	uint64_t max_virtual_size; /* refuse larger disks; 0: any */
};

/* Opens an image with its backing files (FORMAT.md §10), for reading unless the options say more, and takes the locks that QEMU takes, for as long as it is
 * open. `path` may also be "file:PATH" or "json:{...}", as backing files are named. `options` may be NULL. The image is the
 * caller's, who gives it back to qsnap_close; after a failure *image is NULL. */
QSNAP_API int qsnap_open(qsnap_image **image, const char *path, const struct qsnap_open_options *options,
	struct qsnap_error *error);
/* Closes the files; strings that came from the image end with it. What was changed is written out, but nobody is told when that
 * fails: qsnap_finish does. NULL is allowed. */
QSNAP_API void qsnap_close(qsnap_image *image);
/* After the last read of a snapshot: QSNAP_ERROR_CHANGED unless it is still there and was not rewritten meanwhile (FORMAT.md
 * §8.4). Of an image that was opened without one it says nothing: 0. */
QSNAP_API int qsnap_verify(qsnap_image *image, struct qsnap_error *error);

/* ---- looking ---- */

/* Size of the disk as the guest sees it. */
QSNAP_API uint64_t qsnap_size(const qsnap_image *image);
/* How many files the chain has; 0 is the top, the last one has no backing file. */
QSNAP_API unsigned qsnap_layer_count(const qsnap_image *image);

enum qsnap_layer_flags {
	QSNAP_LAYER_PROBED = 1,      /* nobody named the format: it was told by the first bytes */
	QSNAP_LAYER_DIRTY = 2,       /* refcounts may be stale (FORMAT.md §12.1) */
	QSNAP_LAYER_DATA_FILE = 4,   /* guest data lie in an external data file (FORMAT.md §11) */
	QSNAP_LAYER_EXTENDED_L2 = 8, /* with subclusters (FORMAT.md §5.5) */
	QSNAP_LAYER_ZSTD = 16        /* compressed clusters are zstd, else deflate (FORMAT.md §6) */
};
struct qsnap_layer {
	size_t size;                /* sizeof(struct qsnap_layer), set by the caller */
	const char *path, *format;  /* strings live as long as the image */
	const char *backing_name;   /* as it is stored in the image; NULL: none */
	const char *backing_format; /* NULL: none or not stored */
	uint64_t virtual_size;
	uint64_t file_size;    /* length of the file */
	uint32_t cluster_size; /* 0 for raw */
	uint32_t snapshot_count;
	uint32_t bitmap_count; /* persistent ones that can be trusted (FORMAT.md §9.1) */
	uint32_t version;      /* of the qcow2 header: 2 or 3; 0 for raw */
	uint32_t flags;        /* enum qsnap_layer_flags */
};
/* `layer` counts from the top, 0. QSNAP_ERROR_USAGE when there is no such layer. */
QSNAP_API int qsnap_layer_info(const qsnap_image *image, unsigned layer, struct qsnap_layer *info,
	struct qsnap_error *error);

struct qsnap_snapshot {
	size_t size;            /* sizeof(struct qsnap_snapshot), set by the caller */
	const char *id, *name;  /* live as long as the image and until its snapshots change */
	uint64_t disk_size;     /* of the disk when the snapshot was taken */
	uint64_t vm_state_size; /* 0: of the disk alone */
	uint64_t date_seconds;  /* since 1970 */
	uint32_t date_nanoseconds;
};
/* The internal snapshot `index` (0 .. snapshot_count - 1) of the top layer (FORMAT.md §8.2). */
QSNAP_API int qsnap_snapshot_info(const qsnap_image *image, unsigned index, struct qsnap_snapshot *info,
	struct qsnap_error *error);

enum qsnap_extent_flags {
	QSNAP_EXTENT_DATA = 1,       /* must be read; without it, the range reads as zeros */
	QSNAP_EXTENT_PRESENT = 2,    /* some layer says what is here; without it, none does */
	QSNAP_EXTENT_COMPRESSED = 4, /* DATA that lies compressed in its file */
	QSNAP_EXTENT_HOST = 8 /* `host` is valid: the bytes (or the space kept for zeros) are there, uncompressed */
};
struct qsnap_extent {
	size_t size;            /* sizeof(struct qsnap_extent), set by the caller */
	uint64_t start, length; /* guest */
	unsigned flags;         /* enum qsnap_extent_flags */
	unsigned layer;         /* which file of the chain */
	uint64_t host;
	const char *file; /* the file of `host`, NULL without one; lives as long as the image */
};
/* What is at guest offset `start` of the merged chain (FORMAT.md §5.6, §10), as far as it stays so, but at most up to `end` (0: the
 * end of the disk). The next one begins at start + length; it may be of the same kind. In ascending order this is one sweep
 * over the metadata of each layer, whatever the size of the disk. Holes in a file beneath allocated clusters are no data.
 * QSNAP_ERROR_USAGE when `start` is not before the end. */
QSNAP_API int qsnap_extent_at(qsnap_image *image, uint64_t start, uint64_t end, struct qsnap_extent *extent,
	struct qsnap_error *error);

/* ---- reading ---- */

/* Reads guest bytes through the whole chain, zeros included. A range that is not wholly on the disk is QSNAP_ERROR_USAGE; length
 * 0 is allowed. After a failure the contents of `buffer` are undefined. */
QSNAP_API int qsnap_read(qsnap_image *image, void *buffer, size_t length, uint64_t guest, struct qsnap_error *error);

/* ---- changing: images opened with QSNAP_OPEN_WRITE, else QSNAP_ERROR_USAGE ----
 *
 * A crash at any moment leaves what was flushed, and of the rest the old or the new, and at worst some clusters of the file unused. After
 * a failed write for want of space or memory the image can be used further; after a failure to write its tables or to
 * flush, nothing more is written and all calls fail with QSNAP_ERROR_IO. Persistent bitmaps follow all changes. */

/* A range that is not wholly on the disk is QSNAP_ERROR_USAGE; length 0 is allowed. */
QSNAP_API int qsnap_write(qsnap_image *image, const void *buffer, size_t length, uint64_t guest,
	struct qsnap_error *error);
enum qsnap_zero_flags {
	QSNAP_ZERO_UNMAP = 1 /* what the file has there may be given up; without it, it is kept for later writes */
};
/* The range reads as zeros from now on. */
QSNAP_API int qsnap_zero(qsnap_image *image, uint64_t guest, uint64_t length, unsigned flags,
	struct qsnap_error *error);
/* Nobody needs the range any more: whole clusters are given up and read as zeros, or, in an image of version 2 with a backing file,
 * stay; so does the rest of the range. */
QSNAP_API int qsnap_discard(qsnap_image *image, uint64_t guest, uint64_t length, struct qsnap_error *error);
/* When it returns, all that was done is on stable storage. */
QSNAP_API int qsnap_flush(qsnap_image *image, struct qsnap_error *error);
/* Ends the changes: flushes, and gives bitmaps back. Afterwards the image can be read only, until it is closed. Of an image that is
 * not open for writing: 0. */
QSNAP_API int qsnap_finish(qsnap_image *image, struct qsnap_error *error);

enum qsnap_snapshot_flags {
	QSNAP_SNAPSHOT_WIDEN = 1 /* refcounts that are too narrow are made wider first (FORMAT.md §7.3) */
};
struct qsnap_snapshot_options {
	size_t size;    /* sizeof(struct qsnap_snapshot_options) */
	unsigned flags; /* enum qsnap_snapshot_flags */
	int threads;    /* as of qsnap_convert */
};
/* A snapshot of the disk as it is now, with the time that it is now; its number is the next (FORMAT.md §8.2). All three: `options`
 * may be NULL; what makes it impossible is found before the first write (QSNAP_ERROR_LIMIT: a refcount would be too high,
 * or there are too many); when it returns, it is on stable storage. */
QSNAP_API int qsnap_snapshot_create(qsnap_image *image, const char *name, const struct qsnap_snapshot_options *options,
	struct qsnap_error *error);
/* The disk becomes what it was, its size included: by one write of one sector. `name`: name or id, refused when two fit. */
QSNAP_API int qsnap_snapshot_apply(qsnap_image *image, const char *name, const struct qsnap_snapshot_options *options,
	struct qsnap_error *error);
QSNAP_API int qsnap_snapshot_delete(qsnap_image *image, const char *name, const struct qsnap_snapshot_options *options,
	struct qsnap_error *error);

/* ---- what differs between two states of one image ---- */

enum qsnap_difference_kind {
	QSNAP_DIFFERENCE_DATA,    /* the image itself holds what the later state shows */
	QSNAP_DIFFERENCE_ZERO,    /* the later state reads as zeros */
	QSNAP_DIFFERENCE_BACKING, /* the later state shows its backing file */
	QSNAP_DIFFERENCE_GONE     /* beyond the end of the later state */
};
struct qsnap_difference {
	size_t size;            /* sizeof(struct qsnap_difference), set by the caller */
	uint64_t start, length; /* guest */
	int kind;               /* enum qsnap_difference_kind, of the later state */
	int added;              /* not 0: beyond the end of the earlier state */
};
typedef struct qsnap_diff qsnap_diff;
/* The ranges that two states of the top layer do not surely share, from metadata alone: clusters that both have are the same, and
 * different ones may be. `from` and `to` are names or ids of its snapshots; `from` NULL: its backing file; `to` NULL: the disk
 * as it is. Until qsnap_diff_close the image stays open, is used by the same thread, and is not changed. */
QSNAP_API int qsnap_diff_open(qsnap_diff **diff, qsnap_image *image, const char *from, const char *to,
	struct qsnap_error *error);
/* The next one, ascending: 1. 0: there is none left, and the snapshots were not changed meanwhile; else QSNAP_ERROR_CHANGED. */
QSNAP_API int qsnap_diff_next(qsnap_diff *diff, struct qsnap_difference *difference, struct qsnap_error *error);
QSNAP_API void qsnap_diff_close(qsnap_diff *diff); /* NULL is allowed */

/* ---- converting ---- */

enum qsnap_convert_flags {
	QSNAP_CONVERT_RECOMPRESS = 1,           /* compress again what could be copied as it is (FORMAT.md §6.4) */
	QSNAP_CONVERT_IN_PLACE = 2,             /* the target exists; it is written into and keeps its length */
	QSNAP_CONVERT_TARGET_IS_ZERO = 4,       /* with IN_PLACE: it reads as zeros already */
	QSNAP_CONVERT_WRITE_ZEROS = 8,          /* zeros are written out, not left as holes */
	QSNAP_CONVERT_SALVAGE = 16,             /* what cannot be read becomes zeros */
	QSNAP_CONVERT_BITMAPS = 32,             /* persistent bitmaps of the top layer are copied (FORMAT.md §9) */
	QSNAP_CONVERT_SKIP_BROKEN_BITMAPS = 64, /* ... but not inconsistent ones */
	QSNAP_CONVERT_KEEP_SNAPSHOTS = 128,     /* internal snapshots and bitmaps are copied */
	QSNAP_CONVERT_NO_REFLINK = 256,         /* no blocks are shared with the source */
	QSNAP_CONVERT_TWO_PASS = 512,           /* compressed qcow2 to target_fd: compress twice, need no spool */
	QSNAP_CONVERT_DIRECT = 1024,            /* O_DIRECT for the target */
	QSNAP_CONVERT_EXTENDED_L2 = 2048,       /* the new qcow2 image has subclusters (FORMAT.md §5.5) */
	QSNAP_CONVERT_VERSION_2 = 4096          /* ... is of version 2 (FORMAT.md §3.1) */
};
enum { QSNAP_LEVEL_FASTEST = -1 };

struct qsnap_convert_result {
	size_t size;             /* sizeof(struct qsnap_convert_result), set by the caller */
	uint64_t virtual_size;   /* of the new disk */
	uint64_t target_size;    /* length of the target */
	uint64_t read_bytes;     /* guest bytes that were read as such */
	uint64_t passed_through; /* bytes of compressed clusters that were copied as they are */
	uint64_t cloned_bytes;   /* shared with the source by the file system */
	uint64_t salvaged;       /* places of 4 KiB at most that could not be read */
	char digest[136];        /* lower-case hex; "" unless asked for */
};

struct qsnap_convert_options {
	size_t size;             /* sizeof(struct qsnap_convert_options) */
	const char *format;      /* of the target: "qcow2" or "raw" (NULL: raw) */
	int compress;            /* compress the clusters (qcow2) */
	const char *compression; /* "zlib" (NULL) or "zstd" */
	uint32_t cluster_size;   /* 0: 64 KiB */
	int threads;             /* 0: one for each processor; -1: none but the caller's; at most 256 */
	int sync;                /* the target is on stable storage when the call returns */
	/* Called on the caller's thread now and then, with guest bytes that are done; a return value other than 0 cancels the
	 * work. May be NULL. */
	int (*progress)(void *context, uint64_t done, uint64_t total);
	void *context;                   /* for progress and warn */
	unsigned flags;                  /* enum qsnap_convert_flags */
	int level;                       /* 1..12 (zlib), 1..19 (zstd), QSNAP_LEVEL_FASTEST; 0: the default */
	const char *const *more_sources; /* read behind the first one, as one disk, opened with the same options */
	size_t more_source_count;
	/* The target becomes an overlay of this file (its name is stored as it is); what the source's own backing file, or the
	 * layer of the source that has this name, holds is not copied. Needs backing_format. */
	const char *backing_name, *backing_format;
	uint32_t sparse_size;  /* zero runs of at least this become holes, a multiple of 512; 0: 4096 */
	int target_fd;         /* where the image goes when target_path is NULL: a pipe, a socket, a file; not closed */
	uint64_t rate_limit;   /* bytes a second; 0: none */
	const char *hash;      /* "sha256" or another digest of libcrypto, of the target's bytes; NULL: none */
	const char *spool_dir; /* compressed qcow2 to target_fd is spooled here; NULL: TMPDIR, else /var/tmp */
	/* Called on the caller's thread with a thing to know that is no failure; `text` lives until it returns. May be NULL. */
	void (*warn)(void *context, const char *text);
	struct qsnap_convert_result *result; /* filled when the call succeeds; NULL: not wanted */
	/* name or id of a snapshot of the source that the file backing_name holds: only what differs from it is written (qcow2);
	 * NULL: all */
	const char *since;
};
/* Copies a disk into a new file, which appears under its name when it is whole; an existing regular file is replaced (mode and
 * owner kept), a block device overwritten. Its bytes depend on the source and the options, not on threads. `source` are
 * options for opening `source_path`, as above; `source` and `options` may be NULL. After a failure there is no new file and an old one is as it
 * was. A target that is one of the source's files is QSNAP_ERROR_USAGE, one that a QEMU uses QSNAP_ERROR_BUSY. With target_fd
 * SIGPIPE is the caller's to ignore. */
QSNAP_API int qsnap_convert(const char *source_path, const struct qsnap_open_options *source, const char *target_path,
	const struct qsnap_convert_options *options, struct qsnap_error *error);

#ifdef __cplusplus
}
#endif
#endif
