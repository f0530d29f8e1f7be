/* SPDX-License-Identifier: Apache-2.0
 *
 * The persistent definition: as a whole, or another file for a disk in it, and everything else stays as it is.
 */
#include <libxml/parser.h>

#include "driver/libvirt_internal.h"

/* The new elements come from a tree of their own, so that a path is no more than a path. */
int libvirt_xml_put_file(xmlNode *disk, const struct driver_new_file *file, struct error *e)
{
	struct libvirt_xml x = {0};
	xmlNode *made = libvirt_xml_add(&x, NULL, "disk", NULL);

	libvirt_xml_new_file(&x, made, file);
	AUTO_FREE char *text = libvirt_xml_finish(&x, e);
	AUTO_DOC xmlDoc *doc = text ? libvirt_xml_parse(text, e) : NULL;
	const xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;

	if (!root)
		return -1;
	AUTO_TEXT xmlChar *type = xmlGetNoNsProp(root, (const xmlChar *)"type");
	xmlNode *driver = libvirt_xml_child(disk, "driver");

	libvirt_xml_drop(libvirt_xml_child(disk, "source"));
	libvirt_xml_drop(libvirt_xml_child(disk, "backingStore"));
	if (!driver)
		driver = xmlNewChild(disk, NULL, (const xmlChar *)"driver", NULL);
	xmlNode *source = xmlDocCopyNode(libvirt_xml_child(root, "source"), disk->doc, 1);

	if (!type || !driver || !source || !xmlAddChild(disk, source) ||
		!xmlSetProp(disk, (const xmlChar *)"type", type) ||
		!xmlSetProp(driver, (const xmlChar *)"type",
			(const xmlChar *)(file->format == DRIVER_RAW ? "raw" : "qcow2")))
		return err_set(e, ERR_NO_MEMORY, "no memory for a definition");
	return 0;
}

static int define(struct libvirt *l, const char *xml, struct error *e)
{
	libvirt_tell(l, "virDomainDefineXMLFlags");
	virDomainPtr defined = virDomainDefineXMLFlags(l->conn, xml, 0);

	if (!defined)
		return libvirt_fail(l, e);
	virDomainFree(defined);
	return 0;
}

int libvirt_define(struct driver *d, const char *uuid, const char *xml, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);

	return !dom || libvirt_refuse_other_uuid(uuid, xml, e) ? -1 : define(l, xml, e);
}

/* Defining one that is there would change it. libvirt itself refuses a name that another one has. */
int libvirt_create(struct driver *d, const char *uuid, const char *xml, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr there = libvirt_domain(l, uuid, e);

	if (there)
		return err_set(e, ERR_USAGE, "a domain of UUID %s is there already", uuid);
	return e->code != ERR_NOT_FOUND || libvirt_refuse_other_uuid(uuid, xml, e) ? -1 : define(l, xml, e);
}

int libvirt_set_source(struct driver *d, const char *uuid, const struct driver_new_file *file, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	AUTO_FREE char *xml =
		dom ? libvirt_definition(l, dom, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE, e) : NULL;
	AUTO_DOC xmlDoc *doc = xml ? libvirt_xml_parse(xml, e) : NULL;
	xmlNode *disk = doc ? libvirt_xml_disk(doc, file->target, e) : NULL;
	AUTO_FREE char *text = disk && !libvirt_xml_put_file(disk, file, e) ? libvirt_xml_print(doc, e) : NULL;

	return text ? define(l, text, e) : -1;
}
