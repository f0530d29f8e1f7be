/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection to libvirt, its errors as ours, and the domain of a UUID. When the connection broke (libvirtd was restarted) the
 * next call makes a new one; a call that was cut off is not made again, because nobody knows whether it happened.
 */
#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <signal.h>
#include <time.h>

#include "driver/libvirt_internal.h"

static void say_nothing(void *ctx, virErrorPtr err)
{
	(void)ctx;
	(void)err;
}

void libvirt_wait_ms(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
	nanosleep(&t, NULL);
}

void libvirt_tell(struct libvirt *l, const char *call)
{
	if (l->driver.told)
		l->driver.told(l->driver.told_ctx, call);
}

static bool is_lost(struct libvirt *l, const virError *v)
{
	if (v->code == VIR_ERR_NO_CONNECT || v->code == VIR_ERR_INVALID_CONN || v->code == VIR_ERR_RPC)
		return true;
	if (v->domain == VIR_FROM_RPC && (v->code == VIR_ERR_SYSTEM_ERROR || v->code == VIR_ERR_INTERNAL_ERROR))
		return true;
	return l && l->conn && virConnectIsAlive(l->conn) == 0;
}

/* Where libvirt's code is a general one, its text tells that somebody else is at it. */
static bool is_busy_text(const char *text)
{
	static const char *const texts[] = {"active block job", "another active job", "state change lock",
		"Failed to get \"write\" lock", "Failed to get shared"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (strstr(text, texts[i]))
			return true;
	return false;
}

static enum err_code code_of(const virError *v, const char *text)
{
	if (is_busy_text(text))
		return ERR_BUSY;
	switch (v->code) {
	case VIR_ERR_NO_DOMAIN:
	case VIR_ERR_NO_DOMAIN_SNAPSHOT:
		return ERR_NOT_FOUND;
	case VIR_ERR_OPERATION_TIMEOUT:
	case VIR_ERR_RESOURCE_BUSY:
	case VIR_ERR_BLOCK_COPY_ACTIVE:
		return ERR_BUSY;
	case VIR_ERR_OPERATION_INVALID:
	case VIR_ERR_OPERATION_UNSUPPORTED:
	case VIR_ERR_CONFIG_UNSUPPORTED:
	case VIR_ERR_ARGUMENT_UNSUPPORTED:
	case VIR_ERR_NO_SUPPORT:
		return ERR_UNSUPPORTED;
	case VIR_ERR_NO_MEMORY:
		return ERR_NO_MEMORY;
	default:
		return ERR_IO;
	}
}

int libvirt_fail(struct libvirt *l, struct error *e)
{
	virErrorPtr v = virSaveLastError(); /* asking whether the connection lives forgets it */
	if (!v)
		return err_set(e, ERR_IO, "libvirt failed and does not say why");
	const char *text = v->message ? v->message : "libvirt does not say why";
	if (is_lost(l, v))
		err_fill(e, ERR_IO, "no connection to libvirt: %s", text);
	else if (v->code == VIR_ERR_AGENT_UNRESPONSIVE || v->code == VIR_ERR_AGENT_UNSYNCED)
		err_fill(e, ERR_IO, "the guest agent does not answer: %s", text);
	else
		err_fill(e, code_of(v, text), "%s", text);
	virFreeError(v);
	return -1;
}

static int connect_to(struct libvirt *l, struct error *e)
{
	if (l->conn)
		virConnectClose(l->conn);
	libvirt_tell(l, "virConnectOpen");
	l->conn = virConnectOpen(l->uri);
	return l->conn ? 0 : libvirt_fail(l, e);
}

int libvirt_connected(struct libvirt *l, struct error *e)
{
	return l->conn && virConnectIsAlive(l->conn) == 1 ? 0 : connect_to(l, e);
}

static virDomainPtr lookup(struct libvirt *l, const char *name, bool uuid_only)
{
	virDomainPtr dom = virDomainLookupByUUIDString(l->conn, name);
	return dom || uuid_only ? dom : virDomainLookupByName(l->conn, name);
}

/* Looking up changes nothing, so it may be done again when it was what found the connection broken. */
static virDomainPtr find(struct libvirt *l, const char *name, bool uuid_only, struct error *e)
{
	if (l->conn) {
		virDomainPtr dom = lookup(l, name, uuid_only);
		if (dom)
			return dom;
		libvirt_fail(l, e);
		if (virConnectIsAlive(l->conn) == 1)
			return NULL;
	}
	if (connect_to(l, e))
		return NULL;
	virDomainPtr dom = lookup(l, name, uuid_only);
	if (!dom)
		libvirt_fail(l, e);
	return dom;
}

virDomainPtr libvirt_domain(struct libvirt *l, const char *uuid, struct error *e)
{
	return find(l, uuid, true, e);
}

virDomainPtr libvirt_domain_named(struct libvirt *l, const char *name, struct error *e)
{
	return find(l, name, false, e);
}

char *libvirt_definition(struct libvirt *l, virDomainPtr dom, unsigned flags, struct error *e)
{
	libvirt_tell(l, "virDomainGetXMLDesc");
	char *xml = virDomainGetXMLDesc(dom, flags);
	if (!xml)
		libvirt_fail(l, e);
	return xml;
}

int libvirt_list(struct driver *d, char ***uuids, unsigned *count, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	if (libvirt_connected(l, e))
		return -1;
	virDomainPtr *domains = NULL;
	libvirt_tell(l, "virConnectListAllDomains");
	int n = virConnectListAllDomains(l->conn, &domains, 0);
	if (n < 0 && virConnectIsAlive(l->conn) != 1 && !connect_to(l, e))
		n = virConnectListAllDomains(l->conn, &domains, 0);
	if (n < 0)
		return libvirt_fail(l, e);
	char **list = mem_calloc((size_t)n + 1, sizeof *list, "list of domains", e);
	int rc = list ? 0 : -1;
	for (int i = 0; i < n; i++) {
		char text[VIR_UUID_STRING_BUFLEN];
		if (!rc && virDomainGetUUIDString(domains[i], text))
			rc = libvirt_fail(l, e);
		if (!rc && !(list[i] = mem_strdup(text, e)))
			rc = -1;
		virDomainFree(domains[i]);
	}
	free(domains);
	if (rc && list)
		for (int i = 0; i < n; i++)
			free(list[i]);
	if (rc) {
		free(list);
		return -1;
	}
	*uuids = list;
	*count = (unsigned)n;
	return 0;
}

/* What a connection held is let go of by the events that follow. */
static void close_libvirt(struct driver *d)
{
	struct libvirt *l = libvirt_of(d);
	struct error unimportant;
	if (l->conn)
		virConnectClose(l->conn);
	libvirt_events_wait(0, &unimportant);
	free(l->uri);
	free(l);
}

static const struct driver_ops ops = {
	.local = libvirt_local,
	.look = libvirt_look,
	.list = libvirt_list,
	.suspend = libvirt_suspend,
	.resume = libvirt_resume,
	.save = libvirt_save,
	.saved_path = libvirt_saved_path,
	.forget_save = libvirt_forget_save,
	.destroy = libvirt_destroy,
	.start = libvirt_start,
	.restore = libvirt_restore,
	.device = libvirt_device,
	.freeze = libvirt_freeze,
	.thaw = libvirt_thaw,
	.set_time = libvirt_set_time,
	.internal_create = libvirt_internal_create,
	.internal_delete = libvirt_internal_delete,
	.memory_still = libvirt_memory_still,
	.memory_begin = libvirt_memory_begin,
	.memory_look = libvirt_memory_look,
	.memory_patience = libvirt_memory_patience,
	.memory_finish = libvirt_memory_finish,
	.memory_end = libvirt_memory_end,
	.overlay = libvirt_overlay,
	.copy = libvirt_copy,
	.commit = libvirt_commit,
	.job = libvirt_job,
	.end_job = libvirt_end_job,
	.records = libvirt_records,
	.set_source = libvirt_set_source,
	.define = libvirt_define,
	.adapt = libvirt_adapt,
	.adapt_memory = libvirt_adapt_memory,
	.create = libvirt_create,
	.define_record = libvirt_define_record,
	.forget_record = libvirt_forget_record,
	.close = close_libvirt,
};

int qsnap_libvirt_open(struct driver **out, const char *uri, struct error *e)
{
	*out = NULL;
	virSetErrorFunc(NULL, say_nothing);
	signal(SIGPIPE, SIG_IGN);
	if (virInitialize() < 0)
		return libvirt_fail(NULL, e);
	if (libvirt_events_begin(e))
		return -1;
	xmlInitParser();
	struct libvirt *l = mem_calloc(1, sizeof *l, "libvirt driver", e);
	if (!l)
		return -1;
	l->driver.ops = &ops;
	if ((uri && !(l->uri = mem_strdup(uri, e))) || connect_to(l, e)) {
		close_libvirt(&l->driver);
		return -1;
	}
	*out = &l->driver;
	return 0;
}
