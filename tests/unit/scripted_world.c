/* SPDX-License-Identifier: Apache-2.0
 *
 * The machine of tests/unit/scripted_world.h: its files and its guest.
 */
#include "tests/unit/scripted_world.h"

#include "qcow2/edit.h"
#include "tests/unit/scratch.h"

#include <check.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { CLUSTER = 4096, RECORD = 1000 };

static const struct world *the_world;

int __real_statvfs64(const char *path, struct statvfs *fs);
int __wrap_statvfs64(const char *path, struct statvfs *fs);
int __wrap_statvfs64(const char *path, struct statvfs *fs)
{
	int failed = __real_statvfs64(path, fs);

	if (!failed && the_world && the_world->free_bytes) {
		fs->f_bavail = the_world->free_bytes / fs->f_frsize;
		fs->f_blocks = (1ull << 30) / fs->f_frsize;
	}
	return failed;
}

static void must(int failed, const struct error *e)
{
	if (failed)
		ck_abort_msg("%s", e->msg);
}

static void create(const char *path, enum driver_format format, const struct world_image *below, uint32_t cluster)
{
	struct image_create c;
	struct io *file;
	struct error e;

	image_create_defaults(&c, format == DRIVER_RAW ? IMAGE_RAW : IMAGE_QCOW2);
	c.size = WORLD_BYTES;
	if (format == DRIVER_QCOW2)
		c.cluster_size = cluster;
	if (below) {
		c.backing_name = below->path;
		c.backing_format = below->format == DRIVER_RAW ? "raw" : "qcow2";
	}
	must(io_file_create(&file, path, &e) || image_create_run(&c, file, NULL, &e), &e);
	io_close(file);
}

static void write_disk(const struct world_image *top, const uint8_t *bytes, size_t len, uint64_t guest)
{
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .write = true, .lock = IO_LOCK_NONE};
	AUTO_CHAIN struct chain *c = NULL;
	struct edited d;
	struct error e;

	if (top->format == DRIVER_RAW) {
		AUTO_IO struct io *file = NULL;

		must(io_file_open(&file, top->path, IO_OPEN_WRITE, &e) || io_write(file, bytes, len, guest, &e), &e);
		return;
	}
	must(chain_open(&c, top->path, &opts, &e) || edited_open(&d, c, 0, NULL, &e), &e);
	must(edit_write(d.ed, bytes, len, guest, &e), &e);
	must(edited_close(&d, &e), &e);
}

bool world_active(const struct world *w)
{
	return w->state != DRIVER_SHUT_OFF;
}

static void write_record(struct world *w)
{
	uint8_t bytes[RECORD];

	w->written++;
	for (unsigned i = 0; i < w->disk_count; i++) {
		struct world_disk *d = &w->disks[i];
		uint64_t guest = w->written * 7919ull * 512 % (WORLD_BYTES - RECORD);

		if (d->network)
			continue;
		memset(bytes, (int)(w->written % 250 + 1), sizeof bytes);
		write_disk(&d->in_use.images[0], bytes, sizeof bytes, guest);
		memcpy(d->content + guest, bytes, sizeof bytes);
	}
}

void world_tick(struct world *w)
{
	if (w->state == DRIVER_RUNNING)
		write_record(w);
}

void world_memory_head(const struct world *w, char line[WORLD_PATH])
{
	snprintf(line, WORLD_PATH, "%s\n", w->uuid);
}

int world_memory_to(const struct world *w, int fd)
{
	for (unsigned i = 0; i < w->disk_count; i++)
		for (size_t done = 0; done < WORLD_BYTES;) {
			ssize_t n = write(fd, w->disks[i].content + done, WORLD_BYTES - done);

			if (n <= 0)
				return -1;
			done += (size_t)n;
		}
	return 0;
}

void world_write_memory(const struct world *w, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char line[WORLD_PATH];

	ck_assert_int_ge(fd, 0);
	world_memory_head(w, line);
	ck_assert_int_eq(write(fd, line, strlen(line)), (ssize_t)strlen(line));
	ck_assert_int_eq(world_memory_to(w, fd), 0);
	ck_assert_int_eq(close(fd), 0);
}

bool world_memory_fits(const struct world *w, const char *path)
{
	uint8_t bytes[WORLD_BYTES];
	FILE *f = fopen(path, "r");
	char line[100];
	bool fits = f && fgets(line, sizeof line, f) && strncmp(line, w->uuid, strlen(w->uuid)) == 0;

	for (unsigned i = 0; fits && i < w->disk_count; i++)
		fits = fread(bytes, 1, WORLD_BYTES, f) == WORLD_BYTES &&
		       memcmp(bytes, w->disks[i].content, WORLD_BYTES) == 0;
	if (f)
		fclose(f);
	return fits;
}

