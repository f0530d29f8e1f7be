/* SPDX-License-Identifier: Apache-2.0
 *
 * snapshot: points in time of a virtual machine. Names here begin with vm_. One `struct vm` is one command on one domain: it
 * holds the domain's lock, looks at what the hypervisor says, and keeps a journal of what it leaves in the world for the
 * time being (a guest that is stopped, a block job, an internal snapshot, a file), so that whoever comes after a crash can
 * take it all back. ARCHITECTURE.md tells the steps of each mode.
 *
 * Threads: all calls of one vm are for one thread.
 */
#ifndef QSNAP_SNAPSHOT_H
#define QSNAP_SNAPSHOT_H

#include "convert/convert.h"
#include "driver/driver.h"

/* ---- who is told what happens; any of the functions may be NULL ---- */

struct vm_voice {
	void *ctx;
	/* A step begins: `step` is a word for programs ("save", "snapshot", "extract", ...), `disk` its target or NULL. */
	void (*step)(void *ctx, const char *step, const char *disk);
	/* Something to know that is no failure: what was left out, which way was chosen and why, what recovery did. */
	void (*note)(void *ctx, const char *text);
	struct progress *progress; /* of the step that runs; its cancel flag ends all */
};

/* ---- a command on a domain (snapshot/vm.c) ---- */

struct vm_opts {
	struct driver *driver;
	const char *domain;    /* name or UUID */
	const char *state_dir; /* of locks and journals, absolute; made when it is not there */
	unsigned wait_seconds; /* for another qsnap that has the domain; 0: ERR_BUSY at once */
	bool read_only;        /* takes no lock, recovers nothing: for lists */
	unsigned max_pause;    /* seconds that the guest may stand still while something is deleted; 0: 30 */
	bool without_memory;   /* a guest that waits to go on from its memory boots instead */
	unsigned retry_ms;     /* for how long taking back is tried again; 0: 20 s */
	unsigned patience_ms;  /* with a block job that does not catch up with the guest; 0: 60 s */
	struct vm_voice voice;
};

struct vm;
/* Looks the domain up, takes its lock, and takes back what an earlier command left when it died (vm_recover). ERR_BUSY: another
 * qsnap has it. ERR_UNSUPPORTED: the hypervisor is on another host. */
int vm_open(struct vm **out, const struct vm_opts *o, struct error *e);
/* How many things of ours are still in the world and wait for `recover`. */
unsigned vm_left(const struct vm *vm);
void vm_close(struct vm *vm); /* NULL is allowed */
const struct driver_domain *vm_domain(const struct vm *vm);

/* UUIDs of all domains that a journal in `state_dir` tells of; the caller's. */
int vm_journals(const char *state_dir, char ***uuids, unsigned *count, struct error *e);

/* A name as it is from any folder: whoever recovers, and the hypervisor, may be in another one. The caller's; NULL with an error. */
char *vm_absolute(const char *path, struct error *e);

/* ---- which disks (snapshot/scope.c) ---- */

enum vm_obstacle {
	VM_TAKEN,
	VM_READ_ONLY,
	VM_SHAREABLE,
	VM_TRANSIENT,
	VM_NOT_LOCAL,
	VM_ENCRYPTED,
	VM_FORMAT,
	VM_NO_DISK
};
/* Why a disk is not part of snapshots, in words; VM_TAKEN: it is. */
enum vm_obstacle vm_disk_obstacle(const struct driver_disk *d);
const char *vm_obstacle_text(enum vm_obstacle o);

/* ---- taking one (snapshot/take.c) ---- */

enum vm_mode { VM_AUTO, VM_COLD, VM_LIVE, VM_INSTANT };
enum vm_via { VM_VIA_ANY, VM_VIA_INTERNAL, VM_VIA_OVERLAY };
enum vm_quiesce { VM_QUIESCE_NO, VM_QUIESCE_TRY, VM_QUIESCE_REQUIRED };

