/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory of a guest that runs, and what is done at its instant. libvirt's snapshot with memory lets nobody do anything between the
 * memory's last byte and the guest's next step, so QEMU is asked itself, by its monitor: a migration into a pipe, which with
 * pause-before-switchover waits for us when the guest has been stopped and its disks are still open (QEMU, docs/devel/migration).
 * libvirt sees a guest that was paused and goes on.
 *
 * What is set for it in QEMU is put back. After a death of ours nobody knows what it was, but for a limit of ours, which is known by
 * its last digits: it becomes QEMU's own. libvirt sets the bandwidth itself whenever it migrates, and pause-before-switchover, too.
 */
#include "driver/libvirt_internal.h"

#define NO_LIMIT (1ull << 50)                                                 /* bytes a second */
enum { MARK = 97, MARK_OF = 100 };                                            /* limits of ours end so */
enum { FIRST_LIMIT_MS = MARK, USUAL_LIMIT_MS = 300, MAX_LIMIT_MS = 1999997 }; /* QEMU allows 2000 s */
enum { SETTLE_STEP_MS = 5, SETTLE_STEPS = 2000, PATIENT_STEPS = 200 };
static const char fd_name[] = "qsnap-memory";

/* ---- QEMU's commands ---- */

static int ask(struct libvirt *l, virDomainPtr dom, const char *name, json_t **out, struct error *e)
{
	return libvirt_monitor(l, dom, json_pack("{s:s}", "execute", name), name, -1, out, e);
}

/* Takes `arguments`. */
static int order(struct libvirt *l, virDomainPtr dom, const char *name, json_t *arguments, int fd, struct error *e)
{
	json_t *command = arguments ? json_pack("{s:s, s:o}", "execute", name, "arguments", arguments) : NULL;
	return libvirt_monitor(l, dom, command, name, fd, NULL, e);
}

static int set_pausing(struct libvirt *l, virDomainPtr dom, bool on, struct error *e)
{
	return order(l, dom, "migrate-set-capabilities",
		json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "pause-before-switchover", "state", on), -1,
		e);
}

static int set_limits(struct libvirt *l, virDomainPtr dom, uint64_t bandwidth, uint64_t downtime, struct error *e)
{
	AUTO_JSON json_t *limits = json_object();
	if (bandwidth)
		json_object_set_new(limits, "max-bandwidth", json_integer((json_int_t)bandwidth));
	if (downtime)
		json_object_set_new(limits, "downtime-limit", json_integer((json_int_t)downtime));
	return json_object_size(limits) ? order(l, dom, "migrate-set-parameters", json_incref(limits), -1, e) : 0;
}

static int read_limits(struct libvirt *l, virDomainPtr dom, struct libvirt_migration *out, struct error *e)
{
	AUTO_JSON json_t *now = NULL;
	if (ask(l, dom, "query-migrate-parameters", &now, e))
		return -1;
	out->bandwidth = (uint64_t)json_integer_value(json_object_get(now, "max-bandwidth"));
	out->downtime = (uint64_t)json_integer_value(json_object_get(now, "downtime-limit"));
	return 0;
}

/* ---- how far it is ---- */

enum stage { STAGE_NONE, STAGE_UNDER_WAY, STAGE_HELD, STAGE_WRITTEN, STAGE_FAILED };
static const struct {
	const char *status;
	enum stage stage;
} stages[] = {
	/* all others, as "active" and "cancelling": it is under way */
	{"none", STAGE_NONE},
	{"pre-switchover", STAGE_HELD},
	{"completed", STAGE_WRITTEN},
	{"failed", STAGE_FAILED},
	{"cancelled", STAGE_FAILED},
};

/* *out: what QEMU said, when wanted. */
static int look(struct libvirt *l, virDomainPtr dom, enum stage *stage, json_t **out, struct error *e)
{
	AUTO_JSON json_t *info = NULL;
	if (ask(l, dom, "query-migrate", &info, e))
		return -1;
	const char *status = json_string_value(json_object_get(info, "status"));
	*stage = status ? STAGE_UNDER_WAY : STAGE_NONE;
	for (size_t i = 0; status && i < sizeof stages / sizeof *stages; i++)
		if (!strcmp(status, stages[i].status))
			*stage = stages[i].stage;
	if (out)
		*out = json_incref(info);
	return 0;
}

