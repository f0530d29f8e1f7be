/* SPDX-License-Identifier: Apache-2.0
 *
 * What libvirt calls snapshots: overlays, of which it keeps no record here, and its records, of which we make some for internal
 * snapshots that are there without them.
 */
#include <inttypes.h>

#include "driver/libvirt_internal.h"

static const struct driver_new_file *file_for(const struct driver_new_file *files, unsigned count, const char *target)
{
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(files[i].target, target))
			return &files[i];
	return NULL;
}

/* libvirt would make an overlay for a disk that is not spoken of, so all are. */
static char *overlay_xml(const struct driver_domain *dom, const struct driver_new_file *files, unsigned count,
	struct error *e)
{
	struct libvirt_xml x = {0};
	xmlNode *root = libvirt_xml_add(&x, NULL, "domainsnapshot", NULL);
	xmlNode *disks = libvirt_xml_add(&x, root, "disks", NULL);
	for (unsigned i = 0; i < dom->disk_count; i++) {
		const struct driver_new_file *file = file_for(files, count, dom->disks[i].target);
		xmlNode *disk = libvirt_xml_add(&x, disks, "disk", NULL);
		libvirt_xml_set(&x, disk, "name", dom->disks[i].target);
		libvirt_xml_set(&x, disk, "snapshot", file ? "external" : "no");
		if (file)
			libvirt_xml_new_file(&x, disk, file);
	}
	return libvirt_xml_finish(&x, e);
}

int libvirt_overlay(struct driver *d, const char *uuid, const struct driver_new_file *files, unsigned count,
	struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	__attribute__((cleanup(driver_domain_free))) struct driver_domain definition = {0};
	AUTO_FREE char *xml = dom ? libvirt_definition(l, dom, 0, e) : NULL;
	if (!xml || libvirt_xml_domain(xml, &definition, e))
		return -1;
	for (unsigned i = 0; i < count; i++)
		if (!driver_find_disk(&definition, files[i].target))
			return err_set(e, ERR_NOT_FOUND, "the domain has no disk '%s'", files[i].target);
	AUTO_FREE char *text = overlay_xml(&definition, files, count, e);
	if (!text)
		return -1;
	const unsigned how = VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC | VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA |
			     VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY;
	libvirt_tell(l, "virDomainSnapshotCreateXML");
	virDomainSnapshotPtr snapshot = virDomainSnapshotCreateXML(dom, text, how);
	if (!snapshot)
		return libvirt_fail(l, e);
	virDomainSnapshotFree(snapshot);
	return 0;
}

/* ---- records ---- */

static bool is_external(const xmlNode *snapshot)
{
	const xmlNode *disks = libvirt_xml_child(snapshot, "disks");
	for (const xmlNode *n = libvirt_xml_child(disks, "disk"); n; n = libvirt_xml_next(n))
		if (libvirt_xml_attr_is(n, "snapshot", "external"))
			return true;
	return libvirt_xml_attr_is(libvirt_xml_child(snapshot, "memory"), "snapshot", "external");
}

static int read_record(const char *xml, struct driver_record *out, struct error *e)
{
	AUTO_DOC xmlDoc *doc = libvirt_xml_parse(xml, e);
	if (!doc)
		return -1;
	const xmlNode *root = xmlDocGetRootElement(doc), *memory = libvirt_xml_child(root, "memory");
	AUTO_FREE char *created = NULL;
	if (libvirt_xml_text(root, "name", &out->name, e) || libvirt_xml_text(root, "creationTime", &created, e) ||
		libvirt_xml_text(libvirt_xml_child(root, "parent"), "name", &out->parent, e))
		return -1;
	if (!out->name)
		return err_set(e, ERR_IO, "libvirt's XML has a snapshot without a name");
	out->created = created ? strtoll(created, NULL, 10) : 0;
	out->external = is_external(root);
	out->memory = memory && !libvirt_xml_attr_is(memory, "snapshot", "no");
	return 0;
}

static int read_records(struct libvirt *l, virDomainSnapshotPtr *snapshots, unsigned count, struct driver_record *out,
	struct error *e)
{
	for (unsigned i = 0; i < count; i++) {
		libvirt_tell(l, "virDomainSnapshotGetXMLDesc");
		AUTO_FREE char *xml = virDomainSnapshotGetXMLDesc(snapshots[i], 0);
		if (!xml)
			return libvirt_fail(l, e);
		if (read_record(xml, &out[i], e))
			return -1;
	}
	return 0;
}

