/* SPDX-License-Identifier: Apache-2.0
 *
 * base: what every other folder may use and nothing else. Errors as values, big-endian bytes, checked arithmetic,
 * scope cleanup, sizes as text, a streaming JSON writer, an ordered worker pool, progress.
 *
 * Rule of the house: a function that can fail returns 0 (or a count) on success and -1 on failure, and takes a
 * `struct error *` (never NULL) which it fills only when it fails. Nothing here prints or exits.
 */
#ifndef QSNAP_BASE_H
#define QSNAP_BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- errors (base/error.c) ---- */

enum err_code {
	ERR_OK = 0,
	ERR_USAGE,       /* the caller asked for something that makes no sense */
	ERR_IO,          /* the system said no; sys_errno tells why */
	ERR_NOT_FOUND,   /* a named thing (file, snapshot, bitmap) does not exist */
	ERR_CORRUPT,     /* the image breaks its format */
	ERR_UNSUPPORTED, /* valid, but not done here (encryption, unknown features, other formats) */
	ERR_LIMIT,       /* a limit of FORMAT.md §14 or of --untrusted */
	ERR_DENIED,      /* --untrusted forbids it */
	ERR_BUSY,        /* somebody holds a lock */
	ERR_CHANGED,     /* the source changed under the reader */
	ERR_NO_MEMORY,
	ERR_CANCELLED,
	ERR_PASSING, /* of a service: it may work at the next try */
};

struct error {
	enum err_code code;
	int sys_errno; /* 0 when no system call was behind it */
	char msg[1000];
};

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* Fills `e` and gives -1, so that a failure is one expression: return err_set(e, ERR_CORRUPT, "...", ...). A macro, so that
 * compilers and analyzers see the -1. */
static inline int err_value(void)
{
	return -1;
}
#define err_set(...) (err_fill(__VA_ARGS__), err_value())
void err_fill(struct error *e, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same for a failed system call; ": " and strerror(sys_errno) follow the text. ENOENT gives ERR_NOT_FOUND,
 * EAGAIN/EACCES of a lock are the caller's to map, all else ERR_IO. */
#define err_sys(...) (err_fill_sys(__VA_ARGS__), err_value())
void err_fill_sys(struct error *e, int sys_errno, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "context: " before the message on the way up; returns -1. */
#define err_prefix(...) (err_fill_prefix(__VA_ARGS__), err_value())
void err_fill_prefix(struct error *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- bytes and arithmetic (inline) ---- */

static inline uint16_t get_be16(const void *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof v);
	return __builtin_bswap16(v);
}
static inline uint32_t get_be32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return __builtin_bswap32(v);
}
static inline uint64_t get_be64(const void *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return __builtin_bswap64(v);
}
static inline void put_be16(void *p, uint16_t v)
{
	v = __builtin_bswap16(v);
	memcpy(p, &v, sizeof v);
}
static inline void put_be32(void *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, sizeof v);
}
static inline void put_be64(void *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, sizeof v);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}
static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}
/* `align` is a power of two. align_up must not be given values within `align` of 2^64 (check the border first). */
static inline uint64_t align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}
static inline uint64_t align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}
static inline uint64_t div_round_up(uint64_t v, uint64_t d)
{
	return v / d + (v % d != 0);
}
/* True when the result does not fit; the sum/product is then not to be used. */
static inline bool add_overflows(uint64_t a, uint64_t b, uint64_t *sum)
{
	return __builtin_add_overflow(a, b, sum);
}
static inline bool mul_overflows(uint64_t a, uint64_t b, uint64_t *product)
{
	return __builtin_mul_overflow(a, b, product);
}

/* ---- memory (base/memory.c) ---- */

void cleanup_free(void *pp); /* for AUTO_FREE: frees *(void **)pp */
#define AUTO_FREE __attribute__((cleanup(cleanup_free)))
/* Takes the value out of an AUTO_ variable, leaving NULL behind. */
#define STEAL(var)                                                                                                     \
	(__extension__({                                                                                               \
		__typeof__(var) stolen_ = (var);                                                                       \
		(var) = NULL;                                                                                          \
		stolen_;                                                                                               \
	}))