void world_write_nvram(struct world *w, unsigned value)
{
	FILE *f = fopen(WORLD_NVRAM, "w");

	ck_assert_ptr_nonnull(f);
	fprintf(f, "%u", value);
	ck_assert_int_eq(fclose(f), 0);
	w->nvram = value;
}

void world_instant(struct world *w)
{
	w->instant_was = true;
	w->nvram_instant = w->nvram;
	for (unsigned i = 0; i < w->disk_count; i++)
		memcpy(w->disks[i].instant, w->disks[i].content, WORLD_BYTES);
}

void world_crash(struct world *w)
{
	if (!world_active(w))
		return;
	w->state = DRIVER_SHUT_OFF;
	w->frozen = w->paused_by_user = w->memory_holds = false;
	w->memory = MEMORY_STAYS;
	w->device_attached = w->device;
	if (!w->instant_was)
		world_instant(w);
	for (unsigned i = 0; i < w->disk_count; i++) {
		w->disks[i].in_use = w->disks[i].defined;
		w->disks[i].job = DRIVER_NO_JOB;
	}
}

void world_settle(struct world *w, const char *what)
{
	uint8_t bytes[WORLD_BYTES];
	unsigned back = 0, here = 0, disks = 0;

	for (unsigned i = 0; i < w->disk_count; i++) {
		const struct world_disk *d = &w->disks[i];

		if (d->network)
			continue;
		disks++;
		world_read(d->defined.images[0].path, d->defined.images[0].format, NULL, bytes);
		here += memcmp(bytes, d->content, WORLD_BYTES) == 0;
		back += memcmp(bytes, d->instant, WORLD_BYTES) == 0;
	}
	ck_assert_msg(here == disks || back == disks, "%s: of %u disks %u are as written, %u of the instant", what,
		disks, here, back);
	if (here == disks)
		return;
	w->back = true;
	w->nvram = w->nvram_instant;
	for (unsigned i = 0; i < w->disk_count; i++)
		memcpy(w->disks[i].content, w->disks[i].instant, WORLD_BYTES);
}

/* ---- a new one ---- */

static void add_image(struct world_chain *c, const char *name, enum driver_format format)
{
	char folder[WORLD_PATH / 2];
	struct world_image *image = &c->images[c->count++];

	ck_assert_ptr_nonnull(getcwd(folder, sizeof folder));
	snprintf(image->path, sizeof image->path, "%s/%.100s", folder, name);
	image->format = format;
}

static void add_disk(struct world *w, const char *target, enum driver_format format, bool over_base)
{
	struct world_disk *d = &w->disks[w->disk_count++];
	char name[16];

	snprintf(d->target, sizeof d->target, "%s", target);
	snprintf(name, sizeof name, "%s.%s", target, format == DRIVER_RAW ? "raw" : "qcow2");
	add_image(&d->in_use, name, format);
	if (over_base)
		add_image(&d->in_use, "base.qcow2", DRIVER_QCOW2);
	for (unsigned i = d->in_use.count; i-- > 0;) {
		const struct world_image *image = &d->in_use.images[i];
		uint8_t bytes[20000];

		char overlay[WORLD_PATH + 16];

		snprintf(overlay, sizeof overlay, "%s.qsnap-s", image->path);
		unlink(overlay);
		unlink(image->path);
		create(image->path, image->format, i + 1 < d->in_use.count ? image + 1 : NULL, CLUSTER);
		memset(bytes, 'A' + (int)i, sizeof bytes);
		write_disk(image, bytes, sizeof bytes, i * 30000u);
		memcpy(d->content + i * 30000u, bytes, sizeof bytes);
	}
	d->defined = d->in_use;
}

void world_reset(struct world *w, bool raw_second)
{
	memset(w, 0, sizeof *w);
	unlink(WORLD_SAVED);
	unlink(WORLD_NVRAM);
	w->state = DRIVER_RUNNING;
	snprintf(w->xml, sizeof w->xml, "<domain/>");
	snprintf(w->name, sizeof w->name, "machine");
	snprintf(w->uuid, sizeof w->uuid, WORLD_UUID);
	w->agent = w->device = w->device_attached = true;
	add_disk(w, "vda", DRIVER_QCOW2, true);
	add_disk(w, "vdb", raw_second ? DRIVER_RAW : DRIVER_QCOW2, false);
	world_tick(w);
	world_instant(w);
	w->instant_was = false;
}

