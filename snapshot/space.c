/* SPDX-License-Identifier: Apache-2.0
 *
 * Space, before the first step: an uncompressed image takes what its disk's metadata say. What a compressed one takes, and how
 * much the guest writes meanwhile, nobody knows beforehand: so where the disks are, space is looked at all the time, and the
 * snapshot is given up while the guest has some left.
 */
#include "snapshot/internal.h"

#include <errno.h>
#include <libgen.h>
#include <sys/statvfs.h>

/* A raw image has holes where a qcow2 one has nothing. */
static int image_bytes(const struct part *p, uint64_t *bytes, struct error *e)
{
	struct image_create create;
	AUTO_CHAIN struct chain *c = NULL;
	struct measure_result m;
	struct chain_opts opts;

	image_create_defaults(&create, IMAGE_QCOW2);
	disk_chain_opts(p, &opts);
	opts.lock = IO_LOCK_SHARED;
	if (chain_open(&c, p->path, &opts, e) ||
		(p->since_name ? take_since_bytes(p, c, &m.required, e) : convert_measure(c, &create, &m, e)))
		return err_prefix(e, "disk %s", p->disk->target);
	*bytes = m.required;
	return 0;
}

/* Of a file system; but all of a small one is not for us to keep free. */
enum { RESERVE_BYTES = 1 << 30, RESERVE_PART = 20, WATCH_NS = 100000000 };

static int room_beside(const char *path, uint64_t wanted, struct error *e)
{
	struct statvfs fs;

	if (statvfs(path, &fs))
		return err_sys(e, errno, "%s", path);
	uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize,
		 reserve = min_u64(RESERVE_BYTES, (uint64_t)fs.f_blocks * fs.f_frsize / RESERVE_PART);

	if (free_bytes >= reserve && free_bytes - reserve >= wanted)
		return 0;
	return err_set(e, ERR_LIMIT,
		"%s: %llu bytes are free on its file system; a snapshot of a running guest needs %llu there, and %llu "
		"that "
		"the guest can still write",
		path, (unsigned long long)free_bytes, (unsigned long long)wanted, (unsigned long long)reserve);
}

static bool is_device(const struct part *p)
{
	return strcmp(p->disk->images[0].kind, "block") == 0;
}

int take_space_left(const struct take *t, struct error *e)
{
	for (unsigned i = 0; i < t->part_count && vm_active(t->vm); i++)
		if (!is_device(&t->parts[i]) && room_beside(t->parts[i].disk->images[0].path, 0, e))
			return -1;
	return 0;
}

/* A copy of a disk's top lies beside it, of a device in the state folder. */
static int space_for_copies(const struct take *t, struct error *e)
{
	for (unsigned i = 0; i < t->part_count; i++) {
		const char *top = t->parts[i].disk->images[0].path;
		AUTO_IO struct io *file = NULL;

		if (io_file_open(&file, top, 0, e))
			return -1;
		uint64_t wanted = is_device(&t->parts[i]) ? file->size : io_file_allocated(file);

		if (room_beside(is_device(&t->parts[i]) ? t->vm->opts.state_dir : top, wanted, e))
			return -1;
	}
	return 0;
}

/* The hypervisor writes as much as the guest uses, which is known when it is written. */
static int space_for_memory(const struct take *t, struct error *e)
{
	if (!t->memory.path || t->out->mode == VM_COLD)
		return 0;
	AUTO_FREE char *folder = vm_parent(t->memory.path, e), *above = NULL;
	struct stat st;

	if (!folder)
		return -1;
	if (!stat(folder, &st))
		return room_beside(folder, t->domain.memory_bytes, e);
	above = vm_parent(folder, e); /* the one of --to is made later */
	return above ? room_beside(above, t->domain.memory_bytes, e) : -1;
}

static void watch(void *ctx, uint64_t done, uint64_t total)
{
	struct space_watch *w = ctx;
	uint64_t now = take_now_ns();

	progress_report(w->theirs, done, total);
	if (now - w->looked_at >= WATCH_NS && !w->why.code) {
		w->looked_at = now;
		if (take_space_left(w->take, &w->why) && w->why.code != ERR_LIMIT)
			w->why.code = ERR_OK; /* that it cannot be told is no reason to stop */
	}
	if (w->why.code || progress_cancelled(w->theirs))
		atomic_store(&w->stop, true);
}

void space_watch_begin(struct space_watch *w, const struct take *t)
{
	*w = (struct space_watch){.take = t, .theirs = t->vm->opts.voice.progress};
	atomic_init(&w->stop, false);
	w->progress = (struct progress){.report = watch, .ctx = w, .cancel = &w->stop};
}

bool space_is_same(const char *a, const char *b)
{
	struct stat one, other;

	return !stat(a, &one) && !stat(b, &other) && one.st_dev == other.st_dev;
}

int space_refuse(const char *path, const char *what, uint64_t wanted, struct error *e)
{
	struct statvfs fs;

	if (statvfs(path, &fs))
		return err_sys(e, errno, "%s", path);
	const uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;

	return wanted <= free_bytes ? 0
				    : err_set(e, ERR_LIMIT, "%s: %s need %llu bytes and %llu are free", path, what,
					      (unsigned long long)wanted, (unsigned long long)free_bytes);
}

static int space_for_images(struct take *t, struct error *e)
{
	AUTO_FREE char *to = NULL;
	uint64_t needed = 0, bytes;
	struct stat st;

	if (!t->opts->to || strcmp(t->opts->to, "-") == 0 || t->opts->compress)
		return 0;
	to = mem_strdup(t->opts->to, e);
	for (unsigned i = 0; to && i < t->part_count; i++) {
		if (image_bytes(&t->parts[i], &bytes, e))
			return -1;
		needed += bytes;
	}
	return to ? space_refuse(stat(to, &st) ? dirname(to) : to, "the images", needed, e) : -1;
}

int take_space(struct take *t, struct error *e)
{
	if (take_space_left(t, e) || space_for_memory(t, e) || (t->out->mode == VM_LIVE && space_for_copies(t, e)))
		return -1;
	return space_for_images(t, e);
}
