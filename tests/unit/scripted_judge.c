/* SPDX-License-Identifier: Apache-2.0
 *
 * What is left of the machine of tests/unit/scripted_world.h, looked at with the engine and by hand.
 */
#include "qcow2/check.h"
#include "tests/unit/scratch.h"
#include "tests/unit/scripted_world.h"

#include <check.h>
#include <dirent.h>
#include <unistd.h>

static enum image_format image_format(enum driver_format f)
{
	return f == DRIVER_RAW ? IMAGE_RAW : IMAGE_QCOW2;
}

void world_read(const char *path, enum driver_format format, const char *snapshot, uint8_t bytes[WORLD_BYTES])
{
	const struct snapshot_query query = {.name = snapshot};
	const struct chain_opts opts = {
		.format = image_format(format), .lock = IO_LOCK_NONE, .snapshot = snapshot ? &query : NULL};
	AUTO_CHAIN struct chain *c = NULL;
	AUTO_IO struct io *io = NULL;
	struct error e;

	if (chain_open(&c, path, &opts, &e) || chain_io(&io, c, &e))
		ck_abort_msg("%s", e.msg);
	ck_assert_uint_eq(c->size, WORLD_BYTES);
	if (io_read(io, bytes, WORLD_BYTES, 0, &e))
		ck_abort_msg("%s", e.msg);
	io_close(STEAL(io));
}

void world_judge_image(const char *path, unsigned snapshots, const char *what)
{
	const struct chain_opts opts = {
		.format = IMAGE_QCOW2, .no_backing = true, .inspect = true, .lock = IO_LOCK_NONE};
	AUTO_CHAIN struct chain *c = NULL;
	struct check_result r;
	struct error e;

	if (chain_open(&c, path, &opts, &e) || qcow2_check(&c->layers[0], &(struct check_opts){0}, &r, &e))
		ck_abort_msg("%s: %s", what, e.msg);
	ck_assert_msg(!r.corruptions && !r.check_errors, "%s: %s is damaged", what, path);
	ck_assert_msg(c->layers[0].q->snapshot_count == snapshots, "%s: %s has %u snapshots", what, path,
		c->layers[0].q->snapshot_count);
}

void world_judge_content(const char *path, enum driver_format format, const char *snapshot, const uint8_t *expected,
	const char *what)
{
	uint8_t bytes[WORLD_BYTES];

	world_read(path, format, snapshot, bytes);
	for (unsigned i = 0; i < WORLD_BYTES; i++)
		if (bytes[i] != expected[i])
			ck_abort_msg("%s: %s%s%s: at %u %u, not %u", what, path, snapshot ? ", snapshot " : "",
				snapshot ? snapshot : "", i, bytes[i], expected[i]);
}

static void judge_disk(const struct world *w, const struct world_disk *d, const struct world_disk *before,
	const char *what)
{
	const char *kept = w->kept;

	if (d->network)
		return;
	for (unsigned side = 0; side < 2; side++) {
		const struct world_chain *now = side ? &d->defined : &d->in_use, *then = &before->defined;

		ck_assert_msg(now->count == then->count && !strcmp(now->images[0].path, then->images[0].path) &&
				      now->images[0].format == then->images[0].format,
			"%s: disk %s %s %s", what, d->target, side ? "is defined as" : "is on", now->images[0].path);
	}
	ck_assert_msg(d->job == before->job, "%s: disk %s has a job", what, d->target);
	const struct world_image *top = &d->defined.images[0];

	world_judge_content(top->path, top->format, NULL, d->content, what);
	if (top->format == DRIVER_QCOW2)
		world_judge_image(top->path, (kept != NULL) + w->more, what);
	if (kept)
		world_judge_content(top->path, top->format, kept, d->instant, what);
}

static bool of_machine(const char *name)
{
	return !strcmp(name, "out") || !strcmp(name, "state") || !strcmp(name, "base.qcow2") ||
	       !strcmp(name, "vda.qcow2") || !strcmp(name, "vdb.qcow2") || !strcmp(name, "vdb.raw") ||
	       !strcmp(name, "vdc.qcow2") || name[0] == '.';
}

