/* SPDX-License-Identifier: Apache-2.0
 *
 * What the name of an image or of a backing file means (FORMAT.md §10.3): a path, "file:PATH", "json:{...}"; never
 * another protocol.
 */
#include "qcow2/internal.h"

static const struct {
	const char *name;
	enum image_format format;
} drivers[] = {
	{"raw", IMAGE_RAW},
	{"qcow2", IMAGE_QCOW2},
	/* protocols as a format: the file's own bytes */
	{"file", IMAGE_RAW},
	{"host_device", IMAGE_RAW},
};

static const char *const other_formats[] = {
	"qcow", "qed", "vmdk", "vdi", "vpc", "vhdx", "luks", "parallels", "bochs", "cloop", "dmg", "vvfat"};

static const char *const other_protocols[] = {"nbd", "nbd+tcp", "nbd+unix", "http", "https", "ftp", "ftps", "ssh",
	"rbd", "iscsi", "iser", "gluster", "gluster+tcp", "gluster+unix", "gluster+rdma", "nfs", "fat", "blkdebug",
	"blkverify", "host_cdrom", "nvme", "quorum", "null-co", "null-aio", "throttle", "copy-on-read"};

const char *image_format_name(enum image_format f)
{
	return f == IMAGE_QCOW2 ? "qcow2" : f == IMAGE_RAW ? "raw" : "auto";
}

static bool is_one_of(const char *text, size_t len, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(list[i]) == len && memcmp(list[i], text, len) == 0)
			return true;
	return false;
}

static int unknown_format(const char *text, enum err_code code, struct error *e)
{
	if (is_one_of(text, strlen(text), other_formats, sizeof other_formats / sizeof other_formats[0]))
		return err_set(e, ERR_UNSUPPORTED, "format '%s' is not supported", text);
	if (is_one_of(text, strlen(text), other_protocols, sizeof other_protocols / sizeof other_protocols[0]))
		return err_set(e, ERR_UNSUPPORTED, "driver '%s' is not supported", text);
	return err_set(e, code, "Unknown driver '%s'", text);
}

int image_format_parse(const char *text, enum image_format *out, struct error *e)
{
	for (size_t i = 0; i < 2; i++) {
		if (strcmp(drivers[i].name, text) != 0)
			continue;
		*out = drivers[i].format;
		return 0;
	}
	return unknown_format(text, ERR_USAGE, e);
}

int image_driver_parse(const char *driver, enum image_format *out, struct error *e)
{
	for (size_t i = 0; i < sizeof drivers / sizeof drivers[0]; i++) {
		if (strcmp(drivers[i].name, driver) != 0)
			continue;
		*out = drivers[i].format;
		return 0;
	}
	return unknown_format(driver, ERR_UNSUPPORTED, e);
}

size_t image_name_scheme(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':' ? n : 0;
}

static bool is_scheme(const char *name, size_t len, const char *scheme)
{
	return strlen(scheme) == len && memcmp(name, scheme, len) == 0;
}

const char *image_plain_path(const char *name, struct error *e)
{
	size_t n = image_name_scheme(name);

	if (is_scheme(name, n, "file") || is_scheme(name, n, "host_device")) {
		name += n + 1;
	} else if (n || name[0] == ':') {
		bool known = is_one_of(name, n, other_protocols, sizeof other_protocols / sizeof other_protocols[0]);
		err_set(e, ERR_UNSUPPORTED, known ? "protocol '%.*s' is not supported" : "Unknown protocol '%.*s'",
			(int)min_u64(n, 100), name);
		return NULL;
	}
	if (name[0])
		return name;
	err_set(e, ERR_USAGE, "The file name is empty");
	return NULL;
}

int image_name_parse(struct image_name *out, const char *name, struct error *e)
{
	size_t n = image_name_scheme(name);

	*out = (struct image_name){0};
	if (is_scheme(name, n, "json"))
		return image_name_parse_json(out, name + n + 1, e);
	const char *path = image_plain_path(name, e);
	if (!path)
		return -1;
	out->path = mem_strdup(path, e);
	return out->path ? 0 : -1;
}

void image_name_clear(struct image_name *n)
{
	free(n->path);
	free(n->backing);
	free(n->data_file);
	*n = (struct image_name){0};
}

char *image_backing_path(const char *of, const char *backing, struct error *e)
{
	const char *slash = strrchr(of, '/');

	if (!slash || backing[0] == '/' || !backing[0] || image_name_scheme(backing))
		return mem_strdup(backing, e);
	return mem_printf(e, "%.*s%s", (int)(slash + 1 - of), of, backing);
}
