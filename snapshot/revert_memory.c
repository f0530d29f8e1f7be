/* SPDX-License-Identifier: Apache-2.0
 *
 * Going back to a snapshot that has the guest's memory: whether that is still what was taken, asked before a guest is ended for it; and
 * the NVRAM, which goes back as the disks do: what it was is in a file of ours until it is decided.
 */
#include "snapshot/memory.h"
#include "snapshot/revert.h"

#include <errno.h>
#include <unistd.h>

/* Without the memory the NVRAM is worth a word, not a failure. */
static int check_nvram(struct revert *r, struct error *e)
{
	struct revert_point *p = &r->point;

	if (!p->nvram)
		return 0;
	if (!memory_proves(r->vm, p->nvram, p->nvram_digest, e) &&
		!nvram_read(p->nvram, &r->nvram_bytes, &r->nvram_len, e))
		return 0;
	if (!r->opts->without_memory)
		return -1;
	vm_note(r->vm, "the NVRAM stays as it is: %s", e->msg);
	return 0;
}

int revert_check_memory(struct revert *r, struct error *e)
{
	struct revert_point *p = &r->point;

	r->out->memory = p->memory && !r->opts->without_memory;
	if (r->out->memory && memory_proves(r->vm, p->memory, p->memory_digest, e))
		return -1;
	return check_nvram(r, e);
}

/* ---- NVRAM ---- */

/* In the place of what is there, with its owner and mode. order: the new file durable; its name; the folder durable. */
static int put_nvram(const char *path, const void *bytes, size_t len, struct error *e)
{
	const struct target_opts opts = {.sync_at_end = true};
	struct target *target;

	if (target_open(&target, path, &opts, e))
		return -1;
	int failed = io_write(target_io(target), bytes, len, 0, e) || target_commit(target, e);

	target_close(target);
	return failed ? -1 : 0;
}

static int keep_nvram(struct revert *r, const char *path, struct error *e)
{
	AUTO_FREE char *copy = memory_name(r->vm, "nvram", e);
	AUTO_IO struct io *file = NULL;

	if (!copy || io_file_open(&file, path, 0, e) || made_copy(r->vm, copy, file, &r->nvram_kept, e))
		return -1;
	r->nvram_before = STEAL(copy);
	return 0;
}

/* The domain is defined as it is to be: so its NVRAM is where that says. */
int revert_nvram(struct revert *r, struct error *e)
{
	struct vm *vm = r->vm;

	if (!r->nvram_bytes)
		return 0;
	if (vm_look(vm, e))
		return -1;
	if (!vm->domain.nvram) {
		vm_note(vm, "the definition has no NVRAM: that of the snapshot is not used");
		return 0;
	}
	bool there = !access(vm->domain.nvram, F_OK);

	if (there && keep_nvram(r, vm->domain.nvram, e))
		return -1;
	const struct trace t = {.kind = TRACE_NVRAM, .path = vm->domain.nvram, .name = r->nvram_before};

	if (trace_put(vm, &t, &r->nvram, e))
		return -1;
	vm_step(vm, "nvram", NULL);
	return put_nvram(vm->domain.nvram, r->nvram_bytes, r->nvram_len, e);
}

int undo_nvram(struct vm *vm, const struct trace *t, struct error *e)
{
	AUTO_FREE uint8_t *bytes = NULL;
	size_t len;

	if (revert_refuse_early(vm, e))
		return -1;
	vm_step(vm, "nvram", NULL);
	if (!t->name)
		return unlink(t->path) && errno != ENOENT ? err_sys(e, errno, "%s", t->path) : 0;
	return nvram_read(t->name, &bytes, &len, e) || put_nvram(t->path, bytes, len, e) ? -1 : 0;
}
