/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory and internal snapshots of one instant: the hypervisor writes the memory while the guest runs, and what the guest changes
 * meanwhile again, until little is left. Then it stops the guest; the disks have their snapshots; it writes the rest, and the guest
 * goes on. A hypervisor that would miss some of those changes is given a guest that is paused before all that.
 */
#include "snapshot/memory.h"
#include "snapshot/memory_stream.h"

enum { POLL_MS = 4, HELD_POLL_MS = 1, FEW_ROUNDS = 5, MORE_ROUNDS = 3 };
enum { MEMORYS_SHARE_MS = 750 }; /* of a second that the guest may be held: the disks need some, too */

struct live {
	struct take *t;
	struct memory_stream *stream;
	unsigned last_round; /* with the patience of now */
};

/* A guest that changes its memory as fast as it is written is held for longer, as long as it may be. */
static int see_rounds(struct live *l, const struct driver_memory *m, struct error *e)
{
	struct vm *vm = l->t->vm;
	bool first = l->last_round == FEW_ROUNDS;

	if (m->rounds <= l->last_round)
		return 0;
	l->last_round = m->rounds + MORE_ROUNDS;
	if (!first)
		return err_set(e, ERR_LIMIT,
			"the guest changes its memory so fast that it would be held for more than the %u s that it may",
			l->t->opts->max_pause);
	vm_note(vm, "the guest changes its memory as fast as it is written: it is held for longer, for the last of it");
	return vm->driver->ops->memory_patience(vm->driver, l->t->domain.uuid, l->t->opts->max_pause * MEMORYS_SHARE_MS,
		e);
}

/* Until it is at `wanted`. */
static int wait_for(struct live *l, enum driver_memory_state wanted, struct error *e)
{
	struct vm *vm = l->t->vm;
	struct driver_memory m;

	for (;;) {
		if (memory_stream_error(l->stream, e))
			return -1;
		if (vm->driver->ops->memory_look(vm->driver, l->t->domain.uuid, &m, e)) {
			(void)memory_stream_error(l->stream, e); /* what the hypervisor has noticed by now */
			return -1;
		}
		if (m.state == wanted)
			return 0;
		if (m.state == DRIVER_MEMORY_WRITTEN)
			return err_set(e, ERR_CHANGED, "somebody else has let the guest's memory go on its way");
		progress_report(vm->opts.voice.progress, m.done, m.done + m.left);
		if (take_space_left(l->t, e) || take_deadline(l->t, e))
			return -1;
		if (wanted == DRIVER_MEMORY_HELD && see_rounds(l, &m, e))
			return -1;
		if (!vm_sleep(vm, wanted == DRIVER_MEMORY_HELD ? POLL_MS : HELD_POLL_MS))
			return err_set(e, ERR_CANCELLED, "cancelled");
	}
}

/* Somebody else's is not ours to end. */
static int begin(struct live *l, struct error *e)
{
	struct take *t = l->t;
	struct error later;
	unsigned id;

	if (trace_put(t->vm, &(struct trace){.kind = TRACE_MEMORY}, &id, e))
		return -1;
	vm_step(t->vm, "memory", NULL);
	if (!memory_stream_begin(&l->stream, t->vm->driver, t->domain.uuid, t->memory_still, t->memory_part.path, e))
		return 0;
	if (e->code == ERR_BUSY && journal_drop(t->vm->journal, id, &later))
		vm_note(t->vm, "%s", later.msg);
	return -1;
}

/* While the memory was on its way others could do what they liked. */
static int same_disks(const struct take *t, struct error *e)
{
	struct vm *vm = t->vm;

	if (vm_look(vm, e))
		return -1;
	if (vm->domain.state != DRIVER_PAUSED || vm->domain.job)
		return err_set(e, ERR_CHANGED, "domain '%s' was changed meanwhile", vm->domain.name);
	for (unsigned i = 0; i < t->part_count; i++) {
		const struct driver_disk *d = vm_disk(vm, t->parts[i].disk->target);

		if (!d || d->busy || !d->image_count || !d->images[0].path ||
			!disk_same_file(d->images[0].path, t->parts[i].path))
			return err_set(e, ERR_CHANGED, "disk %s was changed meanwhile", t->parts[i].disk->target);
	}
	return 0;
}

static int at_the_instant(struct live *l, int (*deed)(struct take *t, struct error *e), struct error *e)
{
	struct vm *vm = l->t->vm;

	vm_step(vm, "snapshot", NULL);
	if (same_disks(l->t, e) || deed(l->t, e) || take_nvram(l->t, e) ||
		vm->driver->ops->memory_finish(vm->driver, l->t->domain.uuid, e) ||
		wait_for(l, DRIVER_MEMORY_WRITTEN, e))
		return -1;
	return trace_undo_kind(vm, TRACE_MEMORY, e);
}

/* Who was paused, or is migrated, by somebody else since we looked is not ours to let go on. */
static int pause_first(struct take *t, struct error *e)
{
	struct vm *vm = t->vm;

	if (vm_look(vm, e))
		return -1;
	if (vm->domain.state != DRIVER_RUNNING)
		return err_set(e, ERR_CHANGED, "domain '%s' was stopped meanwhile", vm->domain.name);
	if (vm->domain.job)
		return err_set(e, ERR_BUSY, "domain '%s' is being migrated or saved already", vm->domain.name);
	take_pause_begins(t);
	return take_suspend(t, NULL, e);
}

static int run(struct live *l, int (*deed)(struct take *t, struct error *e), struct error *e)
{
	struct take *t = l->t;

	if ((t->memory_still && pause_first(t, e)) || begin(l, e) || wait_for(l, DRIVER_MEMORY_HELD, e))
		return -1;
	if (!t->memory_still)
		take_pause_begins(t);
	if (at_the_instant(l, deed, e) || trace_undo_kind(t->vm, TRACE_PAUSED, e) ||
		trace_undo_kind(t->vm, TRACE_FROZEN, e))
		return -1;
	take_pause_ends(t);
	if (t->memory_still)
		take_set_clock(t);
	return memory_stream_wait(l->stream, t->vm, e);
}

int take_with_memory(struct take *t, int (*deed)(struct take *t, struct error *e), struct error *e)
{
	struct live l = {.t = t, .last_round = FEW_ROUNDS};
	int failed = take_freeze(t, e) || take_deadline(t, e) || run(&l, deed, e);

	memory_stream_close(l.stream);
	return failed ? -1 : 0;
}