static bool under_way(enum stage stage)
{
	return stage == STAGE_UNDER_WAY || stage == STAGE_HELD;
}

/* One that somebody suspended, or that suspended itself, is not ours to let go on; here its disks are open yet. What one that was to stand
 * still has changed since is not in what was written: QEMU itself stops it again before the end, which is another kind of pause. */
static int refuse_other_state(struct libvirt *l, virDomainPtr dom, enum stage stage, struct error *e)
{
	int state, reason;
	bool still = l->memory_still;
	if (stage != STAGE_HELD && !(still && stage == STAGE_UNDER_WAY))
		return 0;
	if (libvirt_state(l, dom, &state, &reason, e))
		return -1;
	bool by_user = state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_USER;
	if (still ? by_user : !by_user && state != VIR_DOMAIN_PMSUSPENDED)
		return 0;
	return err_set(e, ERR_CHANGED, "the guest was %s meanwhile", still ? "resumed" : "suspended");
}

int libvirt_memory_look(struct driver *d, const char *uuid, struct driver_memory *out, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	AUTO_JSON json_t *info = NULL;
	enum stage stage;
	if (!dom || look(l, dom, &stage, &info, e))
		return -1;
	const char *why = json_string_value(json_object_get(info, "error-desc"));
	const json_t *ram = json_object_get(info, "ram");
	if (stage == STAGE_FAILED || stage == STAGE_NONE)
		return err_set(e, ERR_IO, "QEMU has not written the memory%s%s", why ? ": " : "", why ? why : "");
	if (refuse_other_state(l, dom, stage, e))
		return -1;
	*out = (struct driver_memory){
		.state = stage == STAGE_HELD      ? DRIVER_MEMORY_HELD
			 : stage == STAGE_WRITTEN ? DRIVER_MEMORY_WRITTEN
						  : DRIVER_MEMORY_RUNS,
		.done = (uint64_t)json_integer_value(json_object_get(ram, "transferred")),
		.left = (uint64_t)json_integer_value(json_object_get(ram, "remaining")),
		.rounds = (unsigned)json_integer_value(json_object_get(ram, "dirty-sync-count")),
	};
	return 0;
}

/* ---- its beginning ---- */

/* QEMU before 9.0 misses some of what an emulated processor changes in memory that was written already: when it takes note of what has
 * changed so far it forgets to tell the emulation, which goes on to change those pages without a word. KVM tells by itself. */
int libvirt_memory_still(struct driver *d, const char *uuid, bool *out, struct error *e)
{
	enum { FIRST_RIGHT = 9 };
	if (!LIBVIRT_SENDS_FILES)
		return err_set(e, ERR_UNSUPPORTED, "the memory of a guest that runs needs libvirt 8.2 or newer");
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	AUTO_JSON json_t *kvm = NULL;
	AUTO_JSON json_t *version = NULL;
	json_int_t major;
	if (!dom || ask(l, dom, "query-kvm", &kvm, e) || ask(l, dom, "query-version", &version, e))
		return -1;
	if (json_unpack(version, "{s:{s:I}}", "qemu", "major", &major))
		return err_set(e, ERR_IO, "QEMU's answer to query-version is not understood");
	*out = !json_is_true(json_object_get(kvm, "enabled")) && major < FIRST_RIGHT;
	return 0;
}

static int refuse_busy(struct libvirt *l, virDomainPtr dom, struct error *e)
{
	enum stage stage;
	if (look(l, dom, &stage, NULL, e))
		return -1;
	return under_way(stage) ? err_set(e, ERR_BUSY, "the guest's memory is being migrated or saved already") : 0;
}

static int put_back(struct libvirt *l, virDomainPtr dom, struct error *e)
{
	struct libvirt_migration now;
	if (read_limits(l, dom, &now, e))
		return -1;
	bool ours = now.downtime % MARK_OF == MARK;
	uint64_t downtime = l->before.downtime ? l->before.downtime : USUAL_LIMIT_MS;
	if (set_pausing(l, dom, false, e) || set_limits(l, dom, l->before.bandwidth, ours ? downtime : 0, e))
		return -1;
	l->before = (struct libvirt_migration){0};
	return 0;
}

