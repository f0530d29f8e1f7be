/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of snapshot/ share: the journal, what a trace is and how it is taken back, and the steps that modes are made of.
 */
#ifndef QSNAP_SNAPSHOT_INTERNAL_H
#define QSNAP_SNAPSHOT_INTERNAL_H

#include <sys/stat.h>

#include "snapshot/snapshot.h"

/* ---- traces: what we leave in the world for the time being ---- */

/* The order of writing is always: the trace into the journal, durably; the deed; ...; the deed undone; the trace dropped. So
 * a trace may be there without its deed, and each way of taking one back looks first whether there is anything to do. */
enum trace_kind {
	TRACE_DEVICE,   /* `name`: XML of a device that was detached; `target`: which one it is, as the driver says */
	TRACE_SAVED,    /* the guest was stopped by a managed save */
	TRACE_FROZEN,   /* the guest's file systems are frozen */
	TRACE_PAUSED,   /* the guest is suspended */
	TRACE_MEMORY,   /* the hypervisor writes the guest's memory for us, and holds the guest for the last of it */
	TRACE_INTERNAL, /* an internal snapshot `name` in disk `target`, the file `path` */
	TRACE_OVERLAY,  /* disk `target` writes to `path`, whose backing file is `name` */
	TRACE_COPY,     /* a block copy of disk `target` to `path` runs */
	TRACE_FILE,     /* the file `path`, ours if it is the one of `dev` and `ino` */
	TRACE_RECORD,   /* the hypervisor's record of snapshot `name` */
	TRACE_POINT,    /* the catalog's point `name`, the one of `date` */
	TRACE_CURRENT, /* the catalog is written, and the point that the disks are at is another one; `name`: the one before, NULL: none */
	/* Going back to a snapshot (snapshot/revert.c): ENDED, then per disk INTERNAL and REVERTED, DEFINED, NVRAM, START, UNSAVED. It is
	 * done when all REVERTED, DEFINED and NVRAM leave the journal at once; START and UNSAVED are for what comes then, and nothing
	 * before. */
	TRACE_ENDED, /* the guest was ended, its memory is lost */
	TRACE_REVERTED, /* disk `target`, the file `path`, goes back to its snapshot `to`; its present is its snapshot `name` */
	TRACE_DEFINED, /* the domain is defined in another way; `name`: the definition before */
	TRACE_NVRAM, /* the NVRAM `path` is that of the snapshot; what it was is in the file `name`, NULL: there was none */
	TRACE_START, /* the guest is to be started; `name`: "paused" or "running"; `path`: its memory, NULL: it boots */
	TRACE_UNSAVED, /* the domain's saved state is to go */
	TRACE_FOLDER,  /* the folder `path`, with all that is in it; ours if it is the one of `dev` and `ino` */
	/* A domain that is to be (snapshot/import.c): IMPORT is the oldest trace, then FOLDER, FILE, CATALOG. It is done when the hypervisor
	 * has the domain: then all but FOLDER leave the journal at once. */
	TRACE_IMPORT, /* domain `name` comes out of a bundle */
	TRACE_CATALOG, /* the catalog is a new one; `name`: the file that one of an earlier domain is called meanwhile; NULL: none */
	TRACE_KINDS,
};
struct trace {
	enum trace_kind kind;
	char *target, *path, *name, *to; /* NULL where the kind has none; `path` is absolute in the journal */
	/* INTERNAL, REVERTED, OVERLAY: of the disk's file that must not change. FILE: of itself, known before it has its name. 0: unknown */
	uint64_t dev, ino;
	/* INTERNAL, once it is there or is going to be, and REVERTED of `name`: its number and time, which no other one of that name has; NULL: unknown */
	char *snapshot;
	int64_t date;
	/* OVERLAY: a commit was begun, after the definition had the overlay. So when the disk is on the base, the base has all. */
	bool begun;
	struct driver_image *images; /* OVERLAY: what the disk was made of, the base first (no kinds); NULL: unknown */
	unsigned image_count;
	unsigned id;
};
void trace_free(struct trace *t); /* what it owns (snapshot/journal_line.c) */
int trace_copy(struct trace *to, const struct trace *from, struct error *e);

