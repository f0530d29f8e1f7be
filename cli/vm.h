/* SPDX-License-Identifier: Apache-2.0
 *
 * What the verbs of `vm` share: their options, a domain opened for one, who is told what happens, exit statuses. All that is
 * told while they work goes to standard error, as text or as events; standard output is for what was asked for.
 */
#ifndef QSNAP_CLI_VM_H
#define QSNAP_CLI_VM_H

#include "cli/cli.h"
#include "snapshot/snapshot.h"

extern const struct cli_command cli_vm_delete, cli_vm_disks, cli_vm_export, cli_vm_import, cli_vm_list, cli_vm_prune,
	cli_vm_recover, cli_vm_revert, cli_vm_show, cli_vm_snapshot;

enum cli_vm_status {
	CLI_VM_FAILED = 1, /* and the guest is as it was */
	CLI_VM_USAGE,
	CLI_VM_BUSY,
	CLI_VM_RECOVER, /* something of ours is left */
	CLI_VM_CHANGED, /* the verification failed */
};

/* One run of a verb, zeros before. */
struct cli_vm {
	struct cli *cli;
	/* as the options say */
	enum cli_progress_kind progress_kind;
	bool quiet, json;
	bool without_memory;              /* a guest that waits to go on from its memory boots */
	unsigned wait_seconds, max_pause; /* max_pause 0: as usual */
	/* Prints a step, or a note with `step` NULL, instead of what is done otherwise; NULL: none. */
	void (*on_step)(struct cli_vm *v, const char *step, const char *disk, const char *note);

	char *state_dir;
	struct cli_progress progress;
	bool deaf; /* the last time nobody took what was told */
	struct driver *driver;
	struct vm *vm;
	const char *domain; /* as it was asked for; NULL: none */
};

#define CLI_ROW_CONNECT                                                                                                \
	{                                                                                                              \
		'c', "connect", "URI", "URI of the hypervisor (default: libvirt's own)"                                \
	}
#define CLI_ROW_STATE                                                                                                  \
	{                                                                                                              \
		CLI_STATE, "state", "DIR",                                                                             \
			"where locks and journals are (default: QSNAP_STATE_DIR, or see the manual)"                   \
	}
#define CLI_ROW_VERBOSE                                                                                                \
	{                                                                                                              \
		'v', "verbose", NULL, "name each call to the hypervisor"                                               \
	}
#define CLI_ROW_JSON                                                                                                   \
	{                                                                                                              \
		CLI_JSON, "json", NULL, "print a JSON object"                                                          \
	}
#define CLI_ROW_WAIT                                                                                                   \
	{                                                                                                              \
		CLI_WAIT, "wait", "S", "seconds to wait for another qsnap that has the domain (default 0)"             \
	}
/* Those of verbs that change a domain. */
#define CLI_ROWS_VM                                                                                                    \
	CLI_ROW_CONNECT, CLI_ROW_STATE, CLI_ROW_WAIT, CLI_ROW_JSON, CLI_ROW_PROGRESS, CLI_ROW_QUIET, CLI_ROW_VERBOSE
#define CLI_ROW_MAX_PAUSE                                                                                              \
	{                                                                                                              \
		CLI_MAX_PAUSE, "max-pause", "S",                                                                       \
			"seconds that the guest may be held; a managed save not counted (default 30)"                  \
	}
/* Takes -c, --state, -v, -p, -q, --json, --wait and --max-pause for the verbs whose rows have them; false: another option. */
bool cli_vm_option(struct cli_vm *v, int id, const char *arg);

/* From here signals cancel and steps are told. -1: no connection. */
int cli_vm_begin(struct cli_vm *v, struct error *e);
int cli_vm_open(struct cli_vm *v, const char *domain, bool read_only, struct error *e);
/* vm_recover_undefined for who steps and notes are told to. */
int cli_vm_recover_undefined(struct cli_vm *v, const char *uuid, struct error *e);
/* vm_import for them; after a failure that leaves something the domain is known by its UUID in *out. */
int cli_vm_run_import(struct cli_vm *v, const struct vm_import *how, struct vm_imported *out, struct error *e);
/* Closes the domain; tells the failure, and what is left. `failed`: 0, or -1 with an error. Returns the exit status. */
int cli_vm_close(struct cli_vm *v, int failed, const struct error *e);
/* Closes the rest. Returns `status`. */
int cli_vm_end(struct cli_vm *v, int status);

/* Words for people and programs. */
const char *cli_vm_format_name(enum driver_format f);
const char *cli_vm_state_name(const struct driver_domain *d);

#endif