static bool ends_in(const char *name, const char *ending)
{
	size_t len = strlen(name), least = strlen(ending);

	return len > least && !strcmp(name + len - least, ending);
}

static void judge_files(const struct world *w, bool kept, const char *what)
{
	unsigned memories = 0, nvrams = 0;
	DIR *dir = opendir(".");
	struct dirent *entry;

	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)))
		ck_assert_msg(of_machine(entry->d_name), "%s: %s is left", what, entry->d_name);
	closedir(dir);
	dir = opendir("state");
	while (dir && (entry = readdir(dir))) {
		memories += ends_in(entry->d_name, ".memory");
		nvrams += ends_in(entry->d_name, ".nvram");
		ck_assert_msg(of_machine(entry->d_name) || !strcmp(entry->d_name, WORLD_UUID ".lock") ||
				      ends_in(entry->d_name, ".memory") || ends_in(entry->d_name, ".nvram") ||
				      (kept && !strcmp(entry->d_name, WORLD_UUID ".snapshots")),
			"%s: state/%s is left", what, entry->d_name);
	}
	if (dir)
		closedir(dir);
	ck_assert_msg(memories == w->kept_memory && nvrams == w->kept_nvram, "%s: %u files with memory, %u with NVRAM",
		what, memories, nvrams);
}

static void judge_nvram(const char *path, unsigned value, const char *what)
{
	unsigned found = 0;
	FILE *f = fopen(path, "r");

	if (f && fscanf(f, "%u", &found) != 1)
		found = 0;
	if (f)
		fclose(f);
	ck_assert_msg(found == value, "%s: %s has %u, not %u", what, path, found, value);
}

void world_judge_memory(const struct world *w, const char *memory, const char *nvram, const char *what)
{
	struct world then = *w;

	for (unsigned i = 0; i < then.disk_count; i++)
		memcpy(then.disks[i].content, then.disks[i].instant, WORLD_BYTES);
	ck_assert_msg(world_memory_fits(&then, memory), "%s: %s is not the memory of the instant", what, memory);
	judge_nvram(nvram, w->nvram_instant, what);
}

void world_judge(const struct world *w, const struct world *before, const char *what)
{
	ck_assert_msg(w->state == before->state, "%s: state %d, not %d", what, w->state, before->state);
	ck_assert_msg(w->saved == before->saved, "%s: %s saved", what, w->saved ? "is" : "is not");
	ck_assert_msg(w->paused_by_user == before->paused_by_user, "%s: paused by user", what);
	ck_assert_msg(strcmp(w->xml, before->xml) == 0, "%s: defined as %s", what, w->xml);
	ck_assert_msg(!w->frozen, "%s: is frozen", what);
	ck_assert_msg(w->memory == MEMORY_STAYS, "%s: its memory goes somewhere", what);
	ck_assert_msg(w->device_attached == before->device_attached, "%s: device", what);
	ck_assert_msg(w->kept || w->record_count == before->record_count, "%s: %u records", what, w->record_count);
	for (unsigned i = 0; i < w->disk_count; i++)
		judge_disk(w, &w->disks[i], &before->disks[i], what);
	judge_files(w, w->kept || w->more, what);
	judge_nvram(WORLD_NVRAM, w->nvram, what);
}

void world_judge_output(const struct world *w, bool whole, const char *what)
{
	unsigned names = 0;
	DIR *dir = opendir("out");
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		names += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	ck_assert_msg(names == (whole ? w->disk_count + 1 + 2 * w->memory_out : 0), "%s: %u files in out", what, names);
	if (!whole)
		return;
	if (w->memory_out)
		world_judge_memory(w, "out/memory.save", "out/nvram", what);
	ck_assert_msg(access("out/manifest.json", F_OK) == 0, "%s: no manifest", what);
	for (unsigned i = 0; i < w->disk_count; i++) {
		char path[64];

		snprintf(path, sizeof path, "out/%s.qcow2", w->disks[i].target);
		world_judge_content(path, DRIVER_QCOW2, NULL, w->disks[i].instant, what);
	}
}
