/* SPDX-License-Identifier: Apache-2.0
 *
 * Internal snapshots of a guest that runs: libvirt has no call for those without memory, QEMU's monitor has. libvirt calls such a
 * guest tainted (custom-monitor) in its log until it ends. The monitor wants the name of the node that holds the format, which is
 * asked for and found by the disk's alias. What libvirt_memory.c tells QEMU goes the same way.
 */
#include <libvirt/libvirt-qemu.h>

#include "driver/libvirt_internal.h"

/* What QEMU says no with. It has no codes, but its texts are never translated. */
static int monitor_error(const json_t *error, struct error *e)
{
	const char *text = json_string_value(json_object_get(error, "desc"));
	if (!text)
		text = "QEMU does not say why";
	return err_set(e,
		strstr(text, "does not exist")                  ? ERR_NOT_FOUND
		: strstr(text, "already exists")                ? ERR_USAGE
		: strstr(text, "migration process in progress") ? ERR_BUSY
								: ERR_IO,
		"%s", text);
}

static int send_file(virDomainPtr dom, const char *text, int fd, char **answer)
{
#if LIBVIRT_SENDS_FILES
	return virDomainQemuMonitorCommandWithFiles(dom, text, 1, &fd, NULL, NULL, answer, 0);
#else
	(void)dom, (void)text, (void)fd, (void)answer;
	return -1;
#endif
}

/* QEMU's answer, free(); NULL with an error. */
static char *send(struct libvirt *l, virDomainPtr dom, const char *text, int fd, struct error *e)
{
	char *answer = NULL;
	if (fd < 0 ? virDomainQemuMonitorCommand(dom, text, &answer, 0) : send_file(dom, text, fd, &answer))
		libvirt_fail(l, e);
	return answer;
}

int libvirt_monitor(struct libvirt *l, virDomainPtr dom, json_t *command, const char *name, int fd, json_t **out,
	struct error *e)
{
	AUTO_JSON json_t *owned = command;
	AUTO_FREE char *text = owned ? json_dumps(owned, JSON_COMPACT) : NULL;
	AUTO_FREE char *told = mem_printf(e, "virDomainQemuMonitorCommand %s", name);
	if (!told)
		return -1;
	if (!text)
		return err_set(e, ERR_UNSUPPORTED, "a name has characters that QEMU cannot be told");
	libvirt_tell(l, told);
	AUTO_FREE char *answer = send(l, dom, text, fd, e);
	if (!answer)
		return -1;
	AUTO_JSON json_t *reply = json_loads(answer, 0, NULL);
	json_t *error = json_object_get(reply, "error"), *value = json_object_get(reply, "return");
	if (error)
		return monitor_error(error, e);
	if (!value)
		return err_set(e, ERR_IO, "QEMU's answer to %s is not understood", name);
	if (out)
		*out = json_incref(value);
	return 0;
}

char *libvirt_status(struct libvirt *l, virDomainPtr dom, struct error *e)
{
	AUTO_JSON json_t *now = NULL;
	if (libvirt_monitor(l, dom, json_pack("{s:s}", "execute", "query-status"), "query-status", -1, &now, e))
		return NULL;
	const char *status = json_string_value(json_object_get(now, "status"));
	return mem_strdup(status ? status : "", e);
}

static json_t *query_block(struct libvirt *l, virDomainPtr dom, struct error *e)
{
	json_t *devices = NULL;
	if (libvirt_monitor(l, dom, json_pack("{s:s}", "execute", "query-block"), "query-block", -1, &devices, e))
		return NULL;
	return devices;
}

/* A qdev is the device's id, or a path of QEMU's objects that has it as one part. */
bool libvirt_qdev_is(const char *qdev, const char *alias)
{
	size_t len = strlen(alias);
	for (const char *part = qdev; part; part = strchr(part, '/')) {
		part += *part == '/';
		if (!strncmp(part, alias, len) && (!part[len] || part[len] == '/'))
			return true;
	}
	return false;
}

static const char *node_of(const json_t *devices, const char *alias, const char *target, struct error *e)
{
	const json_t *found = NULL;
	for (size_t i = 0; i < json_array_size(devices); i++) {
		const json_t *device = json_array_get(devices, i);
		const char *qdev = json_string_value(json_object_get(device, "qdev"));
		if (!qdev || !libvirt_qdev_is(qdev, alias))
			continue;
		if (found) {
			err_fill(e, ERR_UNSUPPORTED, "disk '%s' is more than one of QEMU's devices", target);
			return NULL;
		}
		found = json_object_get(device, "inserted");
	}
	const char *node = json_string_value(json_object_get(found, "node-name"));
	const char *format = json_string_value(json_object_get(found, "drv"));
	if (!node || !*node || !format) {
		err_fill(e, ERR_NOT_FOUND, "QEMU has no disk '%s'", target);
		return NULL;
	}
	if (strcmp(format, "qcow2") != 0) {
		err_fill(e, ERR_UNSUPPORTED, "disk '%s': no internal snapshots of %s", target, format);
		return NULL;
	}
	return node;
}