#include "snapshot/journal.h"

/* ---- its folder (snapshot/state_folder.c) ---- */

int folder_make(const char *path, struct error *e); /* with those above it; it may be there */
int folder_sync(const char *path, struct error *e);
/* Who knows a name in it gets there, though nobody may list it. */
int folder_let_through(const char *path, struct error *e);
/* *fd holds the lock while it is open; -1: it could not be opened. */
int lock_wait(int *fd, const char *path, unsigned seconds, const atomic_bool *cancel, struct error *e);

/* ---- a command (snapshot/vm.c) ---- */

struct vm {
	struct vm_opts opts;
	struct driver *driver;
	struct driver_domain domain; /* as last looked at */
	struct journal *journal;     /* NULL: read_only */
	struct hold *held;           /* files that nobody else may write to; NULL: none (snapshot/hold.c) */
	unsigned held_count;
	bool undefined; /* the hypervisor has not got it any more; `domain` is shut off, without disks */
};
/* Takes the domain's lock and opens its journal: other commands on it wait, or this one does. */
int vm_take_turn(struct vm *vm, struct error *e);
/* Looks at the domain again. */
int vm_look(struct vm *vm, struct error *e);
void vm_step(const struct vm *vm, const char *step, const char *disk);
void vm_note(const struct vm *vm, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool vm_cancelled(const struct vm *vm);
int vm_go_on(const struct vm *vm, struct error *e);                         /* ERR_CANCELLED when it was */
const struct driver_disk *vm_disk(const struct vm *vm, const char *target); /* NULL: none */
/* The hypervisor's list has a snapshot of these disks, too. It is not worth a failure: that is told. `targets` NULL: `e` says why. */
void vm_record(const struct vm *vm, const char *name, int64_t created, const char *const *targets, unsigned count,
	struct error *e);
/* The guest has a QEMU process: its disks are for the hypervisor to change. */
bool vm_active(const struct vm *vm);
/* The folder that a path is in; the caller's. */
char *vm_parent(const char *path, struct error *e);
/* Sleeps `ms`; false when cancelled. */
bool vm_sleep(const struct vm *vm, unsigned ms);

/* ---- disks that nothing may be started on meanwhile (snapshot/hold.c) ---- */

/* Locks a disk's file until vm_let_go. ERR_BUSY: somebody uses it. */
int vm_hold(struct vm *vm, const char *path, struct error *e);
/* The lock that our engine takes for changing that file: none when it is held. */
enum io_lock_mode vm_lock_for(const struct vm *vm, const char *path);
void vm_let_go(struct vm *vm);

/* ---- taking traces back (snapshot/trace.c) ---- */

/* The trace into the journal, before its deed. */
int trace_put(struct vm *vm, const struct trace *t, unsigned *id, struct error *e);
const struct trace *trace_find(const struct vm *vm, unsigned id); /* as journal_traces has it; NULL: it is dropped */
/* Takes back that one, or all, youngest first. Also after a cancel. A failure leaves the trace in the journal, and goes on with
 * the others that do not need it; the first error is told. */
int trace_undo(struct vm *vm, unsigned id, struct error *e);
int trace_undo_all(struct vm *vm, struct error *e);
int trace_undo_kind(struct vm *vm, enum trace_kind kind, struct error *e);
/* All, and again for some seconds where something failed that may pass: a hypervisor that is being restarted, a lock. */
int trace_take_back(struct vm *vm, struct error *e);
/* Whether the journal has one of that kind. */
bool trace_is_there(const struct vm *vm, enum trace_kind kind);
/* Waits until no job of the whole domain runs: a save that was asked for goes on without who asked (snapshot/undo_guest.c). */
int guest_settle(struct vm *vm, struct error *e);
/* A libvirtd that died while it saved or restored leaves the saved state beside a guest that runs. Its next start would go back to
 * that memory, on disks that are newer. */
int guest_forget_stale_save(struct vm *vm, struct error *e);
/* A guest that ran, and has stopped by itself because it found no room to write in, goes on (snapshot/undo_guest.c). */
int guest_wake(struct vm *vm, struct error *e);
/* One for each kind (snapshot/undo_guest.c, undo_disk.c): 0 when there is nothing of it any more. */
int undo_device(struct vm *vm, const struct trace *t, struct error *e);
int undo_saved(struct vm *vm, const struct trace *t, struct error *e);
int undo_frozen(struct vm *vm, const struct trace *t, struct error *e);
int undo_paused(struct vm *vm, const struct trace *t, struct error *e);
int undo_internal(struct vm *vm, const struct trace *t, struct error *e);
/* (snapshot/undo_overlay.c) A disk that is on the base of that overlay has it in its definition, too: a hypervisor that was killed may
 * not have written that. */
int overlay_defined_home(struct vm *vm, const struct trace *t, struct error *e);
int undo_overlay(struct vm *vm, const struct trace *t, struct error *e);
/* A file of ours that no disk of the domain is made of (snapshot/undo_disk.c). */
int remove_file(const struct vm *vm, const char *path, struct error *e);
/* ERR_CHANGED when `path` is not the file that the trace's disk had. */
int refuse_other_file(const char *path, const struct trace *t, struct error *e);
int undo_copy(struct vm *vm, const struct trace *t, struct error *e);
int undo_file(struct vm *vm, const struct trace *t, struct error *e);
int undo_memory(struct vm *vm, const struct trace *t, struct error *e);
int undo_record(struct vm *vm, const struct trace *t, struct error *e);
int undo_point(struct vm *vm, const struct trace *t, struct error *e);   /* (snapshot/point.c) */
int undo_current(struct vm *vm, const struct trace *t, struct error *e); /* (snapshot/revert_account.c) */
/* (snapshot/import_settle.c) */
int undo_import(struct vm *vm, const struct trace *t, struct error *e);
int undo_catalog(struct vm *vm, const struct trace *t, struct error *e);
/* An import that the journal tells of is done when its domain is there, on the disks that were made for it: then its traces are
 * dropped. */
int import_settle(struct vm *vm, struct error *e);

/* ---- the catalog: STATE/UUID.snapshots, a JSON object ---- */

enum { CATALOG_MAX_EXPORTS = 10000 }; /* of one point */
/* As the file has it, in the order of taking, not compared with the disks (snapshot/catalog_read.c). */
int catalog_read(const struct vm *vm, struct vm_catalog *out, struct error *e);
/* The same of a text; `uuid`: of the domain that it must be of. */
int catalog_parse(const char *text, size_t len, const char *uuid, struct vm_catalog *out, struct error *e);
/* Durable on return; after a crash the old one or the new one. Unlisted points are left out (snapshot/catalog_write.c). */
int catalog_write(const struct vm *vm, const struct vm_catalog *c, struct error *e);
int catalog_clean(const struct vm *vm, struct error *e); /* what a dead command left of a new one goes */
char *catalog_path(const struct vm *vm, struct error *e);
/* Takes what the point owns, and leaves it there with an error (snapshot/catalog.c). */
int catalog_add(struct vm_catalog *c, struct vm_point *p, struct error *e);
/* Its children become its parent's; if it was current, its parent is. */
int catalog_remove(struct vm_catalog *c, const char *name, struct error *e);
void point_free(struct vm_point *p); /* what it owns */
const struct vm_point_disk *point_find_disk(const struct vm_point *p,
	const char *target); /* NULL: it is of no such disk */
/* ERR_CHANGED: it is not whole; `more` is said behind that. */
int point_refuse(const struct vm_point *p, const char *more, struct error *e);
/* The internal snapshot `name` of the qcow2 file `path`, the one of `id` (NULL: unknown) and `date` (snapshot/point.c). ERR_CHANGED:
 * it is not there. */
int point_know_disk(struct vm_point_disk *d, const char *target, const char *path, const char *name, const char *id,
	int64_t date, struct error *e);
/* (snapshot/undo_revert.c) */
int undo_ended(struct vm *vm, const struct trace *t, struct error *e);
int undo_reverted(struct vm *vm, const struct trace *t, struct error *e);
int undo_defined(struct vm *vm, const struct trace *t, struct error *e);
int undo_nvram(struct vm *vm, const struct trace *t, struct error *e); /* (snapshot/revert_nvram.c) */
int undo_start(struct vm *vm, const struct trace *t, struct error *e);
int undo_unsaved(struct vm *vm, const struct trace *t, struct error *e);

#include "snapshot/made.h"

/* ---- how long things take ---- */

/* Estimated for making or deleting an internal snapshot of the qcow2 file `path` beside a running guest (snapshot/stall.c). */
int stall_ms(const char *path, uint64_t *ms, struct error *e);
/* Seconds that the guest may be held. */
unsigned vm_max_pause(const struct vm *vm);
/* ERR_LIMIT when the deletion would hold the running guest for longer. */
int stall_of_deletion(const struct vm *vm, const char *target, const char *path, struct error *e);

/* A block job beside a guest that writes (snapshot/catch_up.c). */
struct catch_up {
	uint64_t least;              /* bytes that were left to do */
	uint64_t since, patience_ns; /* CLOCK_MONOTONIC, ns */
};
void catch_up_begin(struct catch_up *c, const struct vm *vm);
/* Whether it seems not to. */
bool catch_up_fails(struct catch_up *c, uint64_t done, uint64_t total);

/* Whether both are there, and on one file system (snapshot/space.c). */
bool space_is_same(const char *a, const char *b);
/* ERR_LIMIT when the file system that `path` is on has less free; `what` takes it, in words (snapshot/space.c). */
int space_refuse(const char *path, const char *what, uint64_t wanted, struct error *e);

/* ---- one snapshot being taken ---- */

/* A file that nobody is to write to, locked, and as it was. */
struct still {
	struct io *file; /* NULL: none */
	struct stat before;
};

/* A disk of it, and where its frozen state can be read. */
struct part {
	const struct driver_disk *disk; /* of the take's own domain */
	char *path;                     /* the file to read; owned */
	enum driver_format format;
	const char *snapshot;             /* internal snapshot to read there; NULL: the image itself */
	const char *snapshot_id;          /* its number; NULL: the first of that name */
	const struct driver_image *below; /* its backing files as the definition has them, `below_count` of them */
	unsigned below_count;
	bool whole_chain;           /* there are no others */
	bool waits;                 /* cold: no clone of it can be had */
	unsigned trace;             /* of the internal snapshot; 0: none */
	struct still *still;        /* while images are made: its files, the top and those below */
	unsigned output;            /* trace of the image that is made; 0: none */
	const char *since_name;     /* the image is the changes since this snapshot; NULL: it is of all */
	struct vm_point_disk since; /* its `id`, owned, and time */
	char *backing;              /* the name that the image has for its backing file; owned; NULL: none */
};
/* A file of it that is no image. */
struct take_file {
	char *path; /* NULL: none */
	unsigned trace;
};
struct take {
	struct vm *vm;
	const struct vm_take *opts;
	struct vm_taken *out;
	struct driver_domain domain; /* as it was before the first step */
	struct part *parts;
	unsigned part_count;
	bool extract_stopped;
	struct chain **held; /* disks that nobody may write to until they were extracted, one for each part or NULL */
	bool folder_made;    /* that of the images; it goes when nothing came into it */
	unsigned manifest;   /* its trace; 0: none */
	unsigned point;      /* that of the catalog's point; 0: none */
	/* The guest's memory and NVRAM, and what goes beside the images as well when it is kept. */
	struct take_file memory, nvram, memory_beside, nvram_beside;
	struct take_file memory_part; /* what the hypervisor writes the memory to */
	bool memory_still;            /* the guest is paused for all of that */
	struct io *saved;             /* what a managed save has written, which outlives its name; NULL: not needed */
	uint8_t *nvram_bytes;         /* of the instant */
	size_t nvram_len;
	uint64_t paused_at; /* CLOCK_MONOTONIC, ns; 0: not */
	uint64_t held_at;   /* the same, the guest's file systems included */
};

/* A name for a file of ours beside the disk (a device's: in the state folder); the caller's. ERR_USAGE when it is there. */
char *take_beside(const struct take *t, const struct part *p, struct error *e);
/* A name for a snapshot, `name` or (NULL) the UTC time; the caller's. It becomes part of file names. */
char *take_name(const char *name, struct error *e);
/* What is in scope, and what is told about the rest (snapshot/scope.c). */
int take_scope(struct take *t, struct error *e);
/* auto and instant become what they are for these disks (snapshot/choose.c). */
int take_choose(struct take *t, struct error *e);
/* With `since` (snapshot/since.c): what that is, and which images the new ones are overlays of; then, when their folder is there,
 * under which names. */
int take_since(struct take *t, struct error *e);
int take_since_names(struct take *t, struct error *e);
/* After the conversion: the earlier snapshot was the one that was meant. */
int take_since_was_there(const struct part *p, struct error *e);
/* What the disk, open with what lies below it, has changed by now. */
int take_since_bytes(const struct part *p, struct chain *c, uint64_t *bytes, struct error *e);
/* Space for the images and for the disks' own growth, as far as it can be known (snapshot/space.c). */
int take_space(struct take *t, struct error *e);
/* ERR_LIMIT when a running guest is about to have no space for its own writes: rather no snapshot. */
int take_space_left(const struct take *t, struct error *e);
/* The same while something long runs, by its reports: give it `progress`. */
struct space_watch {
	struct progress progress;
	const struct take *take;
	const struct progress *theirs;
	atomic_bool stop;
	uint64_t looked_at; /* CLOCK_MONOTONIC, ns */
	struct error why;   /* code ERR_OK: there is space */
};
/* `w` stays where it is until the end. */
void space_watch_begin(struct space_watch *w, const struct take *t);
/* The modes: after each the parts can be read, and what must be undone at the end is in the journal. */
int take_cold(struct take *t, struct error *e);
int take_cold_overlay(struct take *t, struct error *e);
/* The guest goes on, after a cold snapshot. */
int take_cold_start(struct take *t, struct error *e);
/* What was locked until now may be used. */
void take_let_go(struct take *t);
int take_live(struct take *t, struct error *e);
int take_internal(struct take *t, struct error *e);
int take_overlay(struct take *t, struct error *e);
/* Its two steps: the overlays' traces, and their making (snapshot/instant.c). */
int take_put_overlays(struct take *t, struct error *e);
int take_make_overlays(struct take *t, struct error *e);
/* The internal snapshot of a part is there, in `path`: which one it is goes into the journal. */
int take_know_internal(struct take *t, const struct part *p, const char *path, struct error *e);
/* Where the images go, before the first step; then images out of the parts (snapshot/extract.c). */
int take_targets(struct take *t, struct error *e);
int take_folder(struct take *t, struct error *e);
int take_extract(struct take *t, struct error *e);
/* Files that images are made of are locked, and ERR_CHANGED when one was written to all the same (snapshot/still.c). */
int take_hold_still(struct take *t, struct error *e);
int take_was_still(const struct part *p, struct error *e);
void take_release_still(struct take *t);
int take_digests(struct take *t, struct error *e);
bool take_to_folder(const struct take *t);
const char *take_slash(const struct take *t); /* what stands between the folder of --to and a name in it */
/* DIR/manifest.json, when the images went to a folder (snapshot/manifest.c). */
int take_manifest(struct take *t, struct error *e);
/* One that is to be kept can get a place in the catalog, before the first step; then it gets it (snapshot/point.c). */
int take_point_look(struct take *t, struct error *e);
int take_point(struct take *t, struct error *e);
/* The guest's file systems, as asked for: frozen until trace_undo_kind(TRACE_FROZEN) (snapshot/freeze.c). */
int take_freeze(struct take *t, struct error *e);
uint64_t take_now_ns(void); /* CLOCK_MONOTONIC */
/* When the guest was to stand still, and how long it did. */
void take_pause_begins(struct take *t);
void take_pause_ends(struct take *t);
/* A guest that runs stands still until TRACE_PAUSED, *id (NULL: not wanted), is undone. */
int take_suspend(struct take *t, unsigned *id, struct error *e);
/* Of a guest that was away for longer (snapshot/cold.c). */
void take_set_clock(const struct take *t);
/* ERR_LIMIT when it stands still, or its file systems do, for longer than it may. */
int take_deadline(const struct take *t, struct error *e);

/* ---- the engine on a disk's file (snapshot/disk.c): the guest does not run ---- */

/* Opens a disk's file alone to change it. `lock`: IO_LOCK_WRITE, or none when it is held already. */
int disk_open_to_change(const char *path, enum io_lock_mode lock, struct chain **out, struct error *e);
/* `l`: open for writing, without its backing files. */
int disk_snapshot_create(struct layer *l, const char *name, int64_t created, uint32_t nsec, struct error *e);
/* Whether snapshots can be inside of it (snapshot/list.c). */
bool disk_can_hold(const struct driver_disk *d);
/* `id` NULL: the only one of that name. */
int disk_snapshot_delete(const char *path, enum io_lock_mode lock, const char *name, const char *id, struct error *e);
/* The disk's state becomes that of its snapshot again, by one write. `id` as above. */
int disk_snapshot_apply(const char *path, enum io_lock_mode lock, const char *name, const char *id, struct error *e);
/* The same, and the state before becomes the snapshot `present`, of that number and time, by the same write. The number is to be the next
 * one, which nobody else takes while the disk is locked. */
enum { SNAPSHOT_ID_CHARS = 24 };
int disk_snapshot_next_id(const char *path, char id[SNAPSHOT_ID_CHARS], struct error *e);
int disk_snapshot_switch(const char *path, enum io_lock_mode lock, const char *name, const char *id,
	const char *present, const char *present_id, int64_t created, struct error *e);
/* (snapshot/disk_revert.c) Reads all tables of the only snapshot of that name, beside a running guest, too. */
int disk_snapshot_try(const char *path, const char *name, struct error *e);
/* Whether the disk's state is that of a snapshot `name` and nothing was written since: 1, 0, -1. `id` NULL: of any of that name. */
int disk_is_at(const char *path, const char *name, const char *id, struct error *e);
/* Opens a disk's file alone to look at it, beside a running guest, too. */
int disk_look(const char *path, enum driver_format format, struct chain **out, struct error *e);
/* Whether the file has one of this name, looked at beside a running guest, too: 1, 0, -1. *id (the caller's) and *date: which one. */
int disk_snapshot_find(const char *path, const char *name, char **id, int64_t *date, struct error *e);
/* L2 tables that the active state has allocated, and bytes of each. */
int disk_tables(const char *path, uint64_t *tables, uint64_t *table_bytes, struct error *e);
/* How a part is opened: format said, no name followed that the domain does not have. `p` outlives the options. */
void disk_chain_opts(const struct part *p, struct chain_opts *opts);
/* What the overlay of this trace holds goes into its backing file; of other files only those are opened that the disk was made of.
 * *base_format: as the trace, or else the overlay, names it. *held: both are locked for writing until it is closed. */
int disk_commit(const struct trace *t, struct chain **held, enum driver_format *base_format, struct error *e);
enum disk_overlay {
	OVERLAY_GONE,  /* there is no file */
	OVERLAY_EMPTY, /* nobody wrote to it */
	OVERLAY_HOLDS,
	OVERLAY_OTHER, /* no overlay of this base */
};
/* What the file `path` is to `base`. */
int disk_overlay_holds(const char *path, const char *base, enum disk_overlay *out, struct error *e);
/* Whether `path` was written to after `than` was last: 1, 0, -1; ERR_UNSUPPORTED for devices, which do not tell. */
int disk_is_newer(const char *path, const char *than, struct error *e);
bool disk_same_file(const char *a, const char *b);
/* Device and inode; of a block device its own number and 0. */
int disk_identity(const char *path, uint64_t *dev, uint64_t *ino, struct error *e);

#endif
