/* SPDX-License-Identifier: Apache-2.0
 *
 * What others wrote into a domain's <metadata> of where it comes from: OpenStack's compute service names the image, the project and
 * the user; tools that know libosinfo the operating system. Anybody may have written it, so it is told and never followed.
 */
#include "driver/libvirt_internal.h"

/* Versions of it differ behind that. */
static const char compute[] = "http://openstack.org/xmlns/libvirt/nova/";
static const char osinfo[] = "http://libosinfo.org/xmlns/libvirt/domain/";

static bool is_of(const xmlNode *n, const char *namespace)
{
	return n->ns && n->ns->href && !strncmp((const char *)n->ns->href, namespace, strlen(namespace));
}

static const xmlNode *part_of(const xmlNode *metadata, const char *name, const char *namespace)
{
	const xmlNode *n = libvirt_xml_child(metadata, name);
	while (n && !is_of(n, namespace))
		n = libvirt_xml_next(n);
	return n;
}

/* One that is no plain word (a UUID, in its two spellings, is) is not taken for an id. */
static int read_id(const xmlNode *n, char **out, struct error *e)
{
	AUTO_FREE char *text = NULL;
	if (libvirt_xml_attr(n, "uuid", &text, e))
		return -1;
	size_t len = text ? strlen(text) : 0;
	if (len && len < DRIVER_UUID_CHARS && strspn(text, "0123456789abcdefABCDEF-") == len)
		*out = STEAL(text);
	return 0;
}

static int read_os(const xmlNode *n, char **out, struct error *e)
{
	AUTO_FREE char *id = NULL;
	if (libvirt_xml_attr(n, "id", &id, e))
		return -1;
	static const char *const linux_vendors[] = {"debian.org", "ubuntu.com", "fedoraproject.org", "redhat.com",
		"centos.org", "rockylinux.org", "almalinux.org", "suse.com", "opensuse.org", "archlinux.org",
		"alpinelinux.org", "gentoo.org", "oracle.com/oel", "oracle.com/ol"};
	const char *type = id && strstr(id, "//microsoft.com/") ? "windows" : NULL;
	for (unsigned i = 0; id && !type && i < sizeof linux_vendors / sizeof *linux_vendors; i++) {
		const char *at = strstr(id, linux_vendors[i]);
		type = at && at > id && at[-1] == '/' ? "linux" : NULL;
	}
	*out = type ? mem_strdup(type, e) : NULL;
	return type && !*out ? -1 : 0;
}

int libvirt_xml_origin(const xmlNode *domain, struct driver_origin *out, struct error *e)
{
	const xmlNode *metadata = libvirt_xml_child(domain, "metadata");
	const xmlNode *instance = part_of(metadata, "instance", compute);
	const xmlNode *owner = libvirt_xml_child(instance, "owner"), *root = libvirt_xml_child(instance, "root");
	const xmlNode *os = libvirt_xml_child(part_of(metadata, "libosinfo", osinfo), "os");
	if (libvirt_xml_attr_is(root, "type", "image") && read_id(root, &out->image, e))
		return -1;
	return read_id(libvirt_xml_child(owner, "project"), &out->project, e) ||
			       read_id(libvirt_xml_child(owner, "user"), &out->user, e) || read_os(os, &out->os, e)
		       ? -1
		       : 0;
}
