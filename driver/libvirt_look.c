/* SPDX-License-Identifier: Apache-2.0
 *
 * What a domain is like now. Disks are those in use: of the guest that runs, of the saved one, or else of the definition.
 */
#include "driver/libvirt_internal.h"

enum { LOOK_TRIES = 5 };

/* A guest that comes back paused from a save is paused by "migration", with none going on. */
bool libvirt_paused_by_user(int reason)
{
	return reason == VIR_DOMAIN_PAUSED_USER || reason == VIR_DOMAIN_PAUSED_UNKNOWN ||
	       reason == VIR_DOMAIN_PAUSED_MIGRATION || reason == VIR_DOMAIN_PAUSED_FROM_SNAPSHOT;
}

int libvirt_state(struct libvirt *l, virDomainPtr dom, int *state, int *reason, struct error *e)
{
	*state = *reason = 0;
	libvirt_tell(l, "virDomainGetState");
	return virDomainGetState(dom, state, reason, 0) ? libvirt_fail(l, e) : 0;
}

static enum driver_state state_of(int state, int reason)
{
	switch (state) {
	case VIR_DOMAIN_RUNNING:
	case VIR_DOMAIN_BLOCKED:
		return DRIVER_RUNNING;
	case VIR_DOMAIN_PAUSED:
		return reason == VIR_DOMAIN_PAUSED_SHUTTING_DOWN || reason == VIR_DOMAIN_PAUSED_CRASHED ||
				       reason == VIR_DOMAIN_PAUSED_STARTING_UP
			       ? DRIVER_BETWEEN
			       : DRIVER_PAUSED;
	case VIR_DOMAIN_SHUTOFF:
		return DRIVER_SHUT_OFF;
	default:
		return DRIVER_BETWEEN;
	}
}

static int look_state(struct libvirt *l, virDomainPtr dom, struct driver_domain *out, struct error *e)
{
	int state, reason;
	if (libvirt_state(l, dom, &state, &reason, e))
		return -1;
	out->state = state_of(state, reason);
	out->ended_well = state == VIR_DOMAIN_SHUTOFF && reason == VIR_DOMAIN_SHUTOFF_SHUTDOWN;
	out->paused_by_user = out->state == DRIVER_PAUSED && libvirt_paused_by_user(reason);
	libvirt_tell(l, "virDomainHasManagedSaveImage");
	int saved = virDomainHasManagedSaveImage(dom, 0);
	if (saved < 0)
		return libvirt_fail(l, e);
	out->saved = saved && out->state == DRIVER_SHUT_OFF;
	out->ended_well &= !out->saved;
	out->stale_save = saved && (out->state == DRIVER_RUNNING || out->state == DRIVER_PAUSED);
	libvirt_tell(l, "virDomainIsPersistent");
	int persistent = virDomainIsPersistent(dom);
	if (persistent < 0)
		return libvirt_fail(l, e);
	out->persistent = persistent;
	return 0;
}

static const char *operation_name(int operation)
{
	static const char *const names[] = {
		[VIR_DOMAIN_JOB_OPERATION_START] = "start",
		[VIR_DOMAIN_JOB_OPERATION_SAVE] = "save",
		[VIR_DOMAIN_JOB_OPERATION_RESTORE] = "restore",
		[VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN] = "incoming migration",
		[VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT] = "migration",
		[VIR_DOMAIN_JOB_OPERATION_SNAPSHOT] = "snapshot",
		[VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT] = "going back to a snapshot",
		[VIR_DOMAIN_JOB_OPERATION_DUMP] = "dump",
		[VIR_DOMAIN_JOB_OPERATION_BACKUP] = "backup",
		[VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_DELETE] = "deletion of a snapshot",
	};
	bool known = operation > 0 && (size_t)operation < sizeof names / sizeof *names;
	return known && names[operation] ? names[operation] : "job";
}

static int look_job(struct libvirt *l, virDomainPtr dom, struct driver_domain *out, struct error *e)
{
	int type = VIR_DOMAIN_JOB_NONE, count = 0, operation = 0;
	virTypedParameterPtr params = NULL;
	libvirt_tell(l, "virDomainGetJobStats");
	if (virDomainGetJobStats(dom, &type, &params, &count, 0))
		return libvirt_fail(l, e);
	bool runs = type == VIR_DOMAIN_JOB_BOUNDED || type == VIR_DOMAIN_JOB_UNBOUNDED;
	if (runs)
		virTypedParamsGetInt(params, count, VIR_DOMAIN_JOB_OPERATION, &operation);
	virTypedParamsFree(params, count);
	if (!runs)
		return 0;
	return (out->job = mem_strdup(operation_name(operation), e)) ? 0 : -1;
}

