/* SPDX-License-Identifier: Apache-2.0
 *
 * driver: a hypervisor as snapshots of running machines need it, and no more. driver/libvirt_*.c speak to libvirt; a scripted
 * one stands in for it in unit tests, for the order of steps and for a failure at each.
 *
 * Every call is one step that happened or did not: it returns 0 when the hypervisor says that it is done (a job: that it was
 * begun), -1 with an error when not. After a failure, or when the connection broke, the caller asks `look` what is so. Domains
 * are named by UUID, disks by their target ("vda"). All calls of one driver are for one thread at a time.
 */
#ifndef QSNAP_DRIVER_H
#define QSNAP_DRIVER_H

#include "base/base.h"

enum { DRIVER_UUID_CHARS = UUID_CHARS };

/* ---- what there is ---- */

enum driver_format { DRIVER_RAW, DRIVER_QCOW2, DRIVER_FORMAT_OTHER };

/* One file of a disk: its top, or a backing file. */
struct driver_image {
	char *path; /* file or device on the hypervisor's host; NULL: no local storage, `kind` tells what */
	char *kind; /* "file", "block", "network", ... as the definition says */
	enum driver_format format;
};

struct driver_disk {
	char *target;
	/* [0] is the top. For a running domain the whole chain as it is in use, for others as far as the definition names it. */
	struct driver_image *images;
	unsigned image_count;
	bool whole_chain; /* the definition tells where the chain ends */
	bool readonly, shareable, transient, encrypted;
	bool no_disk;  /* CD-ROM or floppy drive, or nothing in it */
	bool busy;     /* a block job runs on it */
	char *defined; /* of a domain that has a process: the file that its persistent definition names; NULL: none */
	char *copy_to; /* the destination of a copy that runs; NULL: none */
};

enum driver_state {
	DRIVER_RUNNING,
	DRIVER_PAUSED,
	DRIVER_SHUT_OFF,
	DRIVER_BETWEEN, /* shutting down, crashed, suspended by itself: no snapshot of that */
};

/* Where a domain comes from, as a cloud or a tool has written it into its definition; NULL: nothing said. */
struct driver_origin {
	char *image, *project, *user; /* ids of OpenStack's: the image that it was made of, its owner */
	char *os;                     /* "linux", "windows" */
};

struct driver_domain {
	char *name;
	char uuid[DRIVER_UUID_CHARS];
	enum driver_state state;
	bool paused_by_user; /* DRIVER_PAUSED, and not because of an error or a job */
	bool persistent;
	bool saved;      /* shut off with a managed save image */
	bool ended_well; /* shut off because the guest shut itself down: its file systems are at rest */
	bool stale_save; /* it has a process, and an image of before is there all the same: the next start would go back to it */
	bool agent;     /* a guest agent is connected */
	bool snapshots; /* the hypervisor keeps records of external snapshots of it */
	char *job;      /* a job of the whole domain that runs ("migration", "save", ...); NULL: none */
	char *xml;   /* what would be defined again: the persistent definition, or the live one of a transient domain */
	char *nvram; /* the file of its NVRAM; NULL: none, or none that is a local file */
	uint64_t memory_bytes; /* of the guest, at most; 0: not known */
	struct driver_disk *disks;
	unsigned disk_count;
	struct driver_origin origin;
	char **host_devices; /* XML of each device of the host that is passed through and in the way of a save */
	unsigned host_device_count;
};
void driver_domain_free(struct driver_domain *d); /* what it owns, not itself; fit for zeros */
/* Its disk of this target; NULL: none. */
const struct driver_disk *driver_find_disk(const struct driver_domain *d, const char *target);
/* Whether two of `host_devices` are the same device of the host: what <source> says, since a hypervisor adds an alias and an address
 * in the guest when it attaches one. */
bool driver_same_host_device(const char *a, const char *b);

enum driver_job_kind { DRIVER_NO_JOB, DRIVER_COPY, DRIVER_COMMIT, DRIVER_OTHER_JOB };
struct driver_job {
	enum driver_job_kind kind;
	uint64_t done, total; /* bytes, as the hypervisor counts */
	bool ready;           /* source and copy are the same and stay so until it is ended */
};

enum driver_end {
	DRIVER_END_ANYHOW, /* what it has done so far is of no use */
	DRIVER_END_WHOLE, /* a copy that is ready: an error unless it is known to have all, to the guest's last write */
	DRIVER_END_PIVOT, /* the guest goes on with the copy (a commit: with the base) */
};

/* A record of a snapshot that the hypervisor keeps and others see. */
struct driver_record {
	char *name;
	char *parent;    /* NULL: none */
	int64_t created; /* seconds since 1970 */
	bool external, memory;
};