/* Zeroed memory or NULL with ERR_NO_MEMORY; `what` names the structure for the message. Owned by the caller, free(). */
void *mem_calloc(size_t n, size_t size, const char *what, struct error *e);
/* Page-aligned, not zeroed; for I/O buffers. free(). */
void *mem_alloc_pages(size_t size, const char *what, struct error *e);
/* The same, aligned to 2 MiB and of huge pages where the system has some: for what is touched everywhere. */
void *mem_alloc_huge(size_t size, const char *what, struct error *e);
char *mem_strdup(const char *s, struct error *e);
/* The same in *to, NULL of NULL. */
int mem_copy_text(char **to, const char *from, struct error *e);
char *mem_printf(struct error *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* True when all `len` bytes are zero. Any alignment; as fast as the machine reads. */
bool mem_is_zero(const void *p, size_t len);

/* ---- random UUIDs (base/uuid.c) ---- */

enum { UUID_CHARS = 37 };
/* RFC 4122, version 4, in small letters. */
int uuid_new(char out[UUID_CHARS], struct error *e);

/* ---- sizes as text (base/size.c) ---- */

/* "64k", "1.5G", "0x1000", "512": bytes, suffixes b k K M G T P E in powers of 1024, as qemu-img reads them (no suffix:
 * bytes). ERR_USAGE on anything else, on a negative number, or beyond INT64_MAX. */
int size_parse(const char *text, uint64_t *bytes, struct error *e);
/* "1.5 GiB" with three significant digits, as qemu-img's info prints; returns buf. */
const char *size_format(uint64_t bytes, char buf[32]);

/* ---- JSON out (base/json.c): streaming, nothing is kept; RFC 8259 ---- */

struct json {
	FILE *out;
	unsigned depth;
	bool need_comma;
	bool compact; /* one line; else four spaces a level, as qemu-img prints */
};

void json_init(struct json *j, FILE *out, bool compact);
/* `key` is NULL inside an array and for the outermost value. */
void json_object_begin(struct json *j, const char *key);
void json_object_end(struct json *j);
void json_array_begin(struct json *j, const char *key);
void json_array_end(struct json *j);
void json_string(struct json *j, const char *key, const char *value); /* bytes that are no UTF-8 come out as U+FFFD */
void json_uint(struct json *j, const char *key, uint64_t value);
void json_int(struct json *j, const char *key, int64_t value);
void json_bool(struct json *j, const char *key, bool value);
void json_double(struct json *j, const char *key, double value);

/* ---- modules (base/module.c) ---- */

/* The function `symbol` of qsnap-MODULE.so, which stays loaded; NULL: ERR_UNSUPPORTED with the loader's words. */
void *module_symbol(const char *module, const char *symbol, struct error *e);

/* ---- threads (base/pool.c): the only place that makes any ---- */

struct pool;
typedef void pool_work_fn(void *job, unsigned worker);

/* An ordered pipeline: jobs go in by pool_submit, are worked on by `threads` threads in any order, and come back by
 * pool_take in the order of submission. `threads` 0: pool_submit runs the job itself (the serial twin). At most `depth`
 * jobs may be between submit and take; the caller owns the job objects and sees to that bound (pool_in_flight).
 * submit and take are for one thread only. `work` gets the index of its thread, 0..threads-1. Stacks are 256 KiB. */
int pool_new(struct pool **out, unsigned threads, unsigned depth, pool_work_fn *work, struct error *e);
void pool_submit(struct pool *p, void *job);
/* The oldest submitted job, waiting until its work is done; NULL when nothing is in flight. */
void *pool_take(struct pool *p);
/* Like pool_take, but NULL at once when the oldest is not done yet. */
void *pool_try_take(struct pool *p);
/* Before the first submit: what is taken needs little work, so pool_take may sleep until the threads are about to run out of jobs,
 * and then finds several done; waking it for each costs more than it does. */
void pool_take_late(struct pool *p);
unsigned pool_in_flight(const struct pool *p);
/* Waits for what is in flight, ends the threads. NULL is allowed. */
void pool_free(struct pool *p);
/* Processors this process may run on, at least 1. */
unsigned pool_cpu_count(void);

/* ---- progress and cancelling ---- */

/* Shared by a long operation and whoever asked for it. `report` is called on the operation's own thread with what is
 * finished for good, at most once per job; NULL: nobody looks. `cancel` may be set by a signal handler; NULL: never. */
struct progress {
	void (*report)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
	const atomic_bool *cancel;
};

static inline bool progress_cancelled(const struct progress *p)
{
	return p && p->cancel && atomic_load_explicit(p->cancel, memory_order_relaxed);
}
static inline void progress_report(const struct progress *p, uint64_t done, uint64_t total)
{
	if (p && p->report)
		p->report(p->ctx, done, total);
}

#endif