int libvirt_records(struct driver *d, const char *uuid, struct driver_record **out, unsigned *count, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	if (!dom)
		return -1;
	virDomainSnapshotPtr *snapshots = NULL;
	libvirt_tell(l, "virDomainListAllSnapshots");
	int n = virDomainListAllSnapshots(dom, &snapshots, 0);
	if (n < 0)
		return libvirt_fail(l, e);
	struct driver_record *records = mem_calloc((size_t)n + 1, sizeof *records, "records of snapshots", e);
	int rc = records ? read_records(l, snapshots, (unsigned)n, records, e) : -1;
	for (int i = 0; i < n; i++)
		virDomainSnapshotFree(snapshots[i]);
	free(snapshots);
	if (rc) {
		if (records)
			driver_records_free(records, (unsigned)n);
		return -1;
	}
	*out = records;
	*count = (unsigned)n;
	return 0;
}

static bool is_among(const char *const *targets, unsigned count, const char *target)
{
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(targets[i], target))
			return true;
	return false;
}

/* Whether libvirt would have taken these disks itself. */
static bool is_of_all_disks(const struct driver_domain *dom, const char *const *targets, unsigned count)
{
	for (unsigned i = 0; i < dom->disk_count; i++) {
		const struct driver_disk *disk = &dom->disks[i];
		if (disk->image_count && !disk->readonly && !is_among(targets, count, disk->target))
			return false;
	}
	return true;
}

/* With all disks it is a record as of a guest that was shut off: what a snapshot without memory is when libvirt goes back to it.
 * libvirt takes no such record of some disks only; as a disk snapshot it lists it and refuses to go back. Beside a raw disk it
 * deletes no more than the record, silently. */
static char *record_xml(const char *definition, const char *name, int64_t created, const char *const *targets,
	unsigned count, struct error *e)
{
	__attribute__((cleanup(driver_domain_free))) struct driver_domain dom = {0};
	AUTO_DOC xmlDoc *domain = libvirt_xml_parse(definition, e);
	if (!domain || libvirt_xml_domain(definition, &dom, e))
		return NULL;
	bool all = is_of_all_disks(&dom, targets, count);
	char when[24];
	snprintf(when, sizeof when, "%" PRId64, created);
	struct libvirt_xml x = {0};
	xmlNode *root = libvirt_xml_add(&x, NULL, "domainsnapshot", NULL);
	libvirt_xml_add(&x, root, "name", name);
	libvirt_xml_add(&x, root, "state", all ? "shutoff" : "disk-snapshot");
	libvirt_xml_add(&x, root, "creationTime", when);
	libvirt_xml_set(&x, libvirt_xml_add(&x, root, "memory", NULL), "snapshot", "no");
	xmlNode *disks = libvirt_xml_add(&x, root, "disks", NULL);
	for (unsigned i = 0; i < dom.disk_count; i++) {
		bool ours = is_among(targets, count, dom.disks[i].target);
		if (all && !ours)
			continue;
		xmlNode *disk = libvirt_xml_add(&x, disks, "disk", NULL);
		libvirt_xml_set(&x, disk, "name", dom.disks[i].target);
		libvirt_xml_set(&x, disk, "snapshot", ours ? "internal" : "no");
	}
	libvirt_xml_graft(&x, root, xmlDocGetRootElement(domain));
	return libvirt_xml_finish(&x, e);
}

int libvirt_define_record(struct driver *d, const char *uuid, const char *name, int64_t created,
	const char *const *targets, unsigned count, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	const unsigned flags = VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE;
	AUTO_FREE char *definition = dom ? libvirt_definition(l, dom, flags, e) : NULL;
	AUTO_FREE char *xml = definition ? record_xml(definition, name, created, targets, count, e) : NULL;
	if (!xml)
		return -1;
	libvirt_tell(l, "virDomainSnapshotCreateXML");
	virDomainSnapshotPtr snapshot = virDomainSnapshotCreateXML(dom, xml, VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE);
	if (!snapshot)
		return libvirt_fail(l, e);
	virDomainSnapshotFree(snapshot);
	return 0;
}

int libvirt_forget_record(struct driver *d, const char *uuid, const char *name, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	if (!dom)
		return -1;
	libvirt_tell(l, "virDomainSnapshotLookupByName");
	virDomainSnapshotPtr snapshot = virDomainSnapshotLookupByName(dom, name, 0);
	if (!snapshot)
		return libvirt_fail(l, e);
	libvirt_tell(l, "virDomainSnapshotDelete");
	int rc = virDomainSnapshotDelete(snapshot, VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY) ? libvirt_fail(l, e) : 0;
	virDomainSnapshotFree(snapshot);
	return rc;
}
