/* SPDX-License-Identifier: Apache-2.0
 *
 * Live: a block copy of every disk's top runs until all are the same as their sources; then, with the guest suspended for a
 * moment, all jobs end. The copies have the disks' own backing files and are flattened afterwards.
 */
#include "snapshot/internal.h"

enum { POLL_MS = 20 };

static int make_destination(struct take *t, const struct part *p, const char *path, struct error *e)
{
	struct image_create create;
	AUTO_CHAIN struct chain *top = NULL;
	struct target *target;
	struct chain_opts opts;
	struct made made;

	if (p->below_count && (!p->below[0].path || p->below[0].format == DRIVER_FORMAT_OTHER))
		return err_set(e, ERR_UNSUPPORTED, "its backing file is neither a qcow2 nor a raw one on this host");
	disk_chain_opts(p, &opts);
	opts.no_backing = opts.inspect = true;
	opts.lock = IO_LOCK_SHARED;
	if (chain_open(&top, p->disk->images[0].path, &opts, e))
		return -1;
	image_create_defaults(&create, p->format == DRIVER_RAW ? IMAGE_RAW : IMAGE_QCOW2);
	create.size = top->size;
	if (top->layers[0].q) {
		create.cluster_size = 1u << top->layers[0].q->h.cluster_bits;
		create.extended_l2 = top->layers[0].q->h.incompatible & INCOMPAT_EXTENDED_L2;
		create.version = 3;
	}
	if (p->below_count) {
		create.backing_name = p->below[0].path;
		create.backing_format = p->below[0].format == DRIVER_RAW ? "raw" : "qcow2";
	}
	if (made_open(&made, t->vm, path, top->layers[0].file, &target, e))
		return -1;
	int failed = image_create_run(&create, target_io(target), NULL, e) || target_commit(target, e);

	target_close(target);
	return failed ? -1 : 0;
}

static int start_copy(struct take *t, struct part *p, bool synchronous, struct error *e)
{
	struct vm *vm = t->vm;
	AUTO_FREE char *path = take_beside(t, p, e);
	const unsigned flags = (p->below_count ? DRIVER_COPY_SHALLOW : 0u) | (synchronous ? DRIVER_COPY_SYNC : 0u);

	if (!path)
		return -1;
	const struct trace copy = {.kind = TRACE_COPY, .target = p->disk->target, .path = path};

	if (make_destination(t, p, path, e) || trace_put(vm, &copy, NULL, e))
		return -1;
	vm_step(vm, "copy", p->disk->target);
	if (vm->driver->ops->copy(vm->driver, t->domain.uuid,
		    &(struct driver_new_file){.target = p->disk->target, .path = path, .format = p->format}, flags, e))
		return -1;
	free(p->path);
	p->path = STEAL(path);
	return 0;
}

/* All together: 1 when every copy is ready. */
static int look_at_jobs(struct take *t, uint64_t *done, uint64_t *total, struct error *e)
{
	bool ready = true;

	*done = *total = 0;
	for (unsigned i = 0; i < t->part_count; i++) {
		struct driver_job job;
		const char *target = t->parts[i].disk->target;

		if (t->vm->driver->ops->job(t->vm->driver, t->domain.uuid, target, &job, e))
			return -1;
		if (job.kind != DRIVER_COPY)
			return err_set(e, ERR_IO, "disk %s: the block copy stopped", target);
		*done += job.done;
		*total += job.total;
		ready = ready && job.ready;
	}
	return ready;
}

/* 0 ready, 1 the copies do not catch up with the guest. */
static int wait_until_ready(struct take *t, bool forever, struct error *e)
{
	struct catch_up c;
	uint64_t done, total;
	int ready;

	catch_up_begin(&c, t->vm);
	while (!(ready = look_at_jobs(t, &done, &total, e))) {
		progress_report(t->vm->opts.voice.progress, done, total);
		if (take_space_left(t, e))
			return -1;
		if (!vm_sleep(t->vm, POLL_MS))
			return err_set(e, ERR_CANCELLED, "cancelled");
		if (!forever && catch_up_fails(&c, done, total))
			return 1;
	}
	return ready < 0 ? -1 : 0;
}

static int copy_all(struct take *t, bool synchronous, struct error *e)
{
	for (unsigned i = 0; i < t->part_count; i++)
		if (start_copy(t, &t->parts[i], synchronous, e))
			return err_prefix(e, "disk %s", t->parts[i].disk->target);
	int slow = wait_until_ready(t, synchronous, e);

	if (slow <= 0)
		return slow;
	vm_note(t->vm, "the copies do not catch up with the guest: begun again with synchronous writes");
	if (trace_undo_kind(t->vm, TRACE_COPY, e) || trace_undo_kind(t->vm, TRACE_FILE, e))
		return -1;
	return copy_all(t, true, e);
}

/* Each by a call of its own: taking a copy back is content with one that has gone by itself, which would not be whole. */
static int end_jobs(struct take *t, struct error *e)
{
	uint64_t done, total;
	int ready = look_at_jobs(t, &done, &total, e);

	if (ready <= 0)
		return ready < 0 ? -1 : err_set(e, ERR_IO, "the copies are not the same as the disks any more");
	for (unsigned i = 0; i < t->part_count; i++) {
		const char *target = t->parts[i].disk->target;

		if (take_deadline(t, e))
			return -1;
		vm_step(t->vm, "end", target);
		if (t->vm->driver->ops->end_job(t->vm->driver, t->domain.uuid, target, DRIVER_END_WHOLE, e))
			return -1;
	}
	return 0;
}

/* The instant: no guest runs between the end of the first job and of the last. One that paused by itself, or by somebody's
 * wish, stays so. */
static int end_at_once(struct take *t, struct error *e)
{
	struct vm *vm = t->vm;
	unsigned id = 0;

	if (vm_look(vm, e))
		return -1;
	if (vm->domain.state == DRIVER_RUNNING) {
		if (take_suspend(t, &id, e))
			return -1;
	} else if (vm->domain.state != DRIVER_PAUSED) {
		return err_set(e, ERR_CHANGED, "domain '%s' was stopped meanwhile", vm->domain.name);
	}
	if (end_jobs(t, e) || (id && trace_undo(vm, id, e)))
		return -1;
	return trace_undo_kind(vm, TRACE_COPY, e);
}

int take_live(struct take *t, struct error *e)
{
	if (copy_all(t, t->opts->synchronous, e) || take_freeze(t, e))
		return -1;
	take_pause_begins(t); /* the instant of a guest that does not run is any */
	if (end_at_once(t, e))
		return -1;
	take_pause_ends(t);
	return trace_undo_kind(t->vm, TRACE_FROZEN, e);
}
