/* SPDX-License-Identifier: Apache-2.0
 *
 * `vm`: snapshots of virtual machines. Its verbs are files of their own; here is what they share.
 */
#include "cli/vm.h"

#include <getopt.h>
#include <poll.h>
#include <unistd.h>

/* ---- options ---- */

/* Those that stand before a verb as well. */
static bool global_option(struct cli *c, int id, const char *arg)
{
	switch (id) {
	case 'c':
		c->connect = arg;
		return true;
	case CLI_STATE:
		c->state_dir = arg;
		return true;
	case 'v':
		c->verbose++;
		return true;
	}
	return false;
}

bool cli_vm_option(struct cli_vm *v, int id, const char *arg)
{
	switch (id) {
	case 'p':
		v->progress_kind = cli_parse_progress(v->cli, arg);
		return true;
	case 'q':
		v->quiet = true;
		return true;
	case CLI_JSON:
		v->json = true;
		return true;
	case CLI_WAIT:
		v->wait_seconds = cli_parse_number(v->cli, "number of seconds for --wait", arg, 0, 10000000);
		return true;
	case CLI_MAX_PAUSE:
		v->max_pause = cli_parse_number(v->cli, "number of seconds for --max-pause", arg, 1, 86400);
		return true;
	}
	return global_option(v->cli, id, arg);
}