struct vm_taken;
/* Where images go that become no files: to a stream for each disk, one disk after the other. */
struct vm_sink {
	void *ctx;
	const char *
		scheme; /* with vm_take.since: how names of images there begin, as `end` gives them; NULL: it keeps none */
	/* The same: whether that image, whole, of a disk of `size` bytes, is still there. */
	int (*look)(void *ctx, const char *path, uint64_t size, uint64_t bytes, struct error *e);
	/* What `t` tells of the snapshot and the disk's size and target is known by now. *out is borrowed until `end` or `again`. */
	int (*begin)(void *ctx, const struct driver_domain *domain, const struct vm_taken *t, unsigned disk,
		struct io_stream **out, struct error *e);
	/* After the stream's finish. *path: what the image is called there, for vm_taken_disk. */
	int (*end)(void *ctx, unsigned disk, uint64_t virtual_size, char **path, struct error *e);
	/* Instead of it, after a failure: true: from the disk's first byte again, with another `begin`. */
	bool (*again)(void *ctx, unsigned disk, struct error *e);
};

struct vm_take {
	const char *name; /* NULL: the UTC time */
	enum vm_mode mode;
	enum vm_via via;
	const char *const *disks; /* targets; NULL: every writable local disk */
	unsigned disk_count;
	enum vm_quiesce quiesce;
	bool keep; /* the internal snapshots stay in the disks */
	/* The images hold only what changed since this snapshot, which the disks have kept, and are overlays of images of it that the
	 * catalog tells of: by relative backing names in files; with a sink without a name. With `keep`. NULL: all. */
	const char *since;
	bool memory; /* the guest's memory and NVRAM of the same instant, too: with `keep` in the state folder, else beside the images */
	bool extract_stopped; /* cold: the guest starts after the extraction */
	bool synchronous;     /* live: the guest's writes wait for the copy from the start */
	unsigned max_pause;   /* seconds that the guest may stand still, but for a managed save; 0: 30 */
	/* Where the images go; NULL: nowhere, `keep` then. A folder (one file a disk, and manifest.json), a file, or "-". */
	const char *to;
	int stream_fd;              /* used when `to` is "-" */
	const struct vm_sink *sink; /* the same, instead of stream_fd; NULL: none */
	struct image_create create; /* format and options of the images; size and names are filled in */
	bool compress;
	unsigned threads;
};
void vm_take_defaults(struct vm_take *t);

struct vm_taken_disk {
	char *target;
	char *path;    /* of the image; NULL: kept only */
	char *base;    /* the same of the image of `since`, which this one is an overlay of; NULL: it stands alone */
	uint64_t size; /* virtual, bytes */
	uint64_t base_size; /* of the disk then */
	uint64_t bytes;     /* of the image */
	char digest[129];   /* SHA-256 of the image's bytes, hex; "" when it was not extracted */
};
struct vm_taken {
	char *name, *since; /* since NULL: the images are of all */
	enum vm_mode mode;
	enum vm_via via;
	bool quiesced;
	int64_t created;   /* seconds since 1970: the instant */
	uint64_t pause_ns; /* how long we held the guest, by our own clock */
	struct vm_taken_disk *disks;
	unsigned disk_count;
	char *memory, *nvram; /* files; NULL: none */
	uint64_t memory_bytes;
	char memory_digest[129], nvram_digest[129]; /* SHA-256, hex */
};
void vm_taken_free(struct vm_taken *t); /* what it owns */

/* After a failure the guest is as it was, unless vm_left tells otherwise. ERR_CHANGED: the verification failed. */
int vm_take(struct vm *vm, const struct vm_take *opts, struct vm_taken *out, struct error *e);

/* ---- what was taken from what (snapshot/catalog*.c): STATE/UUID.snapshots ---- */