/* ---- what can be done ---- */

struct driver;
struct driver_new_file { /* of a disk */
	const char *target;
	const char *path;
	enum driver_format format;
};

enum driver_copy_flags {
	DRIVER_COPY_SHALLOW = 1, /* only the top: the destination exists and has the same backing file */
	DRIVER_COPY_SYNC = 2,    /* the guest's writes wait until they are in the copy, too */
};

/* What a definition that comes from elsewhere is to be here. */
struct driver_import {
	const char *name, *uuid;
	bool renamed; /* it is another machine: what others know it by, as its network addresses, is made anew, from the UUID */
	const struct driver_new_file *files; /* disks that come with it; others are not allowed */
	unsigned file_count;
	const char *nvram; /* a file that comes with it; NULL: the hypervisor makes one where the machine has any */
	bool trusted;      /* it may name files, devices and programs of the host */
	/* What was left out is told; NULL: nobody is. */
	void (*note)(void *ctx, const char *text);
	void *note_ctx;
};

struct driver_head {    /* how a file is to begin */
	uint8_t *bytes; /* the caller's; NULL: none */
	size_t len;
	uint64_t from; /* where in the file as it is now that goes on which stays */
};

/* The guest's memory on its way to a file. */
enum driver_memory_state {
	DRIVER_MEMORY_RUNS, /* on its way, beside the guest but for the last of it; what that changes is written again */
	DRIVER_MEMORY_HELD, /* it stands still, its disks can be worked on, and the last of the memory waits for memory_finish */
	DRIVER_MEMORY_WRITTEN, /* all of it; the guest stands still, and its disks are closed, until memory_end */
};
struct driver_memory {
	enum driver_memory_state state;
	uint64_t done, left; /* bytes, as the hypervisor counts; what the guest changes is counted again */
	unsigned rounds;     /* over the memory, this one included */
};

struct driver_ops {
	/* Whether this hypervisor runs on this very host, so that its paths are ours. Else ERR_UNSUPPORTED that says why. */
	int (*local)(struct driver *d, struct error *e);
	/* By name or UUID. ERR_NOT_FOUND. `out` is zeros before; driver_domain_free after success. */
	int (*look)(struct driver *d, const char *domain, struct driver_domain *out, struct error *e);
	/* UUIDs of all domains; the array and its strings are the caller's. */
	int (*list)(struct driver *d, char ***uuids, unsigned *count, struct error *e);

	int (*suspend)(struct driver *d, const char *uuid, struct error *e);
	int (*resume)(struct driver *d, const char *uuid, struct error *e);
	/* Managed save: stops the guest, its memory is kept until the next start. */
	int (*save)(struct driver *d, const char *uuid, struct error *e);
	/* The file of the managed save image of a domain that has one, looked at: it is of that domain. The caller's. */
	int (*saved_path)(struct driver *d, const char *uuid, char **path, struct error *e);
	/* Removes the managed save image of a domain that has a process (`active`: stale_save), or of one that is off (saved). ERR_CHANGED
	 * when it is otherwise. */
	int (*forget_save)(struct driver *d, const char *uuid, bool active, struct error *e);
	/* Ends the guest as pulling the plug does; what it has written, and QEMU has taken, is in its disks. */
	int (*destroy)(struct driver *d, const char *uuid, struct error *e);
	/* Starts, from the managed save image if there is one. */
	int (*start)(struct driver *d, const char *uuid, bool paused, struct error *e);
	/* Instead of it: the guest goes on with the memory in this file, which stays, and with the disks that the definition has now. */
	int (*restore)(struct driver *d, const char *uuid, const char *path, bool paused, struct error *e);
	int (*device)(struct driver *d, const char *uuid, const char *xml, bool attach, struct error *e);
	/* File systems of the guest, by its agent, which gets `seconds` to answer. */
	int (*freeze)(struct driver *d, const char *uuid, unsigned seconds, struct error *e);
	int (*thaw)(struct driver *d, const char *uuid, unsigned seconds, struct error *e);
	int (*set_time)(struct driver *d, const char *uuid, struct error *e);

	/* An internal snapshot of each of these disks at one instant, while the guest runs; all or none. ERR_USAGE: a disk has one of
	 * that name already. */
	int (*internal_create)(struct driver *d, const char *uuid, const char *const *targets, unsigned count,
		const char *name, struct error *e);
	/* `id`: its number in the image; NULL: the only one of that name. */
	int (*internal_delete)(struct driver *d, const char *uuid, const char *target, const char *name, const char *id,
		struct error *e);
	/* A new top for each of these disks at one instant; all or none. The hypervisor makes the files; no record is kept. */
	int (*overlay)(struct driver *d, const char *uuid, const struct driver_new_file *files, unsigned count,
		struct error *e);

