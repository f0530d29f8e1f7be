/* SPDX-License-Identifier: Apache-2.0
 *
 * A definition that somebody else wrote is as good as a command to a program that may be root's: it names files that the guest can
 * read, programs that are run, labels that protect. Only what is known here to reach nothing of the host is let in: elements and
 * kinds of devices by name, and no value may be a path. What a guest can do without is left out and told; the rest is refused.
 */
#include "driver/libvirt_internal.h"

/* ---- lists ---- */

static bool is_among(const char *const *names, const char *name)
{
	for (; *names; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

static const char *const elements[] = {"name", "uuid", "genid", "title", "description", "metadata", "memory",
	"currentMemory", "maxMemory", "vcpu", "vcpus", "iothreads", "iothreadids", "defaultiothread", "os", "features",
	"cpu", "clock", "on_poweroff", "on_reboot", "on_crash", "on_lockfailure", "pm", "sysinfo", "devices", NULL};
/* Left out: where the host puts a guest, how it is labelled, tuned and protected is the host's own matter. */
static const char *const host_matters[] = {
	"resource", "seclabel", "cputune", "memtune", "blkiotune", "numatune", "memoryBacking", "perf", NULL};
static const char *const os_elements[] = {
	"type", "boot", "bootmenu", "smbios", "bios", "loader", "nvram", "firmware", NULL};

/* A kind of device, and the types of it that reach nothing; no types: its attribute is not looked at. */
struct kind {
	const char *name;
	const char *attribute;
	const char *types[8];
};
static const struct kind kinds[] = {
	{"disk", "device", {"disk", "cdrom", "floppy"}},
	{"controller", NULL, {NULL}},
	{"interface", "type", {"network", "bridge", "user"}},
	{"serial", "type", {"pty", "null", "spicevmc", "unix"}},
	{"console", "type", {"pty", "null", "spicevmc", "unix"}},
	{"parallel", "type", {"pty", "null"}},
	{"channel", "type", {"pty", "null", "spicevmc", "unix", "spiceport"}},
	{"input", "type", {"mouse", "tablet", "keyboard"}},
	{"graphics", "type", {"vnc", "spice"}},
	{"audio", "type", {"none", "spice"}},
	{"redirdev", "type", {"spicevmc"}},
	{"tpm", NULL, {NULL}},
	{"emulator", NULL, {NULL}},
	{"video", NULL, {NULL}},
	{"sound", NULL, {NULL}},
	{"watchdog", NULL, {NULL}},
	{"memballoon", NULL, {NULL}},
	{"rng", NULL, {NULL}},
	{"panic", NULL, {NULL}},
	{"hub", NULL, {NULL}},
	{"vsock", NULL, {NULL}},
	{"iommu", NULL, {NULL}},
};

/* ---- no value is a path ---- */

/* What is for people, and what names a place of the world. */
static const char *const free_text[] = {"title", "description", "metadata", NULL};
static const char *const free_attributes[] = {"timezone", NULL};
/* Attributes that name something of the host even without a slash. */
static const char *const host_attributes[] = {
	"script", "path", "file", "socket", "rendernode", "dir", "vhost", "tap", "logFile", "rawio", "sgio", NULL};

static int refuse(const xmlNode *n, const char *what, const char *value, struct error *e)
{
	return err_set(e, ERR_DENIED, "<%s> has the %s '%.200s', which is the host's: --trust-definition lets it in",
		(const char *)n->name, what, value);
}

static int refuse_attributes(const xmlNode *n, struct error *e)
{
	for (const xmlAttr *a = n->properties; a; a = a->next) {
		const char *name = (const char *)a->name;
		AUTO_TEXT xmlChar *value = xmlNodeGetContent((const xmlNode *)a);

		if (!value)
			return err_set(e, ERR_NO_MEMORY, "no memory for a definition");
		if (a->ns)
			return refuse(n, "attribute", name, e);
		if (is_among(free_attributes, name))
			continue;
		if (is_among(host_attributes, name) || strchr((const char *)value, '/'))
			return refuse(n, name, (const char *)value, e);
	}
	return 0;
}

/* The whole tree below: iterative, since whoever wrote it may have nested it deeply. */
static const xmlNode *after(const xmlNode *n, const xmlNode *top, bool inside)
{
	if (inside && n->children)
		return n->children;
	while (n != top && !n->next)
		n = n->parent;
	return n == top ? NULL : n->next;
}

static int refuse_paths(const xmlNode *top, struct error *e)
{
	bool inside = true;

	for (const xmlNode *n = top; n; n = after(n, top, inside)) {
		inside = true;
		if (n->type == XML_COMMENT_NODE)
			continue;
		if (n->type == XML_TEXT_NODE || n->type == XML_CDATA_SECTION_NODE) {
			if (strchr((const char *)n->content, '/'))
				return refuse(n->parent, "value", (const char *)n->content, e);
			continue;
		}
		if (n->type != XML_ELEMENT_NODE)
			return err_set(e, ERR_DENIED, "it has something that is no element");
		inside = !(n->parent == top && !n->ns && is_among(free_text, (const char *)n->name));
		if (!inside)
			continue;
		if (n->ns)
			return err_set(e, ERR_DENIED,
				"<%s> is of another language (%.200s), which tells the hypervisor anything: "
				"--trust-definition "
				"lets it in",
				(const char *)n->name, n->ns->href ? (const char *)n->ns->href : "");
		if (refuse_attributes(n, e))
			return -1;
	}
	return 0;
}

/* ---- devices ---- */

static const struct kind *kind_of(const xmlNode *device)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (libvirt_xml_is(device, kinds[i].name))
			return &kinds[i];
	return NULL;
}

static int refuse_kind(const xmlNode *device, struct error *e)
{
	const struct kind *k = kind_of(device);

	if (!k)
		return err_set(e, ERR_DENIED, "<%s> may reach the host: --trust-definition lets it in",
			(const char *)device->name);
	if (!k->attribute)
		return 0;
	AUTO_TEXT xmlChar *type = xmlGetNoNsProp(device, (const xmlChar *)k->attribute);

	/* A disk's is "disk" where none is said. */
	if ((!type && strcmp(k->attribute, "device") == 0) || (type && is_among(k->types, (const char *)type)))
		return 0;
	return refuse(device, k->attribute, type ? (const char *)type : "", e);
}

/* Drives stay, and what is in them is the host's. A file of ours takes the place of a disk's. */
static int look_at_disk(xmlNode *n, const struct driver_import *how, struct error *e)
{
	static const char *const of_disk[] = {"driver", "source", "target", "backingStore", "alias", "address", "boot",
		"serial", "wwn", "vendor", "product", "iotune", "blockio", "geometry", "readonly", "shareable", NULL};
	const bool drive = libvirt_xml_attr_is(n, "device", "cdrom") || libvirt_xml_attr_is(n, "device", "floppy");
	AUTO_FREE char *target = NULL;

	if (libvirt_xml_attr(libvirt_xml_child(n, "target"), "dev", &target, e))
		return -1;
	for (const xmlNode *c = libvirt_xml_child(n, NULL); c; c = c->next)
		if (libvirt_xml_is(c, NULL) && !is_among(of_disk, (const char *)c->name))
			return err_set(e, ERR_DENIED, "disk %s has <%s>: --trust-definition lets it in",
				target ? target : "?", (const char *)c->name);
	if (!drive && !libvirt_import_brings(how, n))
		return err_set(e, ERR_DENIED,
			"disk %s does not come with the bundle, and is a file or device of the host: "
			"--trust-definition lets it "
			"in",
			target ? target : "?");
	if (drive && libvirt_xml_child(n, "source")) {
		libvirt_import_tell(how, "what is in the drive %s is left out", target ? target : "?");
		if (!xmlSetProp(n, (const xmlChar *)"type", (const xmlChar *)"file"))
			return err_set(e, ERR_NO_MEMORY, "no memory for a definition");
	}
	libvirt_xml_drop(libvirt_xml_child(n, "source"));
	libvirt_xml_drop(libvirt_xml_child(n, "backingStore"));
	return 0;
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* Files that packages bring, for everybody to read. */
static bool is_firmware(const char *path)
{
	static const char *const folders[] = {"/usr/share/OVMF/", "/usr/share/AAVMF/", "/usr/share/qemu/",
		"/usr/share/edk2/", "/usr/share/qemu-efi-aarch64/", "/usr/share/seabios/", NULL};

	for (const char *const *f = folders; *f; f++)
		if (begins(path, *f))
			return !strstr(path, "..");
	return false;
}

/* A program that is run. */
static int drop_emulator(xmlNode *n, const struct driver_import *how, struct error *e)
{
	AUTO_TEXT xmlChar *path = xmlNodeGetContent(n);

	if (!path)
		return err_set(e, ERR_NO_MEMORY, "no memory for a definition");
	libvirt_import_tell(how, "the emulator is the hypervisor's own choice, not %.200s", (const char *)path);
	libvirt_xml_drop(n);
	return 0;
}

/* Random numbers of the host are for everybody. */
static int look_at_rng(xmlNode *n, struct error *e)
{
	xmlNode *backend = libvirt_xml_child(n, "backend");
	AUTO_TEXT xmlChar *path = backend ? xmlNodeGetContent(backend) : NULL;
	const char *text = path ? (const char *)path : "";

	if (!libvirt_xml_attr_is(backend, "model", "random") && !libvirt_xml_attr_is(backend, "model", "builtin"))
		return err_set(e, ERR_DENIED,
			"<rng> has another backend than random or builtin: --trust-definition lets it in");
	if (*text && strcmp(text, "/dev/urandom") != 0 && strcmp(text, "/dev/random") != 0)
		return refuse(backend, "value", text, e);
	if (*text) /* /dev/urandom, as without */
		xmlNodeSetContent(backend, NULL);
	return 0;
}

static int look_at_devices(xmlNode *devices, const struct driver_import *how, struct error *e)
{
	xmlNode *next;

	for (xmlNode *n = libvirt_xml_child(devices, NULL); n; n = next) {
		next = n->next;
		if (!libvirt_xml_is(n, NULL))
			continue;
		if (refuse_kind(n, e))
			return -1;
		if ((libvirt_xml_is(n, "disk") && look_at_disk(n, how, e)) ||
			(libvirt_xml_is(n, "rng") && look_at_rng(n, e)))
			return -1;
		if (libvirt_xml_is(n, "tpm") &&
			!libvirt_xml_attr_is(libvirt_xml_child(n, "backend"), "type", "emulator"))
			return err_set(e, ERR_DENIED, "<tpm> is a device of the host: --trust-definition lets it in");
		if (libvirt_xml_is(n, "emulator") && drop_emulator(n, how, e)) /* the last look at it */
			return -1;
	}
	return 0;
}

/* ---- firmware ---- */

static int look_at_firmware(xmlNode *os, struct error *e)
{
	xmlNode *loader = libvirt_xml_child(os, "loader"), *nvram = libvirt_xml_child(os, "nvram");
	AUTO_TEXT xmlChar *path = loader ? xmlNodeGetContent(loader) : NULL;
	AUTO_FREE char *template = NULL;

	for (const xmlNode *n = libvirt_xml_child(os, NULL); n; n = n->next)
		if (libvirt_xml_is(n, NULL) && !is_among(os_elements, (const char *)n->name))
			return err_set(e, ERR_DENIED,
				"<%s> in <os> is a file of the host: --trust-definition lets it in",
				(const char *)n->name);
	/* A guest that can write to it would write to everybody's. */
	if (libvirt_xml_child(loader, NULL) ||
		(libvirt_xml_attr_is(loader, "type", "pflash") && !libvirt_xml_attr_is(loader, "readonly", "yes")))
		return err_set(e, ERR_DENIED, "its firmware is not read-only: --trust-definition lets it in");
	if (libvirt_xml_attr(nvram, "template", &template, e))
		return -1;
	if ((path && *path && !is_firmware((const char *)path)) || (template && !is_firmware(template)))
		return err_set(e, ERR_DENIED,
			"its firmware is %.200s, in no place for firmware: --trust-definition lets it in",
			path && *path && !is_firmware((const char *)path) ? (const char *)path : template);
	return 0;
}

/* ---- all ---- */

static int look_at_elements(xmlNode *root, const struct driver_import *how, struct error *e)
{
	xmlNode *next;

	for (xmlNode *n = libvirt_xml_child(root, NULL); n; n = next) {
		next = n->next;
		if (!libvirt_xml_is(n, NULL))
			continue;
		const char *name = (const char *)n->name;

		if (!n->ns && is_among(host_matters, name)) {
			libvirt_import_tell(how, "<%s> is left out: that is for this host to say", name);
			libvirt_xml_drop(n);
		} else if (!is_among(elements, name)) {
			return err_set(e, ERR_DENIED, "<%s> may reach the host: --trust-definition lets it in", name);
		} else if (libvirt_xml_is(n, "sysinfo") && !libvirt_xml_attr_is(n, "type", "smbios")) {
			return err_set(e, ERR_DENIED,
				"<sysinfo> that is not SMBIOS may be a file: --trust-definition lets it in");
		}
	}
	return 0;
}

/* What was looked at by itself is not a path that the search for paths should find. */
static int refuse_hidden_paths(const xmlNode *root, struct error *e)
{
	AUTO_DOC xmlDoc *copy = xmlCopyDoc(root->doc, 1);
	xmlNode *os = copy ? libvirt_xml_child(xmlDocGetRootElement(copy), "os") : NULL;

	if (!copy)
		return err_set(e, ERR_NO_MEMORY, "no memory for a definition");
	libvirt_xml_drop(libvirt_xml_child(os, "loader"));
	libvirt_xml_drop(libvirt_xml_child(os, "nvram"));
	return refuse_paths(xmlDocGetRootElement(copy), e);
}

int libvirt_refuse_strange(xmlNode *root, const struct driver_import *how, struct error *e)
{
	xmlNode *devices = libvirt_xml_child(root, "devices");

	if (!libvirt_xml_attr_is(root, "type", "kvm") && !libvirt_xml_attr_is(root, "type", "qemu"))
		return err_set(e, ERR_DENIED, "its type is neither kvm nor qemu: --trust-definition lets it in");
	if (libvirt_xml_child(root, "devices") && libvirt_xml_next(libvirt_xml_child(root, "devices")))
		return err_set(e, ERR_DENIED, "it has <devices> twice");
	if (libvirt_xml_child(root, "os") && libvirt_xml_next(libvirt_xml_child(root, "os")))
		return err_set(e, ERR_DENIED, "it has <os> twice");
	return look_at_elements(root, how, e) || look_at_devices(devices, how, e) ||
			       look_at_firmware(libvirt_xml_child(root, "os"), e) || refuse_hidden_paths(root, e)
		       ? -1
		       : 0;
}
