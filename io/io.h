/* SPDX-License-Identifier: Apache-2.0
 *
 * io: bytes at offsets. An opened file, block device, memory area or (from qcow2/) a whole image is a `struct io`;
 * a pipe or an upload is an append-only `struct io_stream`. What a kind of file can do beyond read and write
 * (reflink, punching holes, O_DIRECT) is a capability with a fall-back.
 *
 * Threads: io_read, io_write and io_zero may be called from any thread at once on file, device and memory ios. Everything
 * else, and every call on an image io, is for one thread at a time.
 */
#ifndef QSNAP_IO_H
#define QSNAP_IO_H

#include "base/base.h"

struct io;

/* ---- extents: the common currency of reading ---- */

enum extent_kind {
	EXTENT_ABSENT,     /* in no layer; reads as zeros */
	EXTENT_ZERO,       /* reads as zeros because a layer says so */
	EXTENT_DATA,       /* `file` holds the bytes at `host` */
	EXTENT_COMPRESSED, /* one compressed cluster (or a part of it) in `file` at `host`, `csize` bytes */
};

enum codec_id { CODEC_DEFLATE = 0, CODEC_ZSTD = 1 }; /* the compression_type of FORMAT.md §3.6 */

struct extent {
	uint64_t start, len; /* guest range in bytes */
	enum extent_kind kind;
	bool has_host; /* `host` is valid; also for ZERO with a preallocated cluster, ZERO of a raw file's hole, ABSENT
	                * inside an allocated cluster with extended L2 */
	bool in_backing; /* set by convert: the target's backing file shows the same */
	bool hole;       /* ZERO only because the file has a hole where an allocated cluster lies (WALK_FILE_HOLES) */
	uint8_t codec;   /* enum codec_id, COMPRESSED only */
	uint8_t cluster_bits; /* of the layer it comes from; 0 for raw */
	uint16_t depth;       /* which layer: 0 = top */
	uint32_t csize;       /* COMPRESSED: bytes to read at `host`; the last 511 may be foreign (FORMAT.md §5.4) */
	uint32_t skip;        /* COMPRESSED: where in the decompressed cluster this extent's first byte is */
	uint64_t host;   /* offset in `file` of the byte `start` (DATA, ZERO), of the compressed stream (COMPRESSED) */
	struct io *file; /* borrowed; lives as long as the image */
};

/* ---- random access ---- */

enum io_caps {
	IO_CAN_WRITE = 1,
	IO_CAN_PUNCH = 2,   /* io_zero with IO_ZERO_UNMAP frees space */
	IO_CAN_CLONE = 4,   /* a reflink between two ios of one file system is worth a try */
	IO_IS_DEVICE = 8,   /* a block device: size fixed, no holes to ask for */
	IO_DIRECT = 16,     /* opened with O_DIRECT; `align` says what is fast, everything works */
	IO_READS_ZERO = 32, /* never-written ranges read as zeros (a new file; not a device, not an existing target) */
	IO_FILLS = 64, /* writes of whole new pages inside the file do not wait for each other (a new file on tmpfs) */
};

enum io_zero_flags { IO_ZERO_UNMAP = 1 /* holes are welcome */ };

/* What an implementation may rely on (io/io.c sees to it): `read` and `extent` get ranges wholly inside the file and not empty,
 * `write` and `zero` ranges that are not empty and only when IO_CAN_WRITE. NULL: zero writes zeros, extent says DATA at host =
 * off, flush and refresh do nothing, truncate is refused. */
struct io_ops {
	int (*read)(struct io *io, void *buf, size_t len, uint64_t off, struct error *e);
	int (*write)(struct io *io, const void *buf, size_t len, uint64_t off, struct error *e);
	int (*zero)(struct io *io, uint64_t off, uint64_t len, unsigned flags, struct error *e);
	/* The extent that begins at `off`, at most `len` long, of one kind. */
	int (*extent)(struct io *io, uint64_t off, uint64_t len, struct extent *out, struct error *e);
	int (*flush)(struct io *io, struct error *e);
	int (*truncate)(struct io *io, uint64_t size, struct error *e);
	void (*refresh)(struct io *io); /* looks whether `size` has grown; called when a read reaches beyond it */
	void (*close)(struct io *io);
};

struct io {
	const struct io_ops *ops;
	uint64_t size;  /* bytes, now */
	unsigned caps;  /* enum io_caps */
	uint32_t align; /* O_DIRECT's offset and memory alignment; 1 when there is none */
	char *name;     /* for messages; owned */
};

