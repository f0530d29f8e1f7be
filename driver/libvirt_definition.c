/* SPDX-License-Identifier: Apache-2.0
 *
 * What a domain's definition says of its disks, its host devices and its guest agent. What is not understood is no local storage.
 */
#include "driver/libvirt_internal.h"

enum { MAX_CHAIN = 512 };

static xmlNode *devices_of(xmlDoc *definition)
{
	return libvirt_xml_child(xmlDocGetRootElement(definition), "devices");
}

xmlNode *libvirt_xml_disk(xmlDoc *definition, const char *target, struct error *e)
{
	for (xmlNode *n = libvirt_xml_child(devices_of(definition), "disk"); n; n = libvirt_xml_next(n))
		if (libvirt_xml_attr_is(libvirt_xml_child(n, "target"), "dev", target))
			return n;
	err_fill(e, ERR_NOT_FOUND, "the domain has no disk '%s'", target);
	return NULL;
}

int libvirt_refuse_other_uuid(const char *uuid, const char *xml, struct error *e)
{
	AUTO_FREE char *theirs = NULL;
	AUTO_DOC xmlDoc *doc = libvirt_xml_parse(xml, e);
	if (!doc || libvirt_xml_text(xmlDocGetRootElement(doc), "uuid", &theirs, e))
		return -1;
	return theirs && !strcmp(theirs, uuid) ? 0
					       : err_set(e, ERR_USAGE, "the definition is of domain %s, not of %s",
							 theirs ? theirs : "?", uuid);
}

bool libvirt_xml_has_alias(xmlDoc *definition, const char *alias)
{
	const xmlNode *devices = devices_of(definition);
	for (const xmlNode *n = devices ? devices->children : NULL; n; n = n->next)
		if (libvirt_xml_attr_is(libvirt_xml_child(n, "alias"), "name", alias))
			return true;
	return false;
}

static enum driver_format format_of(const xmlNode *n)
{
	if (libvirt_xml_attr_is(n, "type", "qcow2"))
		return DRIVER_QCOW2;
	return libvirt_xml_attr_is(n, "type", "raw") ? DRIVER_RAW : DRIVER_FORMAT_OTHER;
}

/* `n` is a <disk> or a <backingStore>: both have a type and a <source>. A slice is not the file that it is in. */
static int read_image(const xmlNode *n, const xmlNode *format, struct driver_image *out, struct error *e)
{
	const xmlNode *source = libvirt_xml_child(n, "source");
	out->format = format_of(format);
	if (libvirt_xml_child(source, "slices"))
		return (out->kind = mem_strdup("slice", e)) ? 0 : -1;
	if (libvirt_xml_attr(n, "type", &out->kind, e))
		return -1;
	if (!out->kind && !(out->kind = mem_strdup("file", e)))
		return -1;
	if (!strcmp(out->kind, "file"))
		return libvirt_xml_attr(source, "file", &out->path, e);
	if (!strcmp(out->kind, "block"))
		return libvirt_xml_attr(source, "dev", &out->path, e);
	return 0;
}

static unsigned chain_length(const xmlNode *disk)
{
	unsigned n = 1;
	for (const xmlNode *b = libvirt_xml_child(disk, "backingStore"); b && libvirt_xml_child(b, "source");
		b = libvirt_xml_child(b, "backingStore"))
		n++;
	return n;
}

static bool has_encryption(const xmlNode *n)
{
	return libvirt_xml_child(n, "encryption") || libvirt_xml_child(libvirt_xml_child(n, "source"), "encryption");
}

/* An empty <backingStore/> says that there is nothing below; none at all that nobody looked. Nothing is below a raw file. */
static int read_chain(const xmlNode *disk, struct driver_disk *out, struct error *e)
{
	unsigned length = chain_length(disk);
	if (length > MAX_CHAIN)
		return err_set(e, ERR_LIMIT, "a chain of more than %u images", MAX_CHAIN);
	if (!(out->images = mem_calloc(length, sizeof *out->images, "images of a disk", e)))
		return -1;
	const xmlNode *n = disk, *format = libvirt_xml_child(disk, "driver");
	for (;;) {
		out->encrypted |= has_encryption(n);
		if (read_image(n, format, &out->images[out->image_count++], e))
			return -1;
		n = libvirt_xml_child(n, "backingStore");
		if (out->image_count == length)
			break;
		format = libvirt_xml_child(n, "format");
	}
	out->whole_chain = (n && !libvirt_xml_child(n, NULL)) || out->images[length - 1].format == DRIVER_RAW;
	return 0;
}