struct vm_point_disk {
	char *target;
	char *path;       /* of the disk's top at that time, absolute */
	uint64_t size;    /* virtual, bytes, at the instant */
	char *id;         /* the internal snapshot's number in that file; its name is the point's */
	int64_t date_sec; /* its time, which with id and name says that it is still the same one */
	uint32_t date_nsec;
};
struct vm_point_export {   /* an image that was made of it, `--to`, or a bundle that it is in */
	int64_t when;      /* seconds since 1970 */
	char *target, *to; /* a disk, NULL: a bundle; and a file's or folder's absolute name or "glance:ID" */
	uint64_t bytes;    /* of all files of a bundle */
	char *since;       /* it has only what changed since that snapshot; NULL: all */
	char digest[129];  /* SHA-256 of the image, hex; "" unknown */
};
enum vm_point_state {
	VM_POINT_WHOLE,    /* each disk has it, and it is the one that was taken; its memory is there */
	VM_POINT_PARTLY,   /* some disks have lost it, or its memory is gone */
	VM_POINT_MISSING,  /* no disk has it */
	VM_POINT_FOREIGN,  /* a disk has another one of that name, or is another file; or its memory is */
	VM_POINT_UNLISTED, /* in the disks, not in the catalog: somebody else made it */
};
struct vm_point {
	char *name;
	char *parent; /* the point that the disks were at when it was taken; NULL: none known */
	int64_t created;
	enum vm_mode mode;
	enum vm_via via;
	bool quiesced;
	enum driver_state was; /* the guest's state at the instant */
	char *xml;             /* the definition at the instant */
	/* Files with the guest's memory, as libvirt saves it, and its NVRAM, absolute; NULL: none. */
	char *memory, *nvram;
	uint64_t memory_bytes;
	char memory_digest[129], nvram_digest[129]; /* SHA-256, hex */
	struct vm_point_disk *disks;
	unsigned disk_count;
	struct vm_point_export *exports;
	unsigned export_count;
	enum vm_point_state state; /* as found when the catalog was compared with the disks */
	bool disks_whole;          /* the disks have it, whatever became of its memory */
	char *why;                 /* in words, when it is not whole; NULL */
};
struct vm_catalog {
	char *current;           /* the point that the disks' present state came from; NULL: none */
	struct vm_point *points; /* by time, oldest first */
	unsigned count;
};
/* Reads the catalog and compares it with the disks; those that it does not list are there as well. No file: an empty one.
 * ERR_CORRUPT: it cannot be read; ERR_UNSUPPORTED: of a later version. */
int vm_points(struct vm *vm, struct vm_catalog *out, struct error *e);
void vm_catalog_free(struct vm_catalog *c);                                     /* what it owns */
struct vm_point *vm_catalog_find(const struct vm_catalog *c, const char *name); /* NULL: none, or `name` is */
/* Indexes of that point and of all that were taken below it, each behind those below it; the caller's. ERR_NOT_FOUND */
int vm_catalog_below(const struct vm_catalog *c, const char *name, unsigned **order, unsigned *count, struct error *e);
/* What deleting it would free in disk `disk` of the point, and what it shares. ERR_BUSY: a guest writes to the disk; ERR_LIMIT: more
 * than `most_bytes` of tables might have to be read (snapshot/point_usage.c). */
int vm_point_usage(struct vm *vm, const struct vm_point *p, unsigned disk, uint64_t most_bytes,
	struct snapshot_usage *out, struct error *e);
/* Words for people and programs. */
const char *vm_point_state_name(enum vm_point_state s);
const char *vm_mode_name(enum vm_mode m);
const char *vm_via_name(enum vm_via v);

/* ---- which to keep (snapshot/prune.c): restic's rules ---- */

struct vm_span { /* of time, by the calendar */
	unsigned years, months, days, hours;
};
/* "1y5m7d2h", each part at most once, in this order. */
int vm_span_parse(const char *text, struct vm_span *out, struct error *e);
enum vm_period { VM_LAST, VM_HOURLY, VM_DAILY, VM_WEEKLY, VM_MONTHLY, VM_YEARLY, VM_PERIODS };
const char *vm_period_name(enum vm_period p);
struct vm_keep {
	/* The newest of each of so many periods that have any, by local time, weeks from Monday on; the oldest of all, too, while
	 * there are some left to count. */
	unsigned count[VM_PERIODS];
	struct vm_span within;    /* before the newest; zeros: not asked for */
	const char *const *names; /* patterns as the shell has them */
	unsigned name_count;
};
enum { VM_REASON_WITHIN = 1 << VM_PERIODS, VM_REASON_NAME = 2 << VM_PERIODS, VM_REASON_STATE = 4 << VM_PERIODS };
/* out[i], c->count of them: why point i is kept, bits 1 << enum vm_period and those above; 0: it may go. Only whole ones may, and only
 * they are counted. ERR_USAGE: no rule, or nothing would be kept. */
int vm_prune_plan(const struct vm_catalog *c, const struct vm_keep *keep, unsigned *out, struct error *e);

/* ---- going back to one that was kept (snapshot/revert.c) ---- */