/* Reads `len` bytes; what lies past the end of the file reads as zeros (FORMAT.md §5.6). */
int io_read(struct io *io, void *buf, size_t len, uint64_t off, struct error *e);
/* The same, but ERR_CORRUPT when the range is not wholly inside the file: for metadata. `what` names the structure. */
int io_read_exact(struct io *io, void *buf, size_t len, uint64_t off, const char *what, struct error *e);
int io_write(struct io *io, const void *buf, size_t len, uint64_t off, struct error *e);
/* Makes the range read as zeros, growing the file if need be. */
int io_zero(struct io *io, uint64_t off, uint64_t len, unsigned flags, struct error *e);
/* Real zeros, written byte for byte: preallocation=full. */
int io_write_zeros(struct io *io, uint64_t off, uint64_t len, struct error *e);
int io_extent(struct io *io, uint64_t off, uint64_t len, struct extent *out, struct error *e);
/* Durable on return (fdatasync; also the length). */
int io_flush(struct io *io, struct error *e);
int io_truncate(struct io *io, uint64_t size, struct error *e);
void io_close(struct io *io); /* NULL is allowed */

void cleanup_io(struct io **io);
#define AUTO_IO __attribute__((cleanup(cleanup_io)))

/* ---- files and block devices (io/file.c) ---- */

enum io_open_flags {
	IO_OPEN_WRITE = 1,
	IO_OPEN_DIRECT = 2,   /* O_DIRECT where the file system takes it, else plain (tmpfs) */
	IO_OPEN_NOFOLLOW = 4, /* a symlink as the last component is refused */
	IO_OPEN_SYNC = 8,     /* O_DSYNC (cache modes writethrough, directsync) */
	IO_OPEN_UNSAFE =
		32, /* flushing does nothing: who asks for it gives up the file if the machine stops (cache mode unsafe) */
	IO_OPEN_REGULAR = 16, /* regular files and block devices only is always so; this refuses devices too */
};

/* Whether a name given for something new means a folder for it: it ends in a slash, or is one. */
bool io_means_folder(const char *path);
/* Opens an existing regular file or block device; O_CLOEXEC always; FIFOs, directories, sockets and character devices are
 * refused without blocking. The io's name is `path`. */
int io_file_open(struct io **out, const char *path, unsigned flags, struct error *e);
/* A new empty file, mode 0600; ERR_IO with EEXIST when something is there. Open for writing. */
int io_file_create(struct io **out, const char *path, struct error *e);
/* Takes over `fd` (closed with the io; on failure it stays the caller's). `name` for messages. */
int io_file_from_fd(struct io **out, int fd, const char *name, unsigned flags, struct error *e);
/* The descriptor behind a file io, -1 for other kinds. Borrowed. */
int io_file_fd(const struct io *io);
/* Where the file lies: for loop detection and "target equals source". False for other kinds. */
struct io_identity {
	uint64_t dev, ino; /* for a device node: its rdev and 0 */
};
bool io_file_identity(const struct io *io, struct io_identity *id);
/* Owner and mode of another file or device, as far as they may be given. */
int io_file_own_as(struct io *io, const struct io *other, struct error *e);
/* Bytes that the file takes on disk (st_blocks * 512); 0 for devices. */
uint64_t io_file_allocated(const struct io *io);
/* Gives the space of a range back; it reads as zeros then. 0 done, 1 not possible here: nothing was changed, and no zeros were written
 * instead. A device keeps what is less than a page at either end. */
int io_punch(struct io *io, uint64_t off, uint64_t len, struct error *e);
/* Reserves space (posix_fallocate semantics; the range reads as zeros). */
int io_file_reserve(struct io *io, uint64_t off, uint64_t len, struct error *e);
/* A hint that the range, just written, may go to the disk while the caller does something else before it flushes. */
void io_file_push(struct io *io, uint64_t off, uint64_t len);
/* Shares src's blocks with dst (FICLONERANGE). 0 done, 1 not possible here (other file system, alignment, kind): nothing was
 * changed, copy instead; -1 a real error. Offsets and len should be multiples of the file system's block. */
int io_clone(struct io *dst, uint64_t dst_off, struct io *src, uint64_t src_off, uint64_t len, struct error *e);
/* Whether that may be possible between files in this folder, as far as the kind of its file system tells. */
bool io_folder_may_clone(const char *path);
/* copy_file_range; the same return values. For -C. */
int io_copy_range(struct io *dst, uint64_t dst_off, struct io *src, uint64_t src_off, uint64_t len, struct error *e);

/* ---- QEMU's locks (io/lock.c, FORMAT.md §13) ---- */

enum io_lock_mode {
	IO_LOCK_READ,  /* as an image opened read-only by QEMU: uses consistent-read, shares neither write nor resize */
	IO_LOCK_WRITE, /* as one opened read-write */
	IO_LOCK_WRITE_RAW, /* as a raw image opened read-write: shares all */
	IO_LOCK_SHARED,    /* -U, and every raw image that QEMU reads: byte 100 only, shares all, tests 200 */
	IO_LOCK_NONE,
};

