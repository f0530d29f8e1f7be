/* SPDX-License-Identifier: Apache-2.0
 *
 * A snapshot with the guest's memory and NVRAM. A managed save has written the memory already: its file gets a second name, or, where
 * none can be had, is held open while the guest starts, and copied then. Of a guest that runs the hypervisor writes it to a file of
 * ours, which gets its name when it is whole.
 */
#include "snapshot/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- before the first step ---- */

/* What goes on while the rest goes back does not fit the memory. */
static int refuse_disks(const struct take *t, struct error *e)
{
	for (unsigned i = 0; i < t->domain.disk_count; i++) {
		const struct driver_disk *d = &t->domain.disks[i];
		enum vm_obstacle why = vm_disk_obstacle(d);
		bool part = why == VM_READ_ONLY || why == VM_NO_DISK;

		for (unsigned k = 0; k < t->part_count; k++)
			part = part || t->parts[k].disk == d;
		if (!part)
			return err_set(e, ERR_UNSUPPORTED,
				"the memory fits all disks of one instant only, and %s is %s", d->target,
				why == VM_TAKEN ? "left out" : vm_obstacle_text(why));
	}
	return 0;
}

static int refuse(const struct take *t, struct error *e)
{
	if (!vm_active(t->vm) && !t->domain.saved)
		return err_set(e, ERR_UNSUPPORTED, "domain '%s' is shut off: it has no memory to take", t->domain.name);
	if (!t->opts->keep && !take_to_folder(t))
		return err_set(e, ERR_USAGE, "the memory is kept, or goes to a folder");
	return refuse_disks(t, e);
}

static int name_file(const struct take *t, struct take_file *f, const char *name, struct error *e)
{
	AUTO_FREE char *path = mem_printf(e, "%s%s%s", t->opts->to, take_slash(t), name);
	struct stat st;

	f->path = path ? vm_absolute(path, e) : NULL;
	if (!f->path)
		return -1;
	return lstat(f->path, &st) ? 0 : err_set(e, ERR_USAGE, "%s exists already", f->path);
}

static int name_files(struct take *t, struct error *e)
{
	bool keep = t->opts->keep;

	if (keep && !(t->memory.path = memory_name(t->vm, "memory", e)))
		return -1;
	if (keep && t->domain.nvram && !(t->nvram.path = memory_name(t->vm, "nvram", e)))
		return -1;
	if (!take_to_folder(t))
		return 0;
	if (name_file(t, keep ? &t->memory_beside : &t->memory, "memory.save", e))
		return -1;
	return t->domain.nvram ? name_file(t, keep ? &t->nvram_beside : &t->nvram, "nvram", e) : 0;
}

static void tell_stall(const struct take *t)
{
	const unsigned long long mib = t->domain.memory_bytes >> 20;
	static const char some[] = "written while it runs; it is held for the last of it";
	static const char all[] = "written while it stands still: its hypervisor would miss what it changes meanwhile";

	if (!vm_active(t->vm))
		return;
	if (t->out->mode == VM_COLD)
		vm_note(t->vm, "the guest stands still while its memory, at most %llu MiB, is saved and read again",
			mib);
	else
		vm_note(t->vm, "the guest's memory, at most %llu MiB, is %s", mib, t->memory_still ? all : some);
}

int take_memory_begin(struct take *t, struct error *e)
{
	if (!t->opts->memory)
		return 0;
	if (refuse(t, e) || name_files(t, e) ||
		(t->out->mode != VM_COLD &&
			t->vm->driver->ops->memory_still(t->vm->driver, t->domain.uuid, &t->memory_still, e)))
		return -1;
	tell_stall(t);
	return 0;
}

/* ---- at the instant ---- */

int take_nvram(struct take *t, struct error *e)
{
	return t->nvram.path ? nvram_read(t->domain.nvram, &t->nvram_bytes, &t->nvram_len, e) : 0;
}

/* Nobody writes to it any more when the guest has started: libvirt only takes its own name away. One that stays saved may be changed by
 * who edits it. */