static char *find_state_dir(const struct cli *c, struct error *e)
{
	const char *named = getenv("QSNAP_STATE_DIR"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

	if (c->state_dir || (named && *named))
		return vm_absolute(c->state_dir ? c->state_dir : named, e);
	if (geteuid() == 0)
		return mem_strdup("/var/lib/qsnap", e);
	if (xdg && *xdg)
		return mem_printf(e, "%s/qsnap", xdg);
	if (home && *home)
		return mem_printf(e, "%s/.local/state/qsnap", home);
	err_set(e, ERR_USAGE, "There is no home for locks and journals: say --state");
	return NULL;
}

/* ---- what is told ---- */

/* A reader that has stopped reading must not hold a guest that is suspended or frozen just now: what nobody takes within a
 * second, and from then on at once, is not told. */
static bool can_tell(struct cli_vm *v)
{
	struct pollfd fds[] = {{.fd = STDERR_FILENO, .events = POLLOUT}, {.fd = STDOUT_FILENO, .events = POLLOUT}};
	const nfds_t count = v->on_step ? 2 : 1;
	bool ready = true;

	for (nfds_t i = 0; i < count; i++)
		ready &= poll(&fds[i], 1, v->deaf ? 0 : 1000) > 0;
	v->deaf = !ready;
	return ready;
}

/* Not to be kept: each look at the domain makes it anew. */
static const char *domain_name(const struct cli_vm *v)
{
	return v->vm ? vm_domain(v->vm)->name : v->domain;
}

/* `key` and `text` NULL: none. */
static void tell_event(const struct cli_vm *v, const char *event, const char *key, const char *text)
{
	struct cli_event event_line;

	cli_event_begin(&event_line, event);
	if (domain_name(v))
		json_string(&event_line.json, "domain", domain_name(v));
	if (key)
		json_string(&event_line.json, key, text);
	cli_event_end(&event_line);
}

static void tell_step(void *ctx, const char *step, const char *disk)
{
	struct cli_vm *v = ctx;

	if (!can_tell(v))
		return;
	cli_progress_step(&v->progress, step, disk);
	if (v->on_step)
		v->on_step(v, step, disk, NULL);
}

static void tell_note(void *ctx, const char *text)
{
	struct cli_vm *v = ctx;

	if (!can_tell(v))
		return;
	if (v->progress_kind == CLI_PROGRESS_JSON)
		tell_event(v, "note", "text", text);
	cli_progress_break(&v->progress);
	if (v->on_step)
		v->on_step(v, NULL, NULL, text);
	else if (v->progress_kind != CLI_PROGRESS_JSON && !v->quiet)
		cli_error(v->cli, "%s", text);
}

static void tell_call(void *ctx, const char *call)
{
	struct cli_vm *v = ctx;

	if (!can_tell(v))
		return;
	if (v->progress_kind == CLI_PROGRESS_JSON) {
		tell_event(v, "call", "call", call);
	} else {
		cli_progress_break(&v->progress);
		cli_verbose(v->cli, "%s", call);
	}
}

static void tell_error(struct cli_vm *v, const char *text)
{
	cli_progress_break(&v->progress);
	if (v->progress_kind == CLI_PROGRESS_JSON)
		tell_event(v, "error", "message", text);
	else
		cli_error(v->cli, "%s", text);
}

/* ---- a domain ---- */

int cli_vm_begin(struct cli_vm *v, struct error *e)
{
	cli_progress_begin_steps(&v->progress, v->cli, v->progress_kind);
	v->state_dir = find_state_dir(v->cli, e);
	if (!v->state_dir || driver_libvirt_open(&v->driver, v->cli->connect, e) < 0)
		return -1;
	if (v->cli->verbose) {
		v->driver->told = tell_call;
		v->driver->told_ctx = v;
	}
	return 0;
}

static struct vm_opts options_for(struct cli_vm *v, const char *domain)
{
	return (struct vm_opts){.driver = v->driver,
		.domain = domain,
		.state_dir = v->state_dir,
		.wait_seconds = v->wait_seconds,
		.max_pause = v->max_pause,
		.without_memory = v->without_memory,
		.voice = {.ctx = v, .step = tell_step, .note = tell_note, .progress = &v->progress.base}};
}

int cli_vm_recover_undefined(struct cli_vm *v, const char *uuid, struct error *e)
{
	const struct vm_opts opts = options_for(v, uuid);

	v->domain = uuid;
	return vm_recover_undefined(&opts, uuid, e);
}

int cli_vm_run_import(struct cli_vm *v, const struct vm_import *how, struct vm_imported *out, struct error *e)
{
	const struct vm_opts opts = options_for(v, NULL);

	if (vm_import(&opts, how, out, e) == 0)
		return 0;
	v->domain = out->left ? out->uuid : NULL;
	return -1;
}

int cli_vm_open(struct cli_vm *v, const char *domain, bool read_only, struct error *e)
{
	struct vm_opts opts = options_for(v, domain);

	opts.read_only = read_only;
	v->domain = domain;
	if (vm_open(&v->vm, &opts, e) == 0)
		return 0;
	if (e->code == ERR_NOT_FOUND && access(domain, F_OK) == 0)
		return err_set(e, ERR_USAGE,
			"'%s' is a file, and this is about virtual machines: '%s snapshot -l %s' lists what is in an "
			"image",
			domain, v->cli->program, domain);
	return -1;
}

/* Whether a journal is there of the domain that could not be opened. */
static bool has_journal(const struct cli_vm *v)
{
	AUTO_FREE char **uuids = NULL;
	struct driver_domain d = {0};
	struct error e;
	unsigned count = 0;
	bool found = false;

	if (!v->driver || !v->domain || vm_journals(v->state_dir, &uuids, &count, &e) < 0)
		return false;
	if (v->driver->ops->look(v->driver, v->domain, &d, &e) < 0)
		snprintf(d.uuid, sizeof d.uuid, "%s", v->domain);
	for (unsigned i = 0; i < count; i++) {
		found |= strcmp(uuids[i], d.uuid) == 0;
		free(uuids[i]);
	}
	driver_domain_free(&d);
	return found;
}

static int status_of(const struct cli_vm *v, bool left, int failed, const struct error *e)
{
	if (left)
		return CLI_VM_RECOVER;
	if (!failed)
		return 0;
	switch (e->code) {
	case ERR_BUSY:
		return CLI_VM_BUSY;
	case ERR_CHANGED:
		return CLI_VM_CHANGED;
	case ERR_USAGE:
		return v->cli->usage_status;
	default:
		return cli_status_after_signal(CLI_VM_FAILED);
	}
}

int cli_vm_close(struct cli_vm *v, int failed, const struct error *e)
{
	/* Who could not get the domain because another qsnap has it, or did not wait longer for that, leaves nothing; the journal
	 * is the other's. */
	bool left = v->vm ? vm_left(v->vm) > 0
			  : failed && e->code != ERR_BUSY && e->code != ERR_CANCELLED && has_journal(v);

	if (failed)
		tell_error(v, e->msg);
	if (left) {
		char text[300];
		snprintf(text, sizeof text, "what was done is not all taken back: '%s vm recover %s%s' does that",
			v->cli->program, failed && e->code == ERR_NOT_FOUND ? "--undefined " : "", domain_name(v));
		tell_error(v, text);
	}
	vm_close(STEAL(v->vm));
	v->domain = NULL;
	return status_of(v, left, failed, e);
}

int cli_vm_end(struct cli_vm *v, int status)
{
	if (v->progress_kind == CLI_PROGRESS_JSON) {
		struct cli_event event;
		cli_event_begin(&event, status ? "failed" : "done");
		json_int(&event.json, "status", status);
		cli_event_end(&event);
	}
	cli_progress_end(&v->progress, status == 0);
	driver_close(STEAL(v->driver));
	free(STEAL(v->state_dir));
	return status;
}

const char *cli_vm_format_name(enum driver_format f)
{
	return f == DRIVER_QCOW2 ? "qcow2" : f == DRIVER_RAW ? "raw" : "other";
}

const char *cli_vm_state_name(const struct driver_domain *d)
{
	switch (d->state) {
	case DRIVER_RUNNING:
		return "running";
	case DRIVER_PAUSED:
		return "paused";
	case DRIVER_SHUT_OFF:
		return d->saved ? "saved" : "shut off";
	case DRIVER_BETWEEN:
		break;
	}
	return "between states";
}

/* ---- the verb itself ---- */

static int vm_run(struct cli *c, int argc, char **argv)
{
	const char *arg;
	int id;

	if (c->untrusted)
		cli_usage_error(c, "--untrusted is for images; a machine's disks are read as its definition says");
	while ((id = cli_next_option(c, argc, argv, &arg)) != -1)
		global_option(c, id, arg);
	return cli_run_verb(c, argc, argv);
}

static const struct cli_command *const vm_verbs[] = {
	&cli_vm_delete,
	&cli_vm_disks,
	&cli_vm_export,
	&cli_vm_import,
	&cli_vm_list,
	&cli_vm_prune,
	&cli_vm_recover,
	&cli_vm_revert,
	&cli_vm_show,
	&cli_vm_snapshot,
	NULL,
};

static const struct cli_option vm_options[] = {
	CLI_ROW_HELP,
	CLI_ROW_CONNECT,
	CLI_ROW_STATE,
	CLI_ROW_VERBOSE,
	CLI_ROW_END,
};

const struct cli_command cli_vm = {
	.name = "vm",
	.summary = "Take, list, move, delete and go back to snapshots of virtual machines",
	.arguments = "COMMAND [--help | ...]",
	.options = vm_options,
	.run = vm_run,
	.verbs = vm_verbs,
	.more = "Exit status: 0 done, 1 failed and the guest is as before, 2 bad usage, 3 busy,\n"
		"4 failed and 'vm recover' is needed, 5 the verification failed.",
	.usage_status = CLI_VM_USAGE,
	.own_name = true,
};