struct nodes {
	xmlDoc *definition;
	json_t *devices;
};

static void drop_nodes(struct nodes *n)
{
	xmlFreeDoc(n->definition);
	json_decref(n->devices);
}

static int read_nodes(struct libvirt *l, virDomainPtr dom, struct nodes *out, struct error *e)
{
	AUTO_FREE char *xml = libvirt_definition(l, dom, 0, e);
	if (!xml || !(out->definition = libvirt_xml_parse(xml, e)))
		return -1;
	return (out->devices = query_block(l, dom, e)) ? 0 : -1;
}

/* {"device": NODE, "name": NAME}; NULL with an error. */
static json_t *snapshot_arguments(const struct nodes *n, const char *target, const char *name, struct error *e)
{
	AUTO_FREE char *alias = NULL;
	const xmlNode *disk = libvirt_xml_disk(n->definition, target, e);
	if (!disk || libvirt_xml_attr(libvirt_xml_child(disk, "alias"), "name", &alias, e))
		return NULL;
	if (!alias) {
		err_fill(e, ERR_UNSUPPORTED, "disk '%s' has no alias: the guest does not run", target);
		return NULL;
	}
	const char *node = node_of(n->devices, alias, target, e);
	if (!node)
		return NULL;
	json_t *arguments = json_pack("{s:s, s:s}", "device", node, "name", name);
	if (!arguments)
		err_fill(e, ERR_UNSUPPORTED, "'%s' is no name of a snapshot that QEMU can be told", name);
	return arguments;
}

int libvirt_internal_create(struct driver *d, const char *uuid, const char *const *targets, unsigned count,
	const char *name, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	__attribute__((cleanup(drop_nodes))) struct nodes nodes = {0};
	if (!dom || read_nodes(l, dom, &nodes, e))
		return -1;
	AUTO_JSON json_t *actions = json_array();
	for (unsigned i = 0; i < count; i++) {
		json_t *data = snapshot_arguments(&nodes, targets[i], name, e);
		if (!data)
			return -1;
		if (json_array_append_new(actions,
			    json_pack("{s:s, s:o}", "type", "blockdev-snapshot-internal-sync", "data", data)))
			return err_set(e, ERR_NO_MEMORY, "no memory for a monitor command");
	}
	json_t *command = json_pack("{s:s, s:{s:O}}", "execute", "transaction", "arguments", "actions", actions);
	return libvirt_monitor(l, dom, command, "blockdev-snapshot-internal-sync", -1, NULL, e);
}

/* QEMU would end in the middle of it. */
static int refuse_closed(struct libvirt *l, virDomainPtr dom, struct error *e)
{
	AUTO_FREE char *status = libvirt_status(l, dom, e);
	if (!status)
		return -1;
	if (strcmp(status, "postmigrate") != 0 && strcmp(status, "finish-migrate") != 0 &&
		strcmp(status, "inmigrate") != 0)
		return 0;
	return err_set(e, ERR_BUSY, "QEMU has closed the disks until the guest runs (%s)", status);
}

int libvirt_internal_delete(struct driver *d, const char *uuid, const char *target, const char *name, const char *id,
	struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	AUTO_DOMAIN virDomainPtr dom = libvirt_domain(l, uuid, e);
	__attribute__((cleanup(drop_nodes))) struct nodes nodes = {0};
	if (!dom || refuse_closed(l, dom, e) || read_nodes(l, dom, &nodes, e))
		return -1;
	json_t *arguments = snapshot_arguments(&nodes, target, name, e);
	if (!arguments)
		return -1;
	if (id && json_object_set_new(arguments, "id", json_pack("s", id))) {
		json_decref(arguments);
		return err_set(e, ERR_UNSUPPORTED, "'%s' is no number of a snapshot that QEMU can be told", id);
	}
	static const char execute[] = "blockdev-snapshot-delete-internal-sync";
	return libvirt_monitor(l, dom, json_pack("{s:s, s:o}", "execute", execute, "arguments", arguments), execute, -1,
		NULL, e);
}
