/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether libvirt runs on this very host. Three answers must fit: how we reached it, its host's name, and its host's UUID as far
 * as it can be known here what a libvirt of this host would say. Sockets can be forwarded, so none of them alone is enough.
 */
#include <ctype.h>
#include <unistd.h>

#include "driver/libvirt_internal.h"

enum { NAME_MAX_CHARS = 256, UUID_HEX = 32 };

/* SCHEME[+TRANSPORT]://[USER@][HOST][:PORT]/PATH */
bool libvirt_uri_is_local(const char *uri)
{
	const char *authority = strstr(uri, "://");
	if (!authority)
		return false;
	const char *plus = memchr(uri, '+', (size_t)(authority - uri));
	size_t transport = plus ? (size_t)(authority - plus - 1) : 0;
	if (transport == 4 && !strncmp(plus + 1, "unix", 4))
		return true;
	authority += 3;
	size_t len = strcspn(authority, "/?#");
	const char *at = memchr(authority, '@', len);
	const char *host = at ? at + 1 : authority;
	len -= (size_t)(host - authority);
	if (!len)
		return !transport;
	const char *colon = memchr(host, ':', len);
	if (colon)
		len = (size_t)(colon - host);
	return len == 9 && !strncmp(host, "localhost", 9);
}

bool libvirt_same_host(const char *ours, const char *theirs)
{
	size_t a = strcspn(ours, "."), b = strcspn(theirs, ".");
	bool both_long = ours[a] && theirs[b];
	return both_long ? !strcasecmp(ours, theirs) : a == b && !strncasecmp(ours, theirs, a);
}

/* The hexadecimal digits of a UUID, however it is written, in lower case. */
static bool uuid_digits(const char *text, char out[UUID_HEX + 1])
{
	unsigned n = 0;
	for (const char *c = text; *c && *c != '\n'; c++) {
		if (*c == '-')
			continue;
		if (!isxdigit((unsigned char)*c) || n == UUID_HEX)
			return false;
		out[n++] = *c;
	}
	out[n] = 0;
	for (char *c = out; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return n == UUID_HEX && strspn(out, (char[]){out[0], 0}) < UUID_HEX;
}

static bool uuid_in_file(const char *path, char out[UUID_HEX + 1])
{
	char text[64] = "";
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	bool read = fgets(text, sizeof text, f);
	fclose(f);
	return read && uuid_digits(text, out);
}

/* An administrator may have given the host another UUID than its own: then it cannot be compared. */
static bool is_configured(void)
{
	static const char *const files[] = {"/etc/libvirt/libvirtd.conf", "/etc/libvirt/virtqemud.conf"};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		FILE *f = fopen(files[i], "re");
		char line[512];
		bool found = false;
		while (f && fgets(line, sizeof line, f))
			found |= !strncmp(line + strspn(line, " \t"), "host_uuid", 9);
		if (f)
			fclose(f);
		if (found)
			return true;
	}
	return false;
}

static bool another_uuid(const char *theirs)
{
	char host[UUID_HEX + 1], ours[UUID_HEX + 1];
	if (!uuid_digits(theirs, host) || !uuid_in_file("/sys/devices/virtual/dmi/id/product_uuid", ours) ||
		is_configured())
		return false;
	return strcmp(host, ours) != 0;
}

static int compare_uuids(struct libvirt *l, struct error *e)
{
	libvirt_tell(l, "virConnectGetCapabilities");
	AUTO_FREE char *xml = virConnectGetCapabilities(l->conn);
	if (!xml)
		return libvirt_fail(l, e);
	AUTO_DOC xmlDoc *doc = libvirt_xml_parse(xml, e);
	AUTO_FREE char *uuid = NULL;
	if (!doc || libvirt_xml_text(libvirt_xml_child(xmlDocGetRootElement(doc), "host"), "uuid", &uuid, e))
		return -1;
	if (uuid && another_uuid(uuid))
		return err_set(e, ERR_UNSUPPORTED, "libvirt runs on another host (UUID %s), its disks are not here",
			uuid);
	return 0;
}

int libvirt_local(struct driver *d, struct error *e)
{
	struct libvirt *l = libvirt_of(d);
	if (libvirt_connected(l, e))
		return -1;
	libvirt_tell(l, "virConnectGetURI");
	AUTO_FREE char *uri = virConnectGetURI(l->conn);
	if (!uri)
		return libvirt_fail(l, e);
	if (!libvirt_uri_is_local(uri))
		return err_set(e, ERR_UNSUPPORTED, "'%s' may be another host, its disks are not here", uri);
	libvirt_tell(l, "virConnectGetHostname");
	AUTO_FREE char *theirs = virConnectGetHostname(l->conn);
	char ours[NAME_MAX_CHARS] = "";
	if (!theirs)
		return libvirt_fail(l, e);
	if (gethostname(ours, sizeof ours - 1))
		return err_set(e, ERR_IO, "this host has no name");
	if (!libvirt_same_host(ours, theirs))
		return err_set(e, ERR_UNSUPPORTED, "libvirt runs on host '%s', this one is '%s'", theirs, ours);
	return compare_uuids(l, e);
}
