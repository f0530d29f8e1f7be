/* SPDX-License-Identifier: Apache-2.0
 *
 * Disks' files locked as QEMU locks what it writes to, so that nothing is started on them while several of them are changed one
 * after the other. Our engine changes them meanwhile without a lock of its own.
 */
#include "snapshot/internal.h"

struct hold {
	char *path;
	struct io *file;
};

int vm_hold(struct vm *vm, const char *path, struct error *e)
{
	struct hold *more = realloc(vm->held, (vm->held_count + 1) * sizeof *more);

	if (!more)
		return err_set(e, ERR_NO_MEMORY, "no memory for a list of files");
	vm->held = more;
	struct hold *h = &more[vm->held_count];

	*h = (struct hold){.path = mem_strdup(path, e)};
	if (!h->path)
		return -1;
	vm->held_count++;
	return io_file_open(&h->file, path, IO_OPEN_WRITE, e) || io_lock(h->file, IO_LOCK_WRITE, e) ? -1 : 0;
}

enum io_lock_mode vm_lock_for(const struct vm *vm, const char *path)
{
	for (unsigned i = 0; i < vm->held_count; i++)
		if (disk_same_file(vm->held[i].path, path))
			return IO_LOCK_NONE;
	return IO_LOCK_WRITE;
}

void vm_let_go(struct vm *vm)
{
	while (vm->held_count) {
		struct hold *h = &vm->held[--vm->held_count];

		io_close(h->file);
		free(h->path);
	}
	free(STEAL(vm->held));
}
