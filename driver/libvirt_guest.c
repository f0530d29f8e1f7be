/* SPDX-License-Identifier: Apache-2.0
 *
 * The guest as a whole: paused and resumed, saved and started, devices taken from it and given back, and what its agent does.
 */
#include "driver/libvirt_internal.h"

enum { DETACH_WAIT_MS = 30000, DETACH_STEP_MS = 20, SET_TIME_SECONDS = 10 };

int libvirt_suspend(struct driver *d, const char *uuid, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	if (!dom)
		return -1;
	libvirt_tell(l, "virDomainSuspend");
	return virDomainSuspend(dom) ? libvirt_fail(l, e) : 0;
}

static int resume(struct libvirt *l, virDomainPtr dom, struct error *e)
{
	libvirt_tell(l, "virDomainResume");
	return virDomainResume(dom) ? libvirt_fail(l, e) : 0;
}

int libvirt_resume(struct driver *d, const char *uuid, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	return dom ? resume(l, dom, e) : -1;
}

int libvirt_save(struct driver *d, const char *uuid, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	if (!dom)
		return -1;
	libvirt_tell(l, "virDomainManagedSave");
	return virDomainManagedSave(dom, 0) ? libvirt_fail(l, e) : 0;
}

int libvirt_forget_save(struct driver *d, const char *uuid, bool active, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	if (!dom)
		return -1;
	libvirt_tell(l, "virDomainIsActive");
	int runs = virDomainIsActive(dom);
	if (runs < 0)
		return libvirt_fail(l, e);
	if (runs && !active)
		return err_set(e, ERR_CHANGED, "the domain was started meanwhile");
	if (!runs && active)
		return err_set(e, ERR_CHANGED, "the domain does not run, its saved state is what it has");
	libvirt_tell(l, "virDomainManagedSaveRemove");
	return virDomainManagedSaveRemove(dom, 0) ? libvirt_fail(l, e) : 0;
}

/* QEMU is asked to end first, and has some seconds for that. */
int libvirt_destroy(struct driver *d, const char *uuid, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	if (!dom)
		return -1;
	libvirt_tell(l, "virDomainDestroyFlags");
	if (!virDomainDestroyFlags(dom, VIR_DOMAIN_DESTROY_GRACEFUL))
		return 0;
	libvirt_fail(l, e); /* asking whether it runs forgets it */
	if (virDomainIsActive(dom) != 1)
		return -1;
	libvirt_tell(l, "virDomainDestroyFlags");
	return virDomainDestroyFlags(dom, 0) ? libvirt_fail(l, e) : 0;
}

/* What was paused when it was saved comes back paused; who wants it to run gets that, too. */
int libvirt_start(struct driver *d, const char *uuid, bool paused, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	if (!dom)
		return -1;
	libvirt_tell(l, "virDomainCreateWithFlags");
	if (virDomainCreateWithFlags(dom, paused ? VIR_DOMAIN_START_PAUSED : 0))
		return libvirt_fail(l, e);
	if (paused)
		return 0;
	int state, reason;
	if (libvirt_state(l, dom, &state, &reason, e))
		return -1;
	return state == VIR_DOMAIN_PAUSED && libvirt_paused_by_user(reason) ? resume(l, dom, e) : 0;
}

static int alias_of(const char *device, char **alias, struct error *e)
{
	AUTO_DOC xmlDoc *doc = libvirt_xml_parse(device, e);
	if (!doc)
		return -1;
	return libvirt_xml_attr(libvirt_xml_child(xmlDocGetRootElement(doc), "alias"), "name", alias, e);
}

static int still_attached(struct libvirt *l, virDomainPtr dom, const char *alias, bool *attached, struct error *e)
{
	AUTO_FREE char *xml = libvirt_definition(l, dom, 0, e);
	AUTO_DOC xmlDoc *doc = xml ? libvirt_xml_parse(xml, e) : NULL;
	if (!doc)
		return -1;
	*attached = libvirt_xml_has_alias(doc, alias);
	return 0;
}

/* libvirt says yes when the guest was asked; it is gone when the guest let go. */
static int wait_detached(struct libvirt *l, virDomainPtr dom, const char *alias, struct error *e)
{
	for (unsigned waited = 0;; waited += DETACH_STEP_MS) {
		bool attached = false;
		if (still_attached(l, dom, alias, &attached, e))
			return -1;
		if (!attached)
			return 0;
		if (waited >= DETACH_WAIT_MS)
			return err_set(e, ERR_IO, "the guest does not let go of device '%s'", alias);
		libvirt_wait_ms(DETACH_STEP_MS);
	}
}

int libvirt_device(struct driver *d, const char *uuid, const char *xml, bool attach, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	if (!dom)
		return -1;
	if (attach) {
		libvirt_tell(l, "virDomainAttachDeviceFlags");
		return virDomainAttachDeviceFlags(dom, xml, VIR_DOMAIN_AFFECT_LIVE) ? libvirt_fail(l, e) : 0;
	}
	AUTO_FREE char *alias = NULL;
	if (alias_of(xml, &alias, e))
		return -1;
	libvirt_tell(l, "virDomainDetachDeviceFlags");
	if (virDomainDetachDeviceFlags(dom, xml, VIR_DOMAIN_AFFECT_LIVE))
		return libvirt_fail(l, e);
	return alias ? wait_detached(l, dom, alias, e) : 0;
}

static int set_agent_time(struct libvirt *l, virDomainPtr dom, int seconds, struct error *e)
{
	libvirt_tell(l, "virDomainAgentSetResponseTimeout");
	return virDomainAgentSetResponseTimeout(dom, seconds, 0) ? libvirt_fail(l, e) : 0;
}

static int freeze(virDomainPtr dom)
{
	return virDomainFSFreeze(dom, NULL, 0, 0);
}

static int thaw(virDomainPtr dom)
{
	return virDomainFSThaw(dom, NULL, 0, 0);
}

static int set_time(virDomainPtr dom)
{
	return virDomainSetTime(dom, 0, 0, VIR_DOMAIN_TIME_SYNC);
}

/* libvirt would wait for the agent for ever. How long it waits is the domain's, not ours, so what is usual is put back. */
static int ask_agent(struct driver *d, const char *uuid, unsigned seconds, const char *name, int (*call)(virDomainPtr),
	struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	if (!dom || set_agent_time(l, dom, seconds < INT32_MAX ? (int)seconds : INT32_MAX, e))
		return -1;
	libvirt_tell(l, name);
	int rc = call(dom) < 0 ? libvirt_fail(l, e) : 0;
	struct error unimportant;
	set_agent_time(l, dom, VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, &unimportant);
	return rc;
}

int libvirt_freeze(struct driver *d, const char *uuid, unsigned seconds, struct error *e)
{
	return ask_agent(d, uuid, seconds, "virDomainFSFreeze", freeze, e);
}

int libvirt_thaw(struct driver *d, const char *uuid, unsigned seconds, struct error *e)
{
	return ask_agent(d, uuid, seconds, "virDomainFSThaw", thaw, e);
}

int libvirt_set_time(struct driver *d, const char *uuid, struct error *e)
{
	return ask_agent(d, uuid, SET_TIME_SECONDS, "virDomainSetTime", set_time, e);
}