static int look_block_jobs(struct libvirt *l, virDomainPtr dom, struct driver_domain *out, struct error *e)
{
	for (unsigned i = 0; i < out->disk_count; i++) {
		if (!out->disks[i].image_count)
			continue;
		virDomainBlockJobInfo info;
		libvirt_tell(l, "virDomainGetBlockJobInfo");
		int n = virDomainGetBlockJobInfo(dom, out->disks[i].target, &info, 0);
		if (n < 0)
			return libvirt_fail(l, e);
		out->disks[i].busy |= n > 0;
	}
	return 0;
}

static char *definition_in_use(struct libvirt *l, virDomainPtr dom, const struct driver_domain *d, struct error *e)
{
	if (d->state != DRIVER_SHUT_OFF)
		return libvirt_definition(l, dom, 0, e);
	if (!d->saved)
		return libvirt_definition(l, dom, VIR_DOMAIN_XML_INACTIVE, e);
	libvirt_tell(l, "virDomainManagedSaveGetXMLDesc");
	char *xml = virDomainManagedSaveGetXMLDesc(dom, 0);
	if (!xml)
		libvirt_fail(l, e);
	return xml;
}

static int look_snapshots(struct libvirt *l, virDomainPtr dom, struct driver_domain *out, struct error *e)
{
	libvirt_tell(l, "virDomainSnapshotNum");
	int n = virDomainSnapshotNum(dom, VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL);
	if (n < 0)
		return libvirt_fail(l, e);
	out->snapshots = n > 0;
	return 0;
}

/* The persistent definition has files of its own. */
static int look_defined(struct driver_domain *out, struct error *e)
{
	struct driver_domain later = {0};
	int failed = libvirt_xml_domain(out->xml, &later, e);

	for (unsigned i = 0; !failed && i < out->disk_count; i++)
		for (unsigned k = 0; k < later.disk_count; k++)
			if (later.disks[k].image_count && strcmp(out->disks[i].target, later.disks[k].target) == 0)
				out->disks[i].defined = STEAL(later.disks[k].images[0].path);
	driver_domain_free(&later);
	return failed;
}

static int look_at(struct libvirt *l, virDomainPtr dom, struct driver_domain *out, struct error *e)
{
	if (virDomainGetUUIDString(dom, out->uuid))
		return libvirt_fail(l, e);
	if (!(out->name = mem_strdup(virDomainGetName(dom), e)) || look_state(l, dom, out, e))
		return -1;
	AUTO_FREE char *used = definition_in_use(l, dom, out, e);
	if (!used || libvirt_xml_domain(used, out, e))
		return -1;
	unsigned again = out->persistent ? VIR_DOMAIN_XML_INACTIVE : VIR_DOMAIN_XML_MIGRATABLE;
	if (!(out->xml = libvirt_definition(l, dom, VIR_DOMAIN_XML_SECURE | again, e)))
		return -1;
	if (out->state != DRIVER_SHUT_OFF && out->persistent && look_defined(out, e))
		return -1;
	if (out->state != DRIVER_SHUT_OFF && (look_job(l, dom, out, e) || look_block_jobs(l, dom, out, e)))
		return -1;
	out->paused_by_user &= !out->job;
	return look_snapshots(l, dom, out, e);
}

static bool has_changed(struct libvirt *l, virDomainPtr dom, enum driver_state before)
{
	int state = 0, reason = 0;
	libvirt_tell(l, "virDomainGetState");
	return !virDomainGetState(dom, &state, &reason, 0) && state_of(state, reason) != before;
}

/* A look is many calls: when the domain stops or starts between two of them, the later ones fail or tell of something else. */
int libvirt_look(struct driver *d, const char *domain, struct driver_domain *out, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain_named(l, domain, e);
	if (!dom)
		return -1;
	for (unsigned tries = 1;; tries++) {
		if (!look_at(l, dom, out, e))
			return 0;
		enum driver_state seen = out->state;
		driver_domain_free(out);
		if (tries == LOOK_TRIES || !has_changed(l, dom, seen))
			return -1;
	}
}
