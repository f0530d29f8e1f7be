/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver of tests/unit/scripted_driver.h: what it tells of the machine, and what it does to its disks.
 */
#include "tests/unit/scripted_internal.h"

#include <check.h>
#include <time.h>

#define S ((struct scripted *)d)
#define BEGIN(op)                                                                                                      \
	if (scripted_begin(S, op, e))                                                                                  \
	return -1

static int refused(struct scripted *s, const char *why, struct error *e)
{
	return err_set(e, ERR_IO, "%s: %s", s->w->last_op, why);
}

/* ---- looking ---- */

static struct driver_disk look_at_disk(const struct world *w, const struct world_disk *d)
{
	const struct world_chain *c = world_active(w) ? &d->in_use : &d->defined;
	struct driver_disk out = {.target = strdup(d->target),
		.image_count = world_active(w) ? c->count : 1,
		.whole_chain = world_active(w),
		.readonly = d->readonly,
		.shareable = d->shareable,
		.transient = d->transient,
		.encrypted = d->encrypted,
		.busy = d->job != DRIVER_NO_JOB,
		.defined = world_active(w) && !d->network ? strdup(d->defined.images[0].path) : NULL,
		.copy_to = d->job == DRIVER_COPY ? strdup(d->copy_to) : NULL};

	out.images = calloc(out.image_count, sizeof *out.images);
	for (unsigned i = 0; i < out.image_count; i++) {
		bool network = d->network || (i && w->network_below);

		out.images[i].path = network ? NULL : strdup(c->images[i].path);
		out.images[i].kind = strdup(network ? "network" : d->block ? "block" : "file");
		out.images[i].format = d->other_format ? DRIVER_FORMAT_OTHER : c->images[i].format;
	}
	return out;
}

int scripted_look(struct driver *d, const char *domain, struct driver_domain *out, struct error *e)
{
	const struct world *w = S->w;

	BEGIN("look");
	if (w->undefined || (strcmp(domain, w->uuid) != 0 && strcmp(domain, w->name) != 0))
		return err_set(e, ERR_NOT_FOUND, "no domain %s", domain);
	*out = (struct driver_domain){.name = strdup(w->name),
		.state = w->state,
		.paused_by_user = w->paused_by_user,
		.persistent = !w->transient,
		.saved = w->saved,
		.ended_well = w->ended_well && w->state == DRIVER_SHUT_OFF && !w->saved,
		.agent = w->agent && world_active(w),
		.snapshots = w->external_records,
		.job = w->foreign_job ? strdup("migration") : NULL,
		.xml = strdup(w->xml),
		.nvram = w->nvram ? strdup(WORLD_NVRAM) : NULL,
		.memory_bytes = WORLD_BYTES,
		.disks = calloc(w->disk_count, sizeof *out->disks),
		.disk_count = w->disk_count,
		.host_devices = calloc(1, sizeof *out->host_devices)};
	snprintf(out->uuid, sizeof out->uuid, "%s", w->uuid);
	for (unsigned i = 0; i < w->disk_count; i++)
		out->disks[i] = look_at_disk(w, &w->disks[i]);
	if (w->device && (w->device_attached || !world_active(w)))
		out->host_devices[out->host_device_count++] = strdup(SCRIPTED_DEVICE);
	return 0;
}

/* ---- snapshots ---- */

int scripted_internal_create(struct driver *d, const char *uuid, const char *const *targets, unsigned count,
	const char *name, struct error *e)
{
	(void)uuid;
	BEGIN("internal_create");
	if (!world_active(S->w) || S->w->memory == MEMORY_WRITTEN)
		return refused(S, "the machine is off, or its disks are closed", e);
	world_instant(S->w);
	for (unsigned i = 0; i < count; i++)
		if (world_has_snapshot(scripted_disk(S, targets[i])->in_use.images[0].path, name))
			return err_set(e, ERR_USAGE, "internal_create: snapshot '%s' already exists", name);
	for (unsigned i = 0; i < count; i++)
		if (world_snapshot(scripted_disk(S, targets[i])->in_use.images[0].path, name, true, e))
			return -1;
	return scripted_end(S, e);
}

