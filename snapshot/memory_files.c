/* SPDX-License-Identifier: Apache-2.0
 *
 * The files that a kept snapshot's memory and NVRAM are in: their names, whether they are still what was taken, and how they go.
 */
#include "snapshot/memory.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

enum { MAX_NVRAM = 64 << 20, MAX_SAME_TIME = 1000 };

/* Names of snapshots may have anything in them; the time has not. */
char *memory_name(const struct vm *vm, const char *kind, struct error *e)
{
	AUTO_FREE char *folder = vm_absolute(vm->opts.state_dir, e);
	long long now = (long long)time(NULL);

	for (unsigned i = 0; folder && i < MAX_SAME_TIME; i++) {
		char *path = mem_printf(e, "%s/%s.%lld-%u.%s", folder, vm->domain.uuid, now, i, kind);
		struct stat st;

		if (!path || (lstat(path, &st) && errno == ENOENT))
			return path;
		free(path);
	}
	if (folder)
		err_fill(e, ERR_LIMIT, "%s: no name is left for a file", folder);
	return NULL;
}

int nvram_read(const char *path, uint8_t **bytes, size_t *len, struct error *e)
{
	AUTO_IO struct io *file = NULL;

	*bytes = NULL;
	if (io_file_open(&file, path, 0, e))
		return -1;
	if (file->size > MAX_NVRAM)
		return err_set(e, ERR_LIMIT, "%s: %llu bytes are no NVRAM", path, (unsigned long long)file->size);
	*len = (size_t)file->size;
	*bytes = mem_calloc(1, *len + 1, "NVRAM", e);
	if (!*bytes)
		return -1;
	if (!io_read(file, *bytes, *len, 0, e))
		return 0;
	free(STEAL(*bytes));
	return -1;
}

/* ---- whether they are there ---- */

/* *why stays NULL when it is as it was. */
static int look_at(const char *path, const char *what, uint64_t bytes, struct vm_point *p, char **why, struct error *e)
{
	struct stat st;
	bool gone = stat(path, &st), other = !gone && (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes);

	if (!gone && !other)
		return 0;
	*why = mem_printf(e, "its %s %s %s", what, path, gone ? "is gone" : "is another file");
	if (p->state != VM_POINT_FOREIGN)
		p->state = gone ? VM_POINT_PARTLY : VM_POINT_FOREIGN;
	return *why ? 0 : -1;
}

int memory_compare(struct vm_point *p, char **why, struct error *e)
{
	struct stat st;

	*why = NULL;
	if (p->memory && look_at(p->memory, "memory", p->memory_bytes, p, why, e))
		return -1;
	if (!p->nvram || *why)
		return 0;
	return look_at(p->nvram, "NVRAM", stat(p->nvram, &st) ? 0 : (uint64_t)st.st_size, p, why, e);
}

int memory_proves(const struct vm *vm, const char *path, const char *digest, struct error *e)
{
	char now[129];

	vm_step(vm, "digest", NULL);
	if (convert_digest(path, "sha256", vm->opts.voice.progress, now, e))
		return -1;
	return strcmp(now, digest) == 0
		       ? 0
		       : err_set(e, ERR_CHANGED, "%s is not what was taken: its SHA-256 is another", path);
}

/* ---- how they go ---- */

static int put_away(struct vm *vm, const char *path, struct error *e)
{
	struct trace t = {.kind = TRACE_FILE, .path = (char *)path};
	struct stat st;

	if (!path || lstat(path, &st))
		return !path || errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(e, errno, "%s", path);
	t.dev = st.st_dev;
	t.ino = st.st_ino;
	return trace_put(vm, &t, NULL, e);
}

int memory_put_away(struct vm *vm, const struct vm_point *p, struct error *e)
{
	return put_away(vm, p->memory, e) || put_away(vm, p->nvram, e) ? -1 : 0;
}