static int link_saved(struct take *t, const char *saved, struct error *e)
{
	struct error why;
	AUTO_FREE char *folder = vm_parent(t->memory.path, &why);

	if (t->domain.state == DRIVER_SHUT_OFF || !folder || !space_is_same(saved, folder))
		return 0;
	if (!made_link(t->vm, saved, t->memory.path, &t->memory.trace, &why)) {
		io_close(STEAL(t->saved));
		return 0;
	}
	unsigned trace = t->memory.trace;

	t->memory.trace = 0;
	return trace ? trace_undo(t->vm, trace, e) : 0;
}

int take_memory_saved(struct take *t, struct error *e)
{
	AUTO_FREE char *saved = NULL;

	if (!t->opts->memory)
		return 0;
	vm_step(t->vm, "memory", NULL);
	if (t->vm->driver->ops->saved_path(t->vm->driver, t->domain.uuid, &saved, e) ||
		io_file_open(&t->saved, saved, 0, e) || link_saved(t, saved, e))
		return -1;
	return take_nvram(t, e);
}

int take_memory_part(struct take *t, struct error *e)
{
	struct take_file *part = &t->memory_part;

	if (!t->opts->memory)
		return 0;
	part->path = mem_printf(e, "%s.part", t->memory.path);
	return part->path ? made_of_bytes(t->vm, part->path, NULL, 0, &part->trace, e) : -1;
}

/* ---- afterwards ---- */

/* order: the file's bytes durable; its name, by which it is known from now on, and the folder; the other name goes. */
static int finish_part(struct take *t, struct error *e)
{
	struct take_file *part = &t->memory_part;

	return made_link(t->vm, part->path, t->memory.path, &t->memory.trace, e) || trace_undo(t->vm, part->trace, e)
		       ? -1
		       : 0;
}

static int sync_file(const char *path, uint64_t *bytes, struct error *e)
{
	AUTO_FREE char *folder = vm_parent(path, e);
	AUTO_IO struct io *file = NULL;

	if (!folder || io_file_open(&file, path, 0, e))
		return -1;
	*bytes = file->size;
	if (fsync(io_file_fd(file)))
		return err_sys(e, errno, "%s", path);
	return folder_sync(folder, e);
}

static int copy_beside(struct take *t, const struct take_file *f, struct take_file *beside, struct error *e)
{
	AUTO_IO struct io *file = NULL;

	if (!beside->path)
		return 0;
	return io_file_open(&file, f->path, 0, e) || made_copy(t->vm, beside->path, file, &beside->trace, e) ? -1 : 0;
}

static int end_nvram(struct take *t, struct error *e)
{
	struct vm_taken *out = t->out;

	if (!t->nvram.path)
		return 0;
	if (made_of_bytes(t->vm, t->nvram.path, t->nvram_bytes, t->nvram_len, &t->nvram.trace, e) ||
		copy_beside(t, &t->nvram, &t->nvram_beside, e) ||
		convert_digest(t->nvram.path, "sha256", NULL, out->nvram_digest, e))
		return -1;
	out->nvram = mem_strdup(t->nvram.path, e);
	return out->nvram ? 0 : -1;
}

int take_memory_end(struct take *t, struct error *e)
{
	struct vm_taken *out = t->out;

	if (!t->opts->memory)
		return 0;
	vm_step(t->vm, "memory", NULL);
	if (t->saved && made_copy(t->vm, t->memory.path, t->saved, &t->memory.trace, e))
		return -1;
	if (t->memory_part.path && finish_part(t, e))
		return -1;
	if (sync_file(t->memory.path, &out->memory_bytes, e))
		return -1;
	if (copy_beside(t, &t->memory, &t->memory_beside, e) || end_nvram(t, e))
		return -1;
	vm_step(t->vm, "digest", NULL);
	if (convert_digest(t->memory.path, "sha256", t->vm->opts.voice.progress, out->memory_digest, e))
		return -1;
	out->memory = mem_strdup(t->memory.path, e);
	return out->memory ? 0 : -1;
}

void take_memory_free(struct take *t)
{
	free(t->memory.path);
	free(t->nvram.path);
	free(t->memory_beside.path);
	free(t->nvram_beside.path);
	free(t->memory_part.path);
	free(t->nvram_bytes);
	io_close(t->saved);
}