enum vm_after { VM_AS_BEFORE, VM_STARTED, VM_STARTED_PAUSED };
struct vm_revert {
	const char *name; /* every writable local disk has it */
	/* What the guest is to do then. AS_BEFORE: with memory what it did at the snapshot; else what it does now, or nothing if it is saved. */
	enum vm_after after;
	bool without_memory; /* it boots from the disks, though the snapshot has its memory */
	bool first;          /* the disks' present is kept as a snapshot; else it is given up, once all went well */
	const char *present; /* its name; NULL: the UTC time */
	const char
		*xml; /* the definition that the domain is to have; NULL: as it was at the snapshot, if that is known */
};
struct vm_reverted {
	int64_t created; /* the snapshot's instant, seconds since 1970 */
	char *present;   /* the snapshot of the disks' state before; NULL: none */
	unsigned disk_count;
	bool ended;   /* a guest that ran was ended for it */
	bool defined; /* the definition was changed, too */
	bool memory;  /* the guest goes on from the memory of then */
};
void vm_reverted_free(struct vm_reverted *r); /* what it owns */
/* All disks of the domain go back to the snapshot, or none. A guest that runs is ended, as by pulling the plug; after a failure it is
 * started again, on its disks of before. What is left after a success (vm_left, with an error) is the start, or snapshots of the
 * state before. */
int vm_revert(struct vm *vm, const struct vm_revert *opts, struct vm_reverted *out, struct error *e);

/* ---- points that travel (snapshot/export.c, import.c): ARCHITECTURE.md, "Bundles" ---- */

struct vm_export {
	const char *name;           /* a point, whole */
	const char *to;             /* a new folder; or a tar stream: a new file that ends in ".tar", or "-" */
	int stream_fd;              /* used when `to` is "-" */
	bool all;                   /* every point that is whole, and which was taken of which; else that one alone */
	struct image_create create; /* options of the images, which are qcow2 */
	bool compress;
	unsigned threads;
};
struct vm_exported {
	unsigned points, files;
	uint64_t bytes; /* of the files */
};
void vm_export_defaults(struct vm_export *x);
/* The bundle is whole, or not there. */
int vm_export(struct vm *vm, const struct vm_export *opts, struct vm_exported *out, struct error *e);

struct vm_import {
	const char *from; /* a folder, a tar file, or "-" */
	int stream_fd;    /* used when `from` is "-" */
	const char *name; /* of the domain, with a UUID and addresses of its own; NULL: what it was called */
	const char *to;   /* the folder of its disks, which exists */
	bool trust;       /* definitions may name what is on the host */
	unsigned threads;
};
struct vm_imported {
	char *name;
	char uuid[DRIVER_UUID_CHARS];
	char *at; /* the point that the disks are at */
	unsigned points;
	struct driver_new_file *disks; /* all of them; strings are its own */
	unsigned disk_count;
	bool left; /* after a failure: something of ours is left, and vm_recover or vm_recover_undefined takes it back */
};
void vm_imported_free(struct vm_imported *i); /* what it owns */
/* All of it is checked before anything is made. Then the domain is there with all its points, or nothing is. `o->domain` is not used.
 * ERR_CHANGED: a file is not what the manifest says; ERR_DENIED: a definition names what is not its own. */
int vm_import(const struct vm_opts *o, const struct vm_import *opts, struct vm_imported *out, struct error *e);
/* Whether the journal of that UUID tells of an import that was not done, or of nothing: vm_recover_undefined need not be asked for. */
bool vm_needs_no_domain(const char *state_dir, const char *uuid);

/* ---- the rest ---- */

/* A snapshot that a domain's disks hold (snapshot/list.c). */
struct vm_listed {
	char *name;
	int64_t created;
	char **targets; /* disks that have it */
	unsigned target_count;
	bool whole;    /* every disk that could have it does */
	bool recorded; /* the hypervisor lists it, too */
	bool external, memory;
};
int vm_list(struct vm *vm, struct vm_listed **out, unsigned *count, struct error *e);
void vm_listed_free(struct vm_listed *l, unsigned count);
/* Deletes it from every disk that has it, the hypervisor's record and the catalog's point, whose children become its parent's
 * (snapshot/delete.c). One that all disks have lost goes from the catalog. */
int vm_delete(struct vm *vm, const char *name, struct error *e);
/* Takes back all that the journal tells of (snapshot/recover.c); vm_open has done so already. ERR_CHANGED: a disk is not the
 * one that it was, and nothing was done to it. */
int vm_recover(struct vm *vm, struct error *e);
/* The same for a domain that the hypervisor has not any more: snapshots and files of ours go from where they are, an overlay stays
 * and is told, and the journal goes. ERR_USAGE: it is defined. */
int vm_recover_undefined(const struct vm_opts *o, const char *uuid, struct error *e);

#endif