static int read_disk(const xmlNode *n, struct driver_disk *out, struct error *e)
{
	if (libvirt_xml_attr(libvirt_xml_child(n, "target"), "dev", &out->target, e))
		return -1;
	if (!out->target)
		return err_set(e, ERR_IO, "libvirt's XML has a disk without a target");
	out->readonly = libvirt_xml_child(n, "readonly");
	out->shareable = libvirt_xml_child(n, "shareable");
	out->transient = libvirt_xml_child(n, "transient");
	const xmlNode *mirror = libvirt_xml_child(n, "mirror");
	out->busy = mirror;
	if (libvirt_xml_attr_is(mirror, "job", "copy") && libvirt_xml_path(mirror, &out->copy_to, e))
		return -1;
	out->no_disk = libvirt_xml_attr_is(n, "device", "cdrom") || libvirt_xml_attr_is(n, "device", "floppy") ||
		       !libvirt_xml_child(n, "source");
	if (!libvirt_xml_child(n, "source"))
		return 0;
	if (read_chain(n, out, e))
		return err_prefix(e, "disk '%s'", out->target);
	return 0;
}

static unsigned count_children(const xmlNode *n, const char *name)
{
	unsigned count = 0;
	for (const xmlNode *c = libvirt_xml_child(n, name); c; c = libvirt_xml_next(c))
		count++;
	return count;
}

static int read_disks(const xmlNode *devices, struct driver_domain *out, struct error *e)
{
	unsigned count = count_children(devices, "disk");
	if (!(out->disks = mem_calloc((size_t)count + 1, sizeof *out->disks, "disks of a domain", e)))
		return -1;
	for (const xmlNode *n = libvirt_xml_child(devices, "disk"); n; n = libvirt_xml_next(n))
		if (read_disk(n, &out->disks[out->disk_count++], e))
			return -1;
	return 0;
}

static char *print_element(xmlNode *n, struct error *e)
{
	xmlBuffer *buffer = xmlBufferCreate();
	char *text = NULL;
	if (buffer && xmlNodeDump(buffer, n->doc, n, 0, 0) > 0)
		text = mem_strdup((const char *)xmlBufferContent(buffer), e);
	else
		err_fill(e, ERR_NO_MEMORY, "no memory for the XML of a device");
	xmlBufferFree(buffer);
	return text;
}

/* Devices of the host keep state that no save has; a network interface may be one, too. */
static int read_host_devices(const xmlNode *devices, struct driver_domain *out, struct error *e)
{
	size_t most = (size_t)count_children(devices, "hostdev") + count_children(devices, "interface");
	if (!(out->host_devices = mem_calloc(most + 1, sizeof *out->host_devices, "host devices of a domain", e)))
		return -1;
	for (xmlNode *n = libvirt_xml_child(devices, NULL); n; n = n->next) {
		bool device = libvirt_xml_is(n, "hostdev") && libvirt_xml_attr_is(n, "mode", "subsystem");
		if (!device && !(libvirt_xml_is(n, "interface") && libvirt_xml_attr_is(n, "type", "hostdev")))
			continue;
		if (!(out->host_devices[out->host_device_count] = print_element(n, e)))
			return -1;
		out->host_device_count++;
	}
	return 0;
}

static bool has_agent(const xmlNode *devices)
{
	for (const xmlNode *n = libvirt_xml_child(devices, "channel"); n; n = libvirt_xml_next(n)) {
		const xmlNode *target = libvirt_xml_child(n, "target");
		if (libvirt_xml_attr_is(target, "name", "org.qemu.guest_agent.0") &&
			libvirt_xml_attr_is(target, "state", "connected"))
			return true;
	}
	return false;
}

/* A file, said in the element's text or, by newer ones, in its <source>. */
static int read_nvram(const xmlNode *domain, struct driver_domain *out, struct error *e)
{
	const xmlNode *os = libvirt_xml_child(domain, "os"), *n = libvirt_xml_child(os, "nvram");
	if (libvirt_xml_path(n, &out->nvram, e) || (!out->nvram && libvirt_xml_text(os, "nvram", &out->nvram, e)))
		return -1;
	if (out->nvram && out->nvram[0] != '/')
		free(STEAL(out->nvram));
	return 0;
}

/* libvirt says it in KiB. */
static int read_memory(const xmlNode *domain, struct driver_domain *out, struct error *e)
{
	enum { MAX_KIB_DIGITS = 15 };
	AUTO_FREE char *text = NULL;
	if (libvirt_xml_text(domain, "memory", &text, e))
		return -1;
	if (text && strlen(text) <= MAX_KIB_DIGITS &&
		libvirt_xml_attr_is(libvirt_xml_child(domain, "memory"), "unit", "KiB"))
		out->memory_bytes = strtoull(text, NULL, 10) << 10;
	return 0;
}

int libvirt_xml_domain(const char *text, struct driver_domain *out, struct error *e)
{
	AUTO_DOC xmlDoc *doc = libvirt_xml_parse(text, e);
	if (!doc)
		return -1;
	const xmlNode *devices = devices_of(doc), *domain = xmlDocGetRootElement(doc);
	if (read_disks(devices, out, e) || read_host_devices(devices, out, e) || read_nvram(domain, out, e) ||
		read_memory(domain, out, e) || libvirt_xml_origin(domain, &out->origin, e))
		return -1;
	out->agent = has_agent(devices);
	return 0;
}
