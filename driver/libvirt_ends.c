/* SPDX-License-Identifier: Apache-2.0
 *
 * How a block job ended. libvirt's own event says of every job that it was told to end that it was cancelled, and nothing of an
 * error, so QEMU's is asked for. Events are taken by the thread that calls, while it waits: there is no other.
 */
#include <libvirt/libvirt-qemu.h>

#include "base/json_read.h"
#include "driver/libvirt_internal.h"

enum { WORD_WAIT_MS = 2000, WORD_STEP_MS = 2 };

int libvirt_events_begin(struct error *e)
{
	static bool begun;
	if (begun)
		return 0;
	if (virEventRegisterDefaultImpl())
		return libvirt_fail(NULL, e);
	begun = true;
	return 0;
}

static void time_is_up(int timer, void *ctx)
{
	(void)timer;
	*(bool *)ctx = true;
}

int libvirt_events_wait(unsigned ms, struct error *e)
{
	bool up = false;
	int timer = virEventAddTimeout((int)ms, time_is_up, &up, NULL), failed = timer < 0;
	while (!failed && !up)
		failed = virEventRunDefaultImpl();
	if (failed)
		libvirt_fail(NULL, e);
	if (timer >= 0)
		virEventRemoveTimeout(timer);
	return failed ? -1 : 0;
}

static void job_ended(virConnectPtr conn, virDomainPtr dom, const char *event, long long seconds, unsigned micros,
	const char *details, void *ctx)
{
	struct libvirt_end *end = ctx;
	AUTO_JSON json_t *j = details ? json_loads(details, 0, NULL) : NULL;
	const char *job = json_string_value(json_object_get(j, "device")),
		   *why = json_string_value(json_object_get(j, "error"));

	(void)conn, (void)dom, (void)event, (void)seconds, (void)micros;
	if (job && !strncmp(job, end->job, strlen(end->job))) {
		end->seen = true;
		end->failed = why;
		snprintf(end->why, sizeof end->why, "%s", why ? why : "");
	}
}

int libvirt_end_watch(struct libvirt *l, virDomainPtr dom, const char *job, struct libvirt_end *end, struct error *e)
{
	*end = (struct libvirt_end){.job = job, .conn = virDomainGetConnect(dom), .callback = -1};
	libvirt_tell(l, "virConnectDomainQemuMonitorEventRegister BLOCK_JOB_COMPLETED");
	end->callback = virConnectDomainQemuMonitorEventRegister(end->conn, dom, "BLOCK_JOB_COMPLETED", job_ended, end,
		NULL, 0);
	return end->callback < 0 ? libvirt_fail(l, e) : 0;
}

int libvirt_end_well(struct libvirt_end *end, const char *target, struct error *e)
{
	for (unsigned waited = 0; !end->seen && waited < WORD_WAIT_MS; waited += WORD_STEP_MS)
		if (libvirt_events_wait(WORD_STEP_MS, e))
			return -1;
	if (!end->seen)
		return err_set(e, ERR_IO, "disk '%s': QEMU does not say whether the copy has all", target);
	return end->failed ? err_set(e, ERR_IO, "disk '%s': the copy failed at its end: %s", target, end->why) : 0;
}

void libvirt_end_forget(struct libvirt_end *end)
{
	if (end->callback >= 0)
		virConnectDomainQemuMonitorEventDeregister(end->conn, end->callback);
}
