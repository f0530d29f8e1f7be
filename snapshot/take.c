/* SPDX-License-Identifier: Apache-2.0
 *
 * A snapshot from its beginning to its end: look, choose, freeze the state, extract, and take back what was left for the
 * time being. Whatever fails on the way, the end is the same.
 */
#include "snapshot/memory.h"

#include <ctype.h>
#include <errno.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_NAME = 200 };

void vm_take_defaults(struct vm_take *t)
{
	*t = (struct vm_take){.threads = pool_cpu_count(), .stream_fd = -1};
	image_create_defaults(&t->create, IMAGE_QCOW2);
}

void vm_taken_free(struct vm_taken *t)
{
	for (unsigned i = 0; i < t->disk_count; i++) {
		free(t->disks[i].target);
		free(t->disks[i].path);
		free(t->disks[i].base);
	}
	free(t->disks);
	free(t->name);
	free(t->since);
	free(t->memory);
	free(t->nvram);
	*t = (struct vm_taken){0};
}

char *take_beside(const struct take *t, const struct part *p, struct error *e)
{
	const struct driver_image *top = &p->disk->images[0];
	bool device = strcmp(top->kind, "block") == 0;
	struct stat st;

	if (device &&
		folder_let_through(t->vm->opts.state_dir, e)) /* the hypervisor's processes may be somebody else's */
		return NULL;
	char *path = device ? mem_printf(e, "%s/%s-%s.qsnap-%s", t->vm->opts.state_dir, t->domain.uuid, p->disk->target,
				      t->out->name)
			    : mem_printf(e, "%s.qsnap-%s", top->path, t->out->name);

	if (!path || lstat(path, &st))
		return path;
	err_fill(e, ERR_USAGE, "%s exists already", path);
	free(path);
	return NULL;
}