/* Takes the locks on a file io for as long as its descriptor lives. ERR_BUSY names the permission that is held, as in
 * `Failed to get shared "write" lock`. Other kinds of io and file systems without locks: does nothing, succeeds. */
int io_lock(struct io *io, enum io_lock_mode mode, struct error *e);
/* IO_LOCK_WRITE becomes IO_LOCK_READ, without a moment between in which nothing is held. */
int io_lock_lower(struct io *io, struct error *e);

/* ---- memory, for tests and small things (io/memory.c) ---- */

int io_memory_new(struct io **out, const void *bytes, size_t len, const char *name, struct error *e); /* copies */
const uint8_t *io_memory_bytes(const struct io *io);
/* Swallows all writes, keeps only its size: for layout runs. */
int io_null_new(struct io **out, struct error *e);

/* ---- append-only streams (io/stream.c) ---- */

struct io_stream;
struct io_stream_ops {
	int (*append)(struct io_stream *s, const void *buf, size_t len, struct error *e); /* buf NULL: len zero bytes */
	int (*finish)(struct io_stream *s, struct error *e);               /* flushes; no append after it */
	int (*expect)(struct io_stream *s, uint64_t len, struct error *e); /* NULL: it need not know */
	void (*close)(struct io_stream *s);
};
struct io_stream {
	const struct io_stream_ops *ops;
	uint64_t pos; /* bytes appended so far */
	char *name;
	const atomic_bool
		*cancel; /* may be set by a signal while an append waits for its reader: ERR_CANCELLED; may be NULL */
};

/* That `len` bytes will come in all. Before the first append, by writers who know. */
int io_stream_expect(struct io_stream *s, uint64_t len, struct error *e);
int io_stream_append(struct io_stream *s, const void *buf, size_t len, struct error *e);
int io_stream_finish(struct io_stream *s, struct error *e);
void io_stream_close(struct io_stream *s);
/* To a pipe or any descriptor (not taken over, not closed). EPIPE is an error, not a signal (the caller ignores SIGPIPE). */
int io_stream_fd(struct io_stream **out, int fd, const char *name, struct error *e);
/* A write-only io over a stream: writes must come in ascending order, gaps become zeros; write before `pos` is an error.
 * io_truncate upwards appends zeros. Closing it does not close the stream. */
int io_from_stream(struct io **out, struct io_stream *s, struct error *e);

/* ---- digests (io/hash.c) ---- */

struct hash;
int hash_known(const char *algorithm, struct error *e); /* 0 or ERR_USAGE */
int hash_new(struct hash **out, const char *algorithm, struct error *e);
int hash_update(struct hash *h, const void *bytes, size_t len, struct error *e); /* bytes NULL: zeros */
int hash_finish(struct hash *h, char hex[129], struct error *e);
void hash_free(struct hash *h);
int hash_io(struct io *io, uint64_t len, const char *algorithm, const struct progress *progress, char hex[129],
	struct error *e);
/* A stream that hashes what passes; borrows both. */
int hash_stream_new(struct io_stream **out, struct io_stream *below, struct hash *h, struct error *e);

/* ---- the target of a conversion (io/target.c) ---- */

/* A new file is written under a temporary name in its own folder (O_TMPFILE where there is one) and linked at the end; an
 * existing regular file is replaced by rename, mode and owner kept, a symlink followed; devices are opened in place. A
 * process that dies leaves the old file or none. What exists is locked as QEMU's writers do until the target is closed: a disk
 * in use is refused (so refuse a target that is one of the sources before, with a better message). */
struct target;
struct target_opts {
	bool in_place;    /* -n: must exist, opened as it is */
	bool locked;      /* the caller holds the lock already */
	bool direct;      /* -t none, directsync */
	bool dsync;       /* -t writethrough, directsync */
	bool sync_at_end; /* all but -t unsafe: fsync of file and folder before the final name */
	bool fresh;       /* nothing may be there yet: ERR_USAGE */
	/* A new file is there, without its name yet: -1 gives it up. NULL: nobody wants to know. */
	int (*made)(void *ctx, const struct io_identity *id, struct error *e);
	void *made_ctx;
};
int target_open(struct target **out, const char *path, const struct target_opts *opts, struct error *e);
struct io *target_io(struct target *t);                           /* borrowed */
bool target_same(const struct target *a, const struct target *b); /* one file, or one name for two new ones */
bool target_is_new(const struct target *t);                       /* the io reads zeros everywhere and starts empty */
int target_commit(struct target *t, struct error *e);
void target_close(struct target *t); /* without a commit before: nothing is left behind; NULL is allowed */
/* An unnamed temporary file in `dir` (NULL: TMPDIR, else /var/tmp), mode 0600. */
int io_spool_new(struct io **out, const char *dir, struct error *e);

#endif
