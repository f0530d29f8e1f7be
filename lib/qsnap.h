/* SPDX-License-Identifier: Apache-2.0
 *
 * libqsnap: disk images (qcow2 and raw, with their backing files) opened, looked at, read and converted.
 *
 * Errors: a function that can fail returns 0 on success and -1 on failure, and then fills the qsnap_error given, which must
 * not be NULL. Nothing here prints, exits, or changes signals, the locale or the umask.
 *
 * Threads: a qsnap_image is for one thread at a time; any number of images may be used by as many threads.
 *
 * Units are bytes. Offsets and lengths on the disk that a guest sees are "guest", places in files "host".
 *
 * All structures that a caller fills begin with their own size, so that they may grow: clear one with
 * `struct qsnap_open_options o = { .size = sizeof o };`.
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
	QSNAP_ERROR_UNSUPPORTED, /* encryption, unknown features, other formats */
	QSNAP_ERROR_LIMIT,       /* larger than the format or the caller allows */
	QSNAP_ERROR_DENIED,      /* not allowed for an untrusted image */
	QSNAP_ERROR_BUSY,        /* somebody else has the image open for writing */
	QSNAP_ERROR_CHANGED,     /* the source changed while it was read */
	QSNAP_ERROR_NO_MEMORY,
	QSNAP_ERROR_CANCELLED,
};

struct qsnap_error {
	int code;           /* enum qsnap_error_code */
	int sys_errno;      /* 0 when no system call was behind it */
	char message[1000]; /* one line in English without a newline, names the file and what is wrong in it */
};

/* ---- opening ---- */

typedef struct qsnap_image qsnap_image;

enum qsnap_open_flags {
	QSNAP_OPEN_TOP_ONLY = 1, /* no backing file and no data file is opened: for looking only, data cannot be read */
	QSNAP_OPEN_SHARED = 2, /* although others may write to it (qemu-img's -U); what is read may then be a mixture */
	QSNAP_OPEN_UNTRUSTED =
		4,             /* a stranger's image: no backing file, no data file, nothing unknown; needs a format */
	QSNAP_OPEN_DIRECT = 8, /* O_DIRECT, not through the page cache */
};

struct qsnap_open_options {
	size_t size;        /* sizeof(struct qsnap_open_options) */
	const char *format; /* "qcow2", "raw"; NULL: find out. Never NULL for a disk that a guest could write to. */
	const char
		*snapshot; /* name or id of an internal snapshot to be read instead of the active state; NULL: none */
	unsigned flags;    /* enum qsnap_open_flags */
	uint64_t max_virtual_size; /* refuse larger disks; 0: any */
};

/* Opens an image with its backing files for reading and takes the locks that QEMU takes. `options` may be NULL. The image is
 * the caller's, who gives it back to qsnap_close. */
QSNAP_API int qsnap_open(qsnap_image **image, const char *path, const struct qsnap_open_options *options,
	struct qsnap_error *error);
/* NULL is allowed. */
QSNAP_API void qsnap_close(qsnap_image *image);

/* ---- looking ---- */

/* Size of the disk as the guest sees it. */
QSNAP_API uint64_t qsnap_size(const qsnap_image *image);
/* How many files the chain has; 0 is the top, the last one has no backing file. */
QSNAP_API unsigned qsnap_layer_count(const qsnap_image *image);

struct qsnap_layer {
	size_t size;                /* sizeof(struct qsnap_layer), set by the caller */
	const char *path, *format;  /* strings live as long as the image */
	const char *backing_name;   /* as it is stored in the image; NULL: none */
	const char *backing_format; /* NULL: none or not stored */
	uint64_t virtual_size;
	uint64_t file_size;    /* length of the file */
	uint32_t cluster_size; /* 0 for raw */
	uint32_t snapshot_count;
	uint32_t bitmap_count;
};
/* QSNAP_ERROR_USAGE when there is no such layer. */
QSNAP_API int qsnap_layer_info(const qsnap_image *image, unsigned layer, struct qsnap_layer *info,
	struct qsnap_error *error);

struct qsnap_snapshot {
	size_t size;           /* sizeof(struct qsnap_snapshot), set by the caller */
	const char *id, *name; /* live as long as the image */
	uint64_t disk_size;    /* of the disk when the snapshot was taken */
	uint64_t vm_state_size;
	uint64_t date_seconds; /* since 1970 */
	uint32_t date_nanoseconds;
};
/* The internal snapshot `index` (0 .. snapshot_count - 1) of the top layer. */
QSNAP_API int qsnap_snapshot_info(const qsnap_image *image, unsigned index, struct qsnap_snapshot *info,
	struct qsnap_error *error);

enum qsnap_extent_flags {
	QSNAP_EXTENT_DATA = 1,       /* must be read; without it, the range reads as zeros */
	QSNAP_EXTENT_PRESENT = 2,    /* some layer says what is here; without it, none does */
	QSNAP_EXTENT_COMPRESSED = 4, /* DATA that lies compressed in its file */
	QSNAP_EXTENT_HOST = 8, /* `host` is valid: the bytes (or the space kept for zeros) are there, uncompressed */
};
struct qsnap_extent {
	uint64_t start, length; /* guest */
	unsigned flags;         /* enum qsnap_extent_flags */
	unsigned layer;         /* which file of the chain */
	uint64_t host;
};
/* What is at guest offset `start`, as far as it stays so, but at most up to `end` (0: the end of the disk). Fast when asked in
 * ascending order. QSNAP_ERROR_USAGE when `start` is not before the end. */
QSNAP_API int qsnap_extent_at(qsnap_image *image, uint64_t start, uint64_t end, struct qsnap_extent *extent,
	struct qsnap_error *error);

/* ---- reading ---- */

/* Reads guest bytes through the whole chain. A range that is not wholly on the disk is QSNAP_ERROR_USAGE. */
QSNAP_API int qsnap_read(qsnap_image *image, void *buffer, size_t length, uint64_t guest, struct qsnap_error *error);

/* ---- converting ---- */

struct qsnap_convert_options {
	size_t size;             /* sizeof(struct qsnap_convert_options) */
	const char *format;      /* of the target: "qcow2" or "raw" (NULL: raw) */
	int compress;            /* compress the clusters (qcow2) */
	const char *compression; /* "zlib" (NULL) or "zstd" */
	uint32_t cluster_size;   /* 0: 64 KiB */
	int threads;             /* 0: one for each processor; -1: none but the caller's */
	int sync;                /* the target is on stable storage when the call returns */
	/* Called on the caller's thread now and then; a return value other than 0 cancels the work. May be NULL. */
	int (*progress)(void *context, uint64_t done, uint64_t total);
	void *context;
};
/* Copies a disk into a new file, which appears under its name when it is whole; an existing regular file is replaced, a block
 * device overwritten. `source` are options for opening `source_path`, as above; both may be NULL. After a failure there is no
 * new file and an old one is as it was. */
QSNAP_API int qsnap_convert(const char *source_path, const struct qsnap_open_options *source, const char *target_path,
	const struct qsnap_convert_options *options, struct qsnap_error *error);

#ifdef __cplusplus
}
#endif
#endif