char *take_name(const char *name, struct error *e)
{
	char utc[32];
	struct tm tm;
	const time_t now = time(NULL);

	if (!name) {
		strftime(utc, sizeof utc, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
		name = utc;
	}
	if (!*name || strlen(name) > MAX_NAME || strchr(name, '/') || name[0] == '.') {
		err_fill(e, ERR_USAGE,
			"'%s' cannot be a snapshot's name: 1 to %d characters without a slash, no dot in front", name,
			MAX_NAME);
		return NULL;
	}
	for (const char *p = name; *p; p++) {
		if (iscntrl((unsigned char)*p)) {
			err_fill(e, ERR_USAGE, "a control character cannot be in a snapshot's name");
			return NULL;
		}
	}
	return mem_strdup(name, e);
}

/* How large the disk is, and that it has no snapshot of this name. */
static int look_at_disk(const struct take *t, const struct part *p, struct vm_taken_disk *out, struct error *e)
{
	AUTO_CHAIN struct chain *c = NULL;

	if (disk_look(p->path, p->format, &c, e))
		return -1;
	out->size = c->size;
	if (!c->layers[0].q)
		return 0;
	if (qcow2_snapshot_find(c->layers[0].q, &(struct snapshot_query){.name = t->out->name}, e) >= 0)
		return err_set(e, ERR_USAGE, "it has a snapshot '%s' already", t->out->name);
	return e->code == ERR_NOT_FOUND ? 0 : -1;
}

static int look_at_disks(struct take *t, struct error *e)
{
	struct vm_taken *out = t->out;

	out->disks = mem_calloc(t->part_count, sizeof *out->disks, "disks", e);
	if (!out->disks)
		return -1;
	for (unsigned i = 0; i < t->part_count; i++) {
		struct vm_taken_disk *d = &out->disks[out->disk_count++];
		const struct part *p = &t->parts[i];

		d->target = mem_strdup(p->disk->target, e);
		if (!d->target)
			return -1;
		if (look_at_disk(t, p, d, e))
			return err_prefix(e, "disk %s", p->disk->target);
	}
	return 0;
}

static int begin(struct take *t, struct error *e)
{
	const struct vm_take *o = t->opts;

	if (!o->to && !o->keep)
		return err_set(e, ERR_USAGE, "a snapshot that is neither kept nor written anywhere");
	if (t->vm->driver->ops->look(t->vm->driver, t->vm->domain.uuid, &t->domain, e) || take_scope(t, e))
		return -1;
	t->out->name = take_name(o->name, e);
	if (!t->out->name || take_point_look(t, e))
		return -1;
	if (look_at_disks(t, e) || take_targets(t, e) || take_choose(t, e) || take_since(t, e) ||
		take_memory_begin(t, e))
		return -1;
	return take_space(t, e) || take_folder(t, e) || take_since_names(t, e) ? -1 : 0;
}

static int freeze_state(struct take *t, struct error *e)
{
	switch (t->out->mode) {
	case VM_COLD:
		return t->out->via == VM_VIA_OVERLAY ? take_cold_overlay(t, e) : take_cold(t, e);
	case VM_LIVE:
		return take_live(t, e);
	default:
		return t->out->via == VM_VIA_INTERNAL ? take_internal(t, e) : take_overlay(t, e);
	}
}

/* A guest that had to wait for its images waits for nothing else. */
static int start_at_last(struct take *t, struct error *e)
{
	take_let_go(t);
	if (t->out->mode != VM_COLD || !t->extract_stopped)
		return 0;
	if (!t->opts->keep && trace_undo_kind(t->vm, TRACE_INTERNAL, e))
		return -1;
	return take_cold_start(t, e);
}

/* What the user gets is not ours to take back any more: all of it in one step. */
static int keep_results(struct take *t, struct error *e)
{
	const unsigned others[] = {
		t->point, t->manifest, t->memory.trace, t->nvram.trace, t->memory_beside.trace, t->nvram_beside.trace};
	enum { OTHERS = sizeof others / sizeof *others };
	AUTO_FREE unsigned *ids = mem_calloc(2 * (size_t)t->part_count + OTHERS, sizeof *ids, "results", e);
	unsigned count = 0;

	if (!ids)
		return -1;
	for (unsigned i = 0; i < OTHERS; i++)
		if (others[i])
			ids[count++] = others[i];
	for (unsigned i = 0; i < t->part_count; i++) {
		const struct part *p = &t->parts[i];

		if (p->output)
			ids[count++] = p->output;
		if (t->opts->keep && p->trace)
			ids[count++] = p->trace;
	}
	return count ? journal_drop_all(t->vm->journal, ids, count, e) : 0;
}

static void record(const struct take *t)
{
	AUTO_FREE const char **targets = NULL;
	struct error e;

	if (!t->opts->keep)
		return;
	targets = mem_calloc(t->part_count, sizeof *targets, "targets", &e);
	for (unsigned i = 0; targets && i < t->part_count; i++)
		targets[i] = t->parts[i].disk->target;
	vm_record(t->vm, t->out->name, t->out->created, targets, t->part_count, &e);
}

int vm_take(struct vm *vm, const struct vm_take *opts, struct vm_taken *out, struct error *e)
{
	struct vm_take mine = *opts;
	struct take t = {.vm = vm, .opts = &mine, .out = out};
	struct error later;

	if (mine.max_pause)
		vm->opts.max_pause = mine.max_pause;
	mine.max_pause = vm_max_pause(vm);
	*out = (struct vm_taken){0};
	int failed = begin(&t, e) || freeze_state(&t, e) || take_extract(&t, e) || start_at_last(&t, e) ||
		     take_memory_end(&t, e) || take_digests(&t, e) || take_manifest(&t, e) || take_point(&t, e) ||
		     keep_results(&t, e);

	take_let_go(&t);
	if (trace_take_back(vm, failed ? &later : e)) {
		if (failed)
			vm_note(vm, "%s", later.msg);
		failed = -1;
	}
	take_pause_ends(&t);
	if (!failed)
		record(&t);
	else if (t.folder_made)
		(void)rmdir(opts->to); /* it stays where something is in it */
	for (unsigned i = 0; i < t.part_count; i++) {
		free(t.parts[i].path);
		free(t.parts[i].since.id);
		free(t.parts[i].backing);
	}
	free(t.parts);
	take_memory_free(&t);
	driver_domain_free(&t.domain);
	if (failed)
		vm_taken_free(out);
	return failed ? -1 : 0;
}
