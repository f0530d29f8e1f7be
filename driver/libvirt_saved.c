/* SPDX-License-Identifier: Apache-2.0
 *
 * Files that hold a guest's memory: where libvirt keeps the one of a managed save, which it tells nobody, and going on from one.
 */
#include <pwd.h>
#include <unistd.h>

#include "driver/libvirt_internal.h"

/* ---- where it is ---- */

/* libvirt's own for a user's guests. */
static char *session_folder(struct error *e)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	const struct passwd *user = home && *home ? NULL : getpwuid(getuid());
	if (config && config[0] == '/')
		return mem_printf(e, "%s/libvirt/qemu/save", config);
	if (user)
		home = user->pw_dir;
	if (home && *home)
		return mem_printf(e, "%s/.config/libvirt/qemu/save", home);
	err_fill(e, ERR_UNSUPPORTED, "neither XDG_CONFIG_HOME nor HOME says where libvirt keeps saved guests");
	return NULL;
}

static bool ends_in_path(const char *uri, const char *path)
{
	size_t len = strcspn(uri, "?#"), least = strlen(path);
	return len >= least && !strncmp(uri + len - least, path, least);
}

static char *save_folder(struct libvirt *l, struct error *e)
{
	libvirt_tell(l, "virConnectGetURI");
	AUTO_FREE char *uri = virConnectGetURI(l->conn);
	if (!uri)
		libvirt_fail(l, e);
	else if (ends_in_path(uri, "/system"))
		return mem_strdup("/var/lib/libvirt/qemu/save", e);
	else if (ends_in_path(uri, "/session"))
		return session_folder(e);
	else
		err_fill(e, ERR_UNSUPPORTED, "'%s': it is not known where it keeps saved guests", uri);
	return NULL;
}

/* ---- whether it is that ---- */

static int check_saved(const char *path, const char *uuid, struct error *e)
{
	AUTO_FREE char *xml = NULL;
	if (libvirt_saved_definition(path, &xml, e))
		return -1;
	return libvirt_refuse_other_uuid(uuid, xml, e) ? err_prefix(e, "%s", path) : 0;
}

int libvirt_saved_path(struct driver *d, const char *uuid, char **path, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	AUTO_FREE char *folder = dom ? save_folder(l, e) : NULL;
	*path = folder ? mem_printf(e, "%s/%s.save", folder, virDomainGetName(dom)) : NULL;
	if (!*path)
		return -1;
	if (!check_saved(*path, uuid, e))
		return 0;
	free(STEAL(*path));
	return -1;
}

/* ---- going on from one ---- */

static bool is_disk(const xmlNode *disk)
{
	return !libvirt_xml_attr_is(disk, "device", "cdrom") && !libvirt_xml_attr_is(disk, "device", "floppy");
}

static int copy_attr(xmlNode *to, const xmlNode *from, const char *name, struct error *e)
{
	AUTO_TEXT xmlChar *value = from ? xmlGetNoNsProp(from, (const xmlChar *)name) : NULL;
	if (!value || (to && xmlSetProp(to, (const xmlChar *)name, value)))
		return 0;
	return err_set(e, ERR_NO_MEMORY, "no memory for a definition");
}

/* Where the disk's data are, and in which format. What lies below them libvirt finds out by itself, if the definition does not say. */
static int copy_source(xmlNode *to, const xmlNode *from, struct error *e)
{
	static const char *const parts[] = {"source", "backingStore"};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		xmlNode *now = libvirt_xml_child(from, parts[i]);
		libvirt_xml_drop(libvirt_xml_child(to, parts[i]));
		xmlNode *copy = now ? xmlDocCopyNode(now, to->doc, 1) : NULL;
		if (now && (!copy || !xmlAddChild(to, copy)))
			return err_set(e, ERR_NO_MEMORY, "no memory for a definition");
	}
	return copy_attr(to, from, "type", e) ||
			       copy_attr(libvirt_xml_child(to, "driver"), libvirt_xml_child(from, "driver"), "type", e)
		       ? -1
		       : 0;
}

/* The guest finds the machine that it knows, on the files that its disks are now. */
static char *with_sources_of(const char *saved, const char *defined, struct error *e)
{
	AUTO_DOC xmlDoc *guest = libvirt_xml_parse(saved, e), *now = guest ? libvirt_xml_parse(defined, e) : NULL;
	if (!now)
		return NULL;
	const xmlNode *devices = libvirt_xml_child(xmlDocGetRootElement(guest), "devices");
	for (xmlNode *n = libvirt_xml_child(devices, "disk"); n; n = libvirt_xml_next(n)) {
		AUTO_FREE char *target = NULL;
		if (libvirt_xml_attr(libvirt_xml_child(n, "target"), "dev", &target, e))
			return NULL;
		const xmlNode *disk = target && is_disk(n) ? libvirt_xml_disk(now, target, e) : NULL;
		if (disk && copy_source(n, disk, e))
			return NULL;
	}
	return libvirt_xml_print(guest, e);
}

int libvirt_restore(struct driver *d, const char *uuid, const char *path, bool paused, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	AUTO_FREE char *defined =
		dom ? libvirt_definition(l, dom, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE, e) : NULL;
	if (!defined)
		return -1;
	libvirt_tell(l, "virDomainSaveImageGetXMLDesc");
	AUTO_FREE char *saved = virDomainSaveImageGetXMLDesc(l->conn, path, VIR_DOMAIN_SAVE_IMAGE_XML_SECURE);
	if (!saved)
		return libvirt_fail(l, e);
	AUTO_FREE char *xml = libvirt_refuse_other_uuid(uuid, saved, e) ? NULL : with_sources_of(saved, defined, e);
	if (!xml)
		return -1;
	libvirt_tell(l, "virDomainRestoreFlags");
	return virDomainRestoreFlags(l->conn, path, xml, paused ? VIR_DOMAIN_SAVE_PAUSED : VIR_DOMAIN_SAVE_RUNNING)
		       ? libvirt_fail(l, e)
		       : 0;
}