	/* Before memory_begin. *out: the guest must stand still while its memory is written: this hypervisor would miss what it changes
	 * meanwhile. ERR_UNSUPPORTED: it cannot be written at all beside a guest that is on. */
	int (*memory_still)(struct driver *d, const char *uuid, bool *out, struct error *e);
	/* The memory of a guest that is on, for a caller who has something to do at its instant: into `fd`, a pipe that stays the caller's, from
	 * which it is to be read until its end; the bytes of *head (zeros before; the caller's afterwards) come before it in a file that
	 * `restore` takes. When nobody reads any more before it is written, the guest goes on without. `still`: the caller has suspended it,
	 * and goes on with it. ERR_BUSY: its memory goes elsewhere. */
	int (*memory_begin)(struct driver *d, const char *uuid, int fd, bool still, struct driver_head *head,
		struct error *e);
	/* ERR_IO: it ended without being written. ERR_CHANGED: somebody has suspended the guest, or let one go on that is to stand still. */
	int (*memory_look)(struct driver *d, const char *uuid, struct driver_memory *out, struct error *e);
	/* The guest may be held for so long, in ms, for the last of it: at first for some 100. */
	int (*memory_patience)(struct driver *d, const char *uuid, unsigned ms, struct error *e);
	int (*memory_finish)(struct driver *d, const char *uuid, struct error *e);
	/* Whatever there is of it ends, and a guest that was held for it goes on. It may be over already, or not begun. */
	int (*memory_end)(struct driver *d, const char *uuid, struct error *e);

	/* Block jobs. A copy is written to a file that exists; the domain stays defined. A commit is of the active top into `base`. */
	int (*copy)(struct driver *d, const char *uuid, const struct driver_new_file *to, unsigned flags,
		struct error *e);
	int (*commit)(struct driver *d, const char *uuid, const char *target, const char *base, struct error *e);
	int (*job)(struct driver *d, const char *uuid, const char *target, struct driver_job *out, struct error *e);
	int (*end_job)(struct driver *d, const char *uuid, const char *target, enum driver_end how, struct error *e);

	/* Another file for a disk in the persistent definition. */
	int (*set_source)(struct driver *d, const char *uuid, const struct driver_new_file *file, struct error *e);

	/* The persistent definition, as a whole. */
	int (*define)(struct driver *d, const char *uuid, const char *xml, struct error *e);
	/* The text of a definition, changed as `how` says; the caller's. Nothing is defined. ERR_DENIED: it names what it may not. */
	int (*adapt)(struct driver *d, const char *xml, const struct driver_import *how, char **out, struct error *e);
	/* The same of the definition that a file with a guest's memory has inside: how the file is to begin then. */
	int (*adapt_memory)(struct driver *d, const char *path, const struct driver_import *how,
		struct driver_head *out, struct error *e);
	/* A new domain of this UUID. ERR_USAGE: it, or one of its name, is there. */
	int (*create)(struct driver *d, const char *uuid, const char *xml, struct error *e);

	/* The hypervisor's own records. `define_record` makes one for internal snapshots of these disks that exist; `forget` drops it. */
	int (*records)(struct driver *d, const char *uuid, struct driver_record **out, unsigned *count,
		struct error *e);
	int (*define_record)(struct driver *d, const char *uuid, const char *name, int64_t created,
		const char *const *targets, unsigned count, struct error *e);
	int (*forget_record)(struct driver *d, const char *uuid, const char *name, struct error *e);

	void (*close)(struct driver *d);
};

struct driver {
	const struct driver_ops *ops;
	/* Is told each call to the hypervisor by the name that its own manual has ("virDomainSuspend"); NULL: nobody listens. That a domain
	 * is looked up by its UUID goes without saying. */
	void (*told)(void *ctx, const char *call);
	void *told_ctx;
};

void driver_records_free(struct driver_record *records, unsigned count);
void driver_close(struct driver *d); /* NULL is allowed */

/* ---- libvirt (driver/libvirt_*.c) ---- */

/* `uri` NULL: what libvirt itself would take (LIBVIRT_DEFAULT_URI, its configuration). ERR_UNSUPPORTED when it was left out of
 * the build or its module is not there. From then on SIGPIPE is ignored in this process: libvirt writes to its socket even when nobody is there any more. */
int driver_libvirt_open(struct driver **out, const char *uri, struct error *e);
/* What the module shows (driver/libvirt_open.c). */
typedef int driver_open_fn(struct driver **out, const char *uri, struct error *e);
#define DRIVER_LIBVIRT_SYMBOL "qsnap_libvirt_open"
__attribute__((visibility("default"))) driver_open_fn qsnap_libvirt_open;

#endif
