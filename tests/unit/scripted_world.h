/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests: a machine whose disks are real files in the current folder, made and changed by our own engine, and whose state is in
 * memory that outlives the process that changes it. Its guest writes numbered records to all its disks whenever it runs.
 */
#ifndef QSNAP_TESTS_UNIT_SCRIPTED_WORLD_H
#define QSNAP_TESTS_UNIT_SCRIPTED_WORLD_H

#include "snapshot/snapshot.h"

enum { WORLD_DISKS = 3, WORLD_CHAIN = 4, WORLD_PATH = 256, WORLD_BYTES = 64 << 10, WORLD_RECORDS = 4 };
#define WORLD_SAVED ".machine.save" /* what a managed save writes */
#define WORLD_NVRAM ".nvram"
#define WORLD_UUID "0e9d2a8e-3a52-4b0a-9f3a-5d1f6a7b8c9d"

struct world_image {
	char path[WORLD_PATH];
	enum driver_format format;
};
struct world_chain {
	struct world_image images[WORLD_CHAIN]; /* [0] is the top */
	unsigned count;
};
struct world_disk {
	char target[8];
	struct world_chain in_use, defined;
	bool readonly, shareable, transient, encrypted, network, other_format, block;
	enum driver_job_kind job;
	bool shallow;
	char copy_to[WORLD_PATH];
	unsigned polls;               /* until the job is ready */
	uint8_t content[WORLD_BYTES]; /* what the guest wrote */
	uint8_t instant[WORLD_BYTES]; /* and what it was when the snapshot was taken */
};

/* What happens at step `at`, counted from 1: before its deed, or after it. */
enum world_event {
	EVENT_NONE,
	EVENT_FAIL,
	EVENT_FAIL_AFTER,
	EVENT_LOST,
	EVENT_DIE,
	EVENT_DIE_AFTER,
	EVENT_HOOK,
	EVENTS
};

/* Its way out: to nobody; beside the guest; to its instant; all of it, and the disks are closed. */
enum world_memory { MEMORY_STAYS, MEMORY_RUNS, MEMORY_HELD, MEMORY_WRITTEN };

struct world {
	enum driver_state state;
	bool saved, saved_paused, frozen, agent, paused_by_user, transient, foreign_job, external_records;
	unsigned nvram, nvram_instant; /* what its NVRAM has, and had at the instant; 0: it has none */
	enum world_memory memory;
	bool memory_holds; /* the guest stands still for that, and for nothing else */
	unsigned memory_polls, memory_rounds, memory_patience;
	bool restored;  /* it went on from a file with its memory */
	bool undefined; /* the hypervisor does not have it any more, or not yet */
	char name[64], uuid[DRIVER_UUID_CHARS];
	bool device, device_attached; /* one of the host, passed through */
	char xml[1024];               /* the definition */
	char records[WORLD_RECORDS][64];
	unsigned record_count;
	struct world_disk disks[WORLD_DISKS];
	unsigned disk_count;

	/* the script */
	unsigned at, steps;
	enum world_event event;
	void (*hook)(struct world *w);
	bool late_definition; /* what an overlay or a pivot changes is in the definition only with the next step */
	bool no_freeze;       /* the agent says no */
	bool ended_well;      /* if it is off */
	bool memory_still;    /* the guest must stand still while it is written */
	bool memory_fills;    /* there is no room for all of it */
	unsigned memory_ms;   /* it changes so fast that the guest must be held so long for the last of it */
	bool bad_memory;      /* it cannot go on from a file */
	bool copies_break;    /* the last writes of a copy fail when it is ended */
	bool network_below;   /* backing files are told to be on the network */
	unsigned ready_polls; /* of each job; of a copy with synchronous writes none */
	unsigned lost_steps;  /* EVENT_LOST is over after so many; 0: never */
	unsigned retry_ms, patience_ms; /* of commands; 0: 1 ms, and as usual */
	unsigned freezes, set_times;
	uint64_t free_bytes; /* what statvfs tells of any file system that the disks are on; 0: what is so */
	atomic_bool cancel;
	char last_op[32];
	unsigned written;       /* records */
	bool instant_was, back; /* back: the disks went back to it */
	const char *kept; /* for judging: a snapshot that each disk is to have, with the instant's bytes; NULL: none */
	unsigned more;    /* for judging: snapshots besides it */
	unsigned kept_memory, kept_nvram; /* for judging: files that are kept */
	bool memory_out;                  /* they are in out/, too, if anything is */
};

/* In a new scratch folder; `raw_second`: vdb is raw, else qcow2. vda is a qcow2 overlay on a qcow2 base. */
struct world *world_new(bool raw_second);
void world_free(struct world *w);
/* Files and state as world_new left them. */
void world_reset(struct world *w, bool raw_second);
/* The guest writes one record to each disk, if it runs. */
void world_tick(struct world *w);
/* The snapshot's instant is now. */
void world_instant(struct world *w);
/* What the disks show: what the guest wrote last, or, all of them, the instant; from now on that is what it wrote, and `back`. */
void world_settle(struct world *w, const char *what);
/* Power failure of the guest alone. */
void world_crash(struct world *w);
bool world_active(const struct world *w);
/* What a guest has in memory: whose it is, and what it wrote to its disks. */
void world_write_memory(const struct world *w, const char *path);
/* The same in two: its first line, and the rest. */
void world_memory_head(const struct world *w, char line[WORLD_PATH]);
int world_memory_to(const struct world *w, int fd); /* -1: not all */
/* Whether a guest with that memory finds what it has written. */
bool world_memory_fits(const struct world *w, const char *path);
void world_write_nvram(struct world *w, unsigned value);

/* Our own engine as the hypervisor's. */
int world_snapshot(const char *path, const char *name, bool make, struct error *e);
bool world_has_snapshot(const char *path, const char *name);
int world_copy_top(const struct world_disk *d, struct error *e);
int world_overlay(const char *path, const struct world_image *below, struct error *e);
int world_commit(const char *overlay, struct error *e);

/* ---- judging ---- */

/* The image has so many snapshots and no damage. */
void world_judge_image(const char *path, unsigned snapshots, const char *what);
/* What it shows, or its snapshot. */
void world_judge_content(const char *path, enum driver_format format, const char *snapshot, const uint8_t *expected,
	const char *what);

/* What a disk or an image shows, or a snapshot in it, all WORLD_BYTES of it. */
void world_read(const char *path, enum driver_format format, const char *snapshot, uint8_t bytes[WORLD_BYTES]);
/* State, definition and files are as in `before`; each disk shows what the guest wrote, without damage; `what` is told else. */
void world_judge(const struct world *w, const struct world *before, const char *what);
/* These files are of the instant; `nvram` NULL: it has none. */
void world_judge_memory(const struct world *w, const char *memory, const char *nvram, const char *what);
/* out/ holds an image of each disk that shows the instant, or nothing. */
void world_judge_output(const struct world *w, bool whole, const char *what);

#endif
