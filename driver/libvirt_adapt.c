/* SPDX-License-Identifier: Apache-2.0
 *
 * A definition that comes from elsewhere, made one of this host: name and UUID, its disks' files, and for another machine the
 * addresses that others know it by. What it may be at all is looked at before (libvirt_strange.c).
 */
#include <stdarg.h>

#include "driver/libvirt_internal.h"

enum { MAC_CHARS = 18 };

/* ---- pieces ---- */

static int set_text(xmlNode *parent, const char *name, const char *text, struct error *e)
{
	xmlNode *n = libvirt_xml_child(parent, name);
	AUTO_TEXT xmlChar *escaped = xmlEncodeSpecialChars(parent->doc, (const xmlChar *)text);

	if (!n)
		n = xmlNewChild(parent, NULL, (const xmlChar *)name, NULL);
	if (!n || !escaped)
		return err_set(e, ERR_NO_MEMORY, "no memory for a definition");
	xmlNodeSetContent(n, escaped);
	return 0;
}

/* The same new address for the same old one in every definition of a machine, and another one in another machine. */
static void make_mac(const char *uuid, const char *old, char out[MAC_CHARS])
{
	uint64_t h = 0xcbf29ce484222325; /* FNV-1a */

	for (const char *part = uuid; part; part = part == uuid ? old : NULL)
		for (const char *c = part; *c; c++)
			h = (h ^ (uint8_t)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c)) * 0x100000001b3;
	h ^= h >> 32;
	snprintf(out, MAC_CHARS, "52:54:00:%02x:%02x:%02x", (unsigned)(h >> 16 & 0xff), (unsigned)(h >> 8 & 0xff),
		(unsigned)(h & 0xff));
}

static int set_mac(xmlNode *interface, const char *uuid, struct error *e)
{
	xmlNode *mac = libvirt_xml_child(interface, "mac");
	AUTO_FREE char *old = NULL;
	char fresh[MAC_CHARS];

	if (!mac)
		return 0;
	if (libvirt_xml_attr(mac, "address", &old, e))
		return -1;
	make_mac(uuid, old ? old : "", fresh);
	return xmlSetProp(mac, (const xmlChar *)"address", (const xmlChar *)fresh)
		       ? 0
		       : err_set(e, ERR_NO_MEMORY, "no memory for a definition");
}

/* ---- who it is ---- */

/* SMBIOS may say the UUID, too, and libvirt wants both to be the same. */
static int set_smbios(xmlNode *root, const char *uuid, struct error *e)
{
	for (xmlNode *info = libvirt_xml_child(root, "sysinfo"); info; info = libvirt_xml_next(info)) {
		xmlNode *n = libvirt_xml_child(libvirt_xml_child(info, "system"), "entry");

		for (; n; n = libvirt_xml_next(n)) {
			if (!libvirt_xml_attr_is(n, "name", "uuid"))
				continue;
			xmlNodeSetContent(n, (const xmlChar *)uuid);
			if (!n->children)
				return err_set(e, ERR_NO_MEMORY, "no memory for a definition");
		}
	}
	return 0;
}

static int set_identity(xmlNode *root, const struct driver_import *how, struct error *e)
{
	xmlNode *genid = libvirt_xml_child(root, "genid");
	const xmlNode *devices = libvirt_xml_child(root, "devices");

	if (set_text(root, "name", how->name, e) || set_text(root, "uuid", how->uuid, e) ||
		set_smbios(root, how->uuid, e))
		return -1;
	if (!how->renamed)
		return 0;
	if (genid) /* empty: libvirt makes one */
		xmlNodeSetContent(genid, NULL);
	for (xmlNode *n = libvirt_xml_child(devices, "interface"); n; n = libvirt_xml_next(n))
		if (set_mac(n, how->uuid, e))
			return -1;
	return 0;
}

/* ---- its files ---- */

static const struct driver_new_file *file_of(const struct driver_import *how, const xmlNode *disk)
{
	for (unsigned i = 0; i < how->file_count; i++)
		if (libvirt_xml_attr_is(libvirt_xml_child(disk, "target"), "dev", how->files[i].target))
			return &how->files[i];
	return NULL;
}

bool libvirt_import_brings(const struct driver_import *how, const xmlNode *disk)
{
	return file_of(how, disk);
}

static int set_disks(xmlNode *root, const struct driver_import *how, struct error *e)
{
	const xmlNode *devices = libvirt_xml_child(root, "devices");

	for (xmlNode *n = libvirt_xml_child(devices, "disk"); n; n = libvirt_xml_next(n)) {
		const struct driver_new_file *file = file_of(how, n);

		if (file && libvirt_xml_put_file(n, file, e))
			return -1;
	}
	return 0;
}

/* The template stays: of that libvirt makes one where none comes with it. */
static int set_nvram(xmlNode *root, const struct driver_import *how, struct error *e)
{
	xmlNode *os = libvirt_xml_child(root, "os"), *nvram = libvirt_xml_child(os, "nvram");

	if (nvram) /* what it is of is said by <source> in it */
		xmlUnsetProp(nvram, (const xmlChar *)"type");
	if (how->nvram)
		return os ? set_text(os, "nvram", how->nvram, e)
			  : err_set(e, ERR_UNSUPPORTED, "it has no <os>, and firmware variables come with it");
	if (nvram)
		xmlNodeSetContent(nvram, NULL);
	return 0;
}

void libvirt_import_tell(const struct driver_import *how, const char *fmt, ...)
{
	char text[500];
	va_list ap;

	if (!how->note)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	how->note(how->note_ctx, text);
}

int libvirt_adapt_tree(xmlDoc *doc, const struct driver_import *how, struct error *e)
{
	xmlNode *root = xmlDocGetRootElement(doc);

	if (!libvirt_xml_is(root, "domain"))
		return err_set(e, ERR_UNSUPPORTED, "it is no definition of a domain");
	return (!how->trusted && libvirt_refuse_strange(root, how, e)) || set_identity(root, how, e) ||
			       set_disks(root, how, e) || set_nvram(root, how, e)
		       ? -1
		       : 0;
}

int libvirt_adapt(struct driver *d, const char *xml, const struct driver_import *how, char **out, struct error *e)
{
	AUTO_DOC xmlDoc *doc = libvirt_xml_parse(xml, e);

	(void)d;
	*out = doc && !libvirt_adapt_tree(doc, how, e) ? libvirt_xml_print(doc, e) : NULL;
	return *out ? 0 : -1;
}
