/* SPDX-License-Identifier: Apache-2.0
 *
 * A file of ours: its trace, the file without a name, which one it is into the journal, and at last its name. So whoever comes after
 * a crash can tell it from a file that somebody else put in its place.
 */
#include "snapshot/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 64 << 20, BUFFER_BYTES = 1 << 20 };

static int know_file(void *ctx, const struct io_identity *id, struct error *e)
{
	const struct made *m = ctx;
	const struct trace t = {.kind = TRACE_FILE, .dev = id->dev, .ino = id->ino};

	return journal_know(m->vm->journal, m->trace, &t, e);
}

int made_begin(struct made *m, struct vm *vm, const char *path, struct target_opts *opts, struct error *e)
{
	*m = (struct made){.vm = vm};
	*opts = (struct target_opts){.sync_at_end = true, .fresh = true, .made = know_file, .made_ctx = m};
	return trace_put(vm, &(struct trace){.kind = TRACE_FILE, .path = (char *)path}, &m->trace, e);
}

int made_open(struct made *m, struct vm *vm, const char *path, const struct io *owner, struct target **out,
	struct error *e)
{
	struct target_opts opts;

	if (made_begin(m, vm, path, &opts, e))
		return -1;
	opts.sync_at_end = !owner;
	if (target_open(out, path, &opts, e))
		return -1;
	if (!owner || !io_file_own_as(target_io(*out), owner, e))
		return 0;
	target_close(STEAL(*out));
	return -1;
}

/* ---- copies ---- */

static int copy_by_hand(struct io *to, uint64_t at, struct io *from, uint64_t from_at, uint64_t len, uint8_t *buffer,
	struct error *e)
{
	for (uint64_t done = 0; done < len;) {
		size_t n = (size_t)min_u64(len - done, BUFFER_BYTES);

		if (io_read(from, buffer, n, from_at + done, e) || io_write(to, buffer, n, at + done, e))
			return -1;
		done += n;
	}
	return 0;
}

/* What `from` has behind `skip` bytes, behind the first `at` bytes. */
static int copy_rest(const struct vm *vm, struct io *to, uint64_t at, struct io *from, uint64_t skip, struct error *e)
{
	AUTO_FREE uint8_t *buffer = mem_calloc(1, BUFFER_BYTES, "copy", e);
	const uint64_t total = from->size - skip;
	int rc = !buffer || io_truncate(to, at + total, e) ? -1 : io_clone(to, at, from, skip, total, e);
	bool by_kernel = true;

	if (rc <= 0)
		return rc;
	for (uint64_t done = 0; done < total; done += COPY_BYTES) {
		uint64_t len = min_u64(total - done, COPY_BYTES);

		if (vm_go_on(vm, e))
			return -1;
		rc = by_kernel ? io_copy_range(to, at + done, from, skip + done, len, e) : 1;
		by_kernel = !rc;
		if (rc < 0 || (rc && copy_by_hand(to, at + done, from, skip + done, len, buffer, e)))
			return -1;
		progress_report(vm->opts.voice.progress, done + len, total);
	}
	return 0;
}

int made_with_head(struct vm *vm, const char *path, const void *bytes, size_t len, struct io *from, uint64_t skip,
	unsigned *trace, struct error *e)
{
	struct target *target;
	struct made made;

	if (from && from->size < skip)
		return err_set(e, ERR_CHANGED, "%s is too short", from->name);
	if (made_open(&made, vm, path, NULL, &target, e))
		return -1;
	*trace = made.trace;
	struct io *to = target_io(target);
	int failed = fchmod(io_file_fd(to), 0600) ? err_sys(e, errno, "%s", to->name) : 0;

	failed = failed || (len && io_write(to, bytes, len, 0, e)) || (from && copy_rest(vm, to, len, from, skip, e)) ||
		 target_commit(target, e);
	target_close(target);
	return failed ? -1 : 0;
}

int made_copy(struct vm *vm, const char *path, struct io *from, unsigned *trace, struct error *e)
{
	return made_with_head(vm, path, NULL, 0, from, 0, trace, e);
}

int made_of_bytes(struct vm *vm, const char *path, const void *bytes, size_t len, unsigned *trace, struct error *e)
{
	return made_with_head(vm, path, bytes, len, NULL, 0, trace, e);
}

/* order: which file it is, into the journal; the name. It is durable with the file's bytes, later. */
int made_link(struct vm *vm, const char *from, const char *path, unsigned *trace, struct error *e)
{
	struct trace t = {.kind = TRACE_FILE, .path = (char *)path};

	if (disk_identity(from, &t.dev, &t.ino, e) || trace_put(vm, &t, trace, e))
		return -1;
	return link(from, path) ? err_sys(e, errno, "%s", path) : 0;
}

/* order: which one it is, with its new name, into the journal; the name; the folder durable. */
int made_name(struct vm *vm, enum trace_kind kind, const char *from, const char *to, unsigned *trace, struct error *e)
{
	struct trace t = {.kind = kind, .path = (char *)to};
	AUTO_FREE char *folder = vm_parent(to, e);

	if (!folder || disk_identity(from, &t.dev, &t.ino, e) || trace_put(vm, &t, trace, e))
		return -1;
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return folder_sync(folder, e);
	if (errno != EINVAL && errno != ENOSYS)
		return err_sys(e, errno, "%s", to);
	/* A file system without that: a look must do. */
	if (access(to, F_OK) == 0)
		return err_sys(e, EEXIST, "%s", to);
	return rename(from, to) ? err_sys(e, errno, "%s", to) : folder_sync(folder, e);
}