int scripted_internal_delete(struct driver *d, const char *uuid, const char *target, const char *name, const char *id,
	struct error *e)
{
	(void)uuid, (void)id;
	BEGIN("internal_delete");
	if (!world_active(S->w) || S->w->memory == MEMORY_WRITTEN)
		return refused(S, "the machine is off, or its disks are closed", e);
	if (world_snapshot(scripted_disk(S, target)->in_use.images[0].path, name, false, e))
		return -1;
	return scripted_end(S, e);
}

static void push(struct world_chain *c, const struct world_image *image)
{
	memmove(&c->images[1], &c->images[0], c->count * sizeof *c->images);
	c->images[0] = *image;
	c->count++;
}

static void pop(struct world_chain *c)
{
	c->count--;
	memmove(&c->images[0], &c->images[1], c->count * sizeof *c->images);
}

int scripted_overlay(struct driver *d, const char *uuid, const struct driver_new_file *files, unsigned count,
	struct error *e)
{
	(void)uuid;
	BEGIN("overlay");
	if (!world_active(S->w) || S->w->memory == MEMORY_WRITTEN)
		return refused(S, "the machine is off, or its disks are closed", e);
	for (unsigned i = 0; i < count; i++)
		if (world_overlay(files[i].path, &scripted_disk(S, files[i].target)->in_use.images[0], e))
			return -1;
	world_instant(S->w);
	for (unsigned i = 0; i < count; i++) {
		struct world_disk *disk = scripted_disk(S, files[i].target);
		struct world_image image = {.format = files[i].format};

		snprintf(image.path, sizeof image.path, "%s", files[i].path);
		push(&disk->in_use, &image);
		if (!S->w->late_definition)
			disk->defined = disk->in_use;
	}
	return scripted_end(S, e);
}

/* ---- jobs ---- */

static int begin_job(struct scripted *s, struct world_disk *disk, enum driver_job_kind kind, struct error *e)
{
	if (!world_active(s->w) || s->w->memory == MEMORY_WRITTEN || disk->job != DRIVER_NO_JOB)
		return refused(s, "the machine is off, or the disk busy", e);
	disk->job = kind;
	disk->polls = s->w->ready_polls;
	return 0;
}

int scripted_copy(struct driver *d, const char *uuid, const struct driver_new_file *to, unsigned flags, struct error *e)
{
	struct world_disk *disk = scripted_disk(S, to->target);

	(void)uuid;
	BEGIN("copy");
	if (to->format != disk->in_use.images[0].format ||
		(disk->in_use.count > 1) != ((flags & DRIVER_COPY_SHALLOW) != 0))
		return refused(S, "a copy of another kind", e);
	if (begin_job(S, disk, DRIVER_COPY, e))
		return -1;
	if (flags & DRIVER_COPY_SYNC)
		disk->polls = 0;
	snprintf(disk->copy_to, sizeof disk->copy_to, "%s", to->path);
	return scripted_end(S, e);
}

int scripted_commit(struct driver *d, const char *uuid, const char *target, const char *base, struct error *e)
{
	struct world_disk *disk = scripted_disk(S, target);

	(void)uuid;
	BEGIN("commit");
	if (disk->in_use.count < 2 || strcmp(disk->in_use.images[1].path, base) != 0)
		return refused(S, "another base", e);
	if (begin_job(S, disk, DRIVER_COMMIT, e))
		return -1;
	return scripted_end(S, e);
}

