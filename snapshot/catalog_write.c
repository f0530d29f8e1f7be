/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalog onto the disk: whole, under another name, durable, and then its name. The domain's lock is held, so one other name is
 * enough.
 */
#include "snapshot/member.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { CATALOG_VERSION = 1 };

char *catalog_path(const struct vm *vm, struct error *e)
{
	return mem_printf(e, "%s/%s.snapshots", vm->opts.state_dir, vm->domain.uuid);
}

static void put_disks(struct json *j, const struct vm_point *p)
{
	json_array_begin(j, "disks");
	for (unsigned i = 0; i < p->disk_count; i++) {
		const struct vm_point_disk *d = &p->disks[i];

		json_object_begin(j, NULL);
		point_disk_put(j, d);
		json_string(j, "path", d->path);
		json_string(j, "id", d->id);
		json_object_end(j);
	}
	json_array_end(j);
}

static void put_exports(struct json *j, const struct vm_point *p)
{
	json_array_begin(j, "exports");
	for (unsigned i = 0; i < p->export_count; i++) {
		const struct vm_point_export *x = &p->exports[i];

		json_object_begin(j, NULL);
		json_int(j, "when", x->when);
		put_optional(j, "target", x->target);
		json_string(j, "to", x->to);
		json_uint(j, "bytes", x->bytes);
		json_string(j, "sha256", x->digest);
		put_optional(j, "since", x->since);
		json_object_end(j);
	}
	json_array_end(j);
}

static void put_memory(struct json *j, const struct vm_point *p)
{
	if (p->memory) {
		json_string(j, "memory", p->memory);
		json_uint(j, "memory-bytes", p->memory_bytes);
		json_string(j, "memory-sha256", p->memory_digest);
	}
	if (p->nvram) {
		json_string(j, "nvram", p->nvram);
		json_string(j, "nvram-sha256", p->nvram_digest);
	}
}

static void put_point(struct json *j, const struct vm_point *p)
{
	json_object_begin(j, NULL);
	point_head_put(j, p);
	put_optional(j, "xml", p->xml);
	put_memory(j, p);
	put_disks(j, p);
	put_exports(j, p);
	json_object_end(j);
}

static void put_catalog(const struct vm *vm, const struct vm_catalog *c, FILE *f)
{
	struct json j;

	json_init(&j, f, false);
	json_object_begin(&j, NULL);
	json_int(&j, "version", CATALOG_VERSION);
	json_string(&j, "uuid", vm->domain.uuid);
	json_string(&j, "domain", vm->domain.name);
	put_optional(&j, "current", c->current);
	json_array_begin(&j, "points");
	for (unsigned i = 0; i < c->count; i++)
		if (c->points[i].state != VM_POINT_UNLISTED)
			put_point(&j, &c->points[i]);
	json_array_end(&j);
	json_object_end(&j);
	fputc('\n', f);
}

static int write_text(int fd, const char *path, const char *text, size_t len, struct error *e)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, text + done, len - done, (off_t)done);

		if (n <= 0)
			return err_sys(e, n ? errno : ENOSPC, "%s", path);
		done += (size_t)n;
	}
	return fdatasync(fd) ? err_sys(e, errno, "%s", path) : 0;
}

/* What a dead command left of a new one. */
static int clean(const char *fresh, struct error *e)
{
	return unlink(fresh) && errno != ENOENT ? err_sys(e, errno, "%s", fresh) : 0;
}

static char *fresh_path(const char *path, struct error *e)
{
	return mem_printf(e, "%s.new", path);
}

int catalog_clean(const struct vm *vm, struct error *e)
{
	AUTO_FREE char *path = catalog_path(vm, e), *fresh = path ? fresh_path(path, e) : NULL;

	return fresh ? clean(fresh, e) : -1;
}

static int replace(const char *path, const char *text, size_t len, struct error *e)
{
	AUTO_FREE char *fresh = fresh_path(path, e);

	if (!fresh || clean(fresh, e))
		return -1;
	int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_sys(e, errno, "%s", fresh);
	int failed = write_text(fd, fresh, text, len, e);

	if (close(fd) && !failed)
		failed = err_sys(e, errno, "%s", fresh);
	if (!failed && rename(fresh, path))
		failed = err_sys(e, errno, "%s", path);
	if (failed)
		unlink(fresh);
	return failed;
}

static bool is_empty(const struct vm_catalog *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->points[i].state != VM_POINT_UNLISTED)
			return false;
	return true;
}

static int make_text(const struct vm *vm, const struct vm_catalog *c, char **text, size_t *len, struct error *e)
{
	FILE *f = open_memstream(text, len);

	if (!f)
		return err_set(e, ERR_NO_MEMORY, "no memory for a catalog of snapshots");
	put_catalog(vm, c, f);
	return fclose(f) ? err_set(e, ERR_NO_MEMORY, "no memory for a catalog of snapshots") : 0;
}

/* order: new file, its bytes durable; its name; the folder durable. What is not to be read again must not be written. */
int catalog_write(const struct vm *vm, const struct vm_catalog *c, struct error *e)
{
	AUTO_FREE char *path = catalog_path(vm, e), *text = NULL;
	struct vm_catalog again;
	size_t len;

	if (!path)
		return -1;
	if (is_empty(c)) {
		if (unlink(path) && errno != ENOENT)
			return err_sys(e, errno, "%s", path);
		return folder_sync(vm->opts.state_dir, e);
	}
	if (make_text(vm, c, &text, &len, e))
		return -1;
	if (catalog_parse(text, len, vm->domain.uuid, &again, e))
		return err_prefix(e, "%s", path);
	vm_catalog_free(&again);
	return replace(path, text, len, e) || folder_sync(vm->opts.state_dir, e) ? -1 : 0;
}