static int migrate(struct libvirt *l, virDomainPtr dom, int fd, struct error *e)
{
	struct error unimportant;
	if (order(l, dom, "getfd", json_pack("{s:s}", "fdname", fd_name), fd, e))
		return -1;
	if (!order(l, dom, "migrate", json_pack("{s:s+}", "uri", "fd:", fd_name), -1, e))
		return 0;
	order(l, dom, "closefd", json_pack("{s:s}", "fdname", fd_name), -1, &unimportant);
	return -1;
}

int libvirt_memory_begin(struct driver *d, const char *uuid, int fd, bool still, struct driver_head *head,
	struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	struct error unimportant;
	if (!dom || refuse_busy(l, dom, e) || libvirt_new_head(l, dom, head, e) || read_limits(l, dom, &l->before, e))
		return -1;
	l->memory_still = still;
	if (!set_pausing(l, dom, true, e) && !set_limits(l, dom, NO_LIMIT, FIRST_LIMIT_MS, e) &&
		!migrate(l, dom, fd, e))
		return 0;
	if (e->code == ERR_BUSY) /* the caller has nothing to end */
		put_back(l, dom, &unimportant);
	return -1;
}

int libvirt_memory_patience(struct driver *d, const char *uuid, unsigned ms, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	unsigned limit = ms > MAX_LIMIT_MS ? MAX_LIMIT_MS : ms;
	return dom ? set_limits(l, dom, 0, limit - limit % MARK_OF + MARK, e) : -1;
}

/* ---- its end ---- */

int libvirt_memory_finish(struct driver *d, const char *uuid, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	return dom ? order(l, dom, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"), -1, e) : -1;
}

static int stop(struct libvirt *l, virDomainPtr dom, struct error *e)
{
	enum stage stage;
	for (unsigned i = 0; i < SETTLE_STEPS; i++) {
		if (look(l, dom, &stage, NULL, e))
			return -1;
		if (!under_way(stage))
			return 0;
		if (!i && ask(l, dom, "migrate_cancel", NULL, e))
			return -1;
		libvirt_wait_ms(SETTLE_STEP_MS);
	}
	return err_set(e, ERR_BUSY, "QEMU does not end writing the guest's memory");
}

/* 1 it is, 0 it stands still after a migration, -1. One that stands still for another reason is none of ours. */
static int goes_on(struct libvirt *l, virDomainPtr dom, struct error *e)
{
	AUTO_FREE char *status = libvirt_status(l, dom, e);
	return status ? strcmp(status, "postmigrate") != 0 : -1;
}

/* libvirt notes some moments later what QEMU did by itself. Who was suspended by the user before it was to be held stays so; when it is
 * held, libvirt takes note of no such wish. */
static int go_on(struct libvirt *l, virDomainPtr dom, struct error *e)
{
	for (unsigned i = 0; i < SETTLE_STEPS; i++) {
		int state, reason, runs = goes_on(l, dom, e);
		if (runs < 0)
			return -1;
		if (libvirt_state(l, dom, &state, &reason, e))
			return -1;
		if (state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_USER)
			return 0;
		if (runs && (state != VIR_DOMAIN_PAUSED || i == PATIENT_STEPS))
			return 0; /* it is paused for a reason of its own then */
		if (!runs && state == VIR_DOMAIN_PAUSED) {
			libvirt_tell(l, "virDomainResume");
			return virDomainResume(dom) ? libvirt_fail(l, e) : 0;
		}
		if (!runs && i == PATIENT_STEPS) /* libvirt has another word for it, and would not */
			return ask(l, dom, "cont", NULL, e);
		libvirt_wait_ms(SETTLE_STEP_MS);
	}
	return err_set(e, ERR_BUSY, "libvirt does not note that the guest's memory was written");
}

int libvirt_memory_end(struct driver *d, const char *uuid, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	return !dom || stop(l, dom, e) || go_on(l, dom, e) || put_back(l, dom, e) ? -1 : 0;
}