struct world *world_new(bool raw_second)
{
	ck_assert(scratch_enter(SCRATCH_TMPFS));
	struct world *w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert(w != MAP_FAILED);
	the_world = w;
	world_reset(w, raw_second);
	return w;
}

void world_free(struct world *w)
{
	the_world = NULL;
	munmap(w, sizeof *w);
	scratch_leave();
}

/* ---- what a hypervisor does to disks ---- */

int world_snapshot(const char *path, const char *name, bool make, struct error *e)
{
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .no_backing = true, .write = true, .lock = IO_LOCK_NONE};
	const struct snapshot_new n = {.name = name, .icount = UINT64_MAX};
	const struct snapshot_query q = {.name = name};
	AUTO_CHAIN struct chain *c = NULL;
	struct edit *ed;
	struct error later;

	if (chain_open(&c, path, &opts, e))
		return -1;
	int index = qcow2_snapshot_find(c->layers[0].q, &q, e);

	if (make ? index >= 0 : index < 0)
		return err_set(e, ERR_IO, "%s: snapshot '%s' is there, or not there", path, name);
	if (edit_open(&ed, &c->layers[0], &(struct edit_opts){0}, e))
		return -1;
	int failed = make ? edit_snapshot_create(ed, &n, e) : edit_snapshot_delete(ed, (uint32_t)index, 0, e);

	return edit_close(ed, failed ? &later : e) || failed ? -1 : 0;
}

bool world_has_snapshot(const char *path, const char *name)
{
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .no_backing = true, .lock = IO_LOCK_NONE};
	AUTO_CHAIN struct chain *c = NULL;
	struct error e;

	must(chain_open(&c, path, &opts, &e), &e);
	return qcow2_snapshot_find(c->layers[0].q, &(struct snapshot_query){.name = name}, &e) >= 0;
}

static int copy_extents(struct walk *walk, struct reader *r, struct edit *to, struct error *e)
{
	uint8_t bytes[CLUSTER];

	for (uint64_t at = 0; at < WORLD_BYTES;) {
		struct extent x;

		if (walk_extent(walk, at, min_u64(at + CLUSTER, WORLD_BYTES), &x, e))
			return -1;
		at += x.len;
		if (x.kind == EXTENT_ABSENT)
			continue;
		if (x.kind == EXTENT_ZERO
				? edit_zero(to, x.start, x.len, EDIT_SAY_ZERO, e)
				: reader_read(r, &x, 0, bytes, x.len, e) || edit_write(to, bytes, x.len, x.start, e))
			return -1;
	}
	return 0;
}

static int copy_qcow2(const char *from, const char *path, struct error *e)
{
	const struct chain_opts reading = {.format = IMAGE_QCOW2, .no_backing = true, .lock = IO_LOCK_NONE},
				writing = {.format = IMAGE_QCOW2, .write = true, .lock = IO_LOCK_NONE};
	AUTO_CHAIN struct chain *source = NULL, *target = NULL;
	struct walk *walk;
	struct reader *r;
	struct edited d;

	must(chain_open(&source, from, &reading, e) || chain_open(&target, path, &writing, e) ||
			walk_new(&walk, source, 1, 0, e) || reader_new(&r, e) || edited_open(&d, target, 0, NULL, e),
		e);
	int failed = copy_extents(walk, r, d.ed, e);

	failed |= edited_close(&d, e);
	reader_free(r);
	walk_free(walk);
	return failed;
}

int world_copy_top(const struct world_disk *d, struct error *e)
{
	uint8_t bytes[WORLD_BYTES];
	AUTO_IO struct io *to = NULL;

	if (d->in_use.images[0].format == DRIVER_QCOW2)
		return copy_qcow2(d->in_use.images[0].path, d->copy_to, e);
	world_read(d->in_use.images[0].path, DRIVER_RAW, NULL, bytes);
	return io_file_open(&to, d->copy_to, IO_OPEN_WRITE, e) || io_write(to, bytes, sizeof bytes, 0, e) ? -1 : 0;
}

int world_overlay(const char *path, const struct world_image *below, struct error *e)
{
	if (access(path, F_OK) == 0)
		return err_set(e, ERR_IO, "%s exists", path);
	create(path, DRIVER_QCOW2, below, CLUSTER);
	return 0;
}

int world_commit(const char *overlay, struct error *e)
{
	const struct chain_opts opts = {.format = IMAGE_QCOW2, .write = true, .write_layer = 1, .lock = IO_LOCK_NONE};
	AUTO_CHAIN struct chain *c = NULL;

	return chain_open(&c, overlay, &opts, e) ||
			       convert_commit(&(struct commit_opts){.image = c, .base = 1, .keep = true}, e)
		       ? -1
		       : 0;
}