int scripted_job(struct driver *d, const char *uuid, const char *target, struct driver_job *out, struct error *e)
{
	struct world_disk *disk = scripted_disk(S, target);

	(void)uuid;
	BEGIN("job");
	*out = (struct driver_job){.kind = disk->job, .done = 10 - min_u64(disk->polls, 10), .total = 10};
	out->ready = !disk->polls;
	disk->polls -= disk->polls > 0;
	return 0;
}

static int pivot_to_base(struct scripted *s, struct world_disk *disk, struct error *e)
{
	if (disk->job != DRIVER_COMMIT || disk->polls)
		return refused(s, "not ready", e);
	disk->job = DRIVER_NO_JOB;
	if (scripted_relock(s, e) || world_commit(disk->in_use.images[0].path, e))
		return -1;
	pop(&disk->in_use);
	if (!s->w->late_definition)
		disk->defined = disk->in_use;
	return scripted_end(s, e);
}

int scripted_end_job(struct driver *d, const char *uuid, const char *target, enum driver_end how, struct error *e)
{
	struct world_disk *disk = scripted_disk(S, target);
	bool breaks = disk->job == DRIVER_COPY && S->w->copies_break;

	(void)uuid;
	BEGIN("end_job");
	if (how == DRIVER_END_PIVOT)
		return pivot_to_base(S, disk, e);
	if (disk->job == DRIVER_NO_JOB)
		return refused(S, "no job", e);
	if (disk->job == DRIVER_COPY && !disk->polls && !breaks && world_copy_top(disk, e))
		return -1;
	disk->job = DRIVER_NO_JOB;
	if (breaks && how == DRIVER_END_WHOLE)
		return refused(S, "the copy failed at its end", e);
	return scripted_end(S, e);
}

/* The file below the one that is defined, or one above it. */
int scripted_set_source(struct driver *d, const char *uuid, const struct driver_new_file *file, struct error *e)
{
	struct world_disk *disk = scripted_disk(S, file->target);
	struct world_image image = {.format = file->format};

	(void)uuid;
	BEGIN("set_source");
	snprintf(image.path, sizeof image.path, "%s", file->path);
	if (disk->defined.count > 1 && strcmp(disk->defined.images[1].path, file->path) == 0) {
		if (disk->defined.images[1].format != file->format)
			return refused(S, "another format", e);
		pop(&disk->defined);
	} else if (strstr(file->path, ".qsnap-s") && file->format == DRIVER_QCOW2) {
		push(&disk->defined, &image);
	} else {
		return refused(S, "another source", e);
	}
	if (!world_active(S->w))
		disk->in_use = disk->defined;
	return scripted_end(S, e);
}

/* ---- records ---- */

int scripted_records(struct driver *d, const char *uuid, struct driver_record **out, unsigned *count, struct error *e)
{
	(void)uuid;
	BEGIN("records");
	*out = calloc(WORLD_RECORDS, sizeof **out);
	for (*count = 0; *count < S->w->record_count; ++*count)
		(*out)[*count].name = strdup(S->w->records[*count]);
	return 0;
}

int scripted_define_record(struct driver *d, const char *uuid, const char *name, int64_t created,
	const char *const *targets, unsigned count, struct error *e)
{
	struct world *w = S->w;

	(void)uuid, (void)created, (void)targets, (void)count;
	BEGIN("define_record");
	if (w->record_count == WORLD_RECORDS)
		return refused(S, "no room", e);
	snprintf(w->records[w->record_count++], sizeof *w->records, "%s", name);
	return scripted_end(S, e);
}

int scripted_forget_record(struct driver *d, const char *uuid, const char *name, struct error *e)
{
	struct world *w = S->w;

	(void)uuid;
	BEGIN("forget_record");
	for (unsigned i = 0; i < w->record_count; i++) {
		if (strcmp(w->records[i], name) != 0)
			continue;
		memmove(w->records[i], w->records[i + 1], (w->record_count - i - 1) * sizeof *w->records);
		w->record_count--;
		return scripted_end(S, e);
	}
	return refused(S, "no such record", e);
}
