/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver of tests/unit/scripted_driver.h: the machine itself.
 */
#include "tests/unit/scripted_driver.h"

#include "tests/unit/journal_fault.h"
#include "tests/unit/scripted_internal.h"

#include <check.h>
#include <unistd.h>

/* ---- steps ---- */

int scripted_begin(struct scripted *s, const char *op, struct error *e)
{
	struct world *w = s->w;
	bool now = ++w->steps == w->at;

	for (unsigned i = 0; w->late_definition && i < w->disk_count && world_active(w); i++)
		w->disks[i].defined = w->disks[i].in_use;
	snprintf(w->last_op, sizeof w->last_op, "%s", op);
	if (strcmp(op, "look") != 0)
		world_tick(w);
	if ((now && w->event == EVENT_FAIL) ||
		(w->event == EVENT_LOST && w->steps >= w->at && (!w->lost_steps || w->steps < w->at + w->lost_steps)))
		return err_set(e, ERR_IO, "%s: planned failure", op);
	if (now && w->event == EVENT_DIE)
		_exit(DIED);
	if (now && w->event == EVENT_HOOK)
		w->hook(w);
	return scripted_relock(s, e);
}

int scripted_end(struct scripted *s, struct error *e)
{
	struct world *w = s->w;
	bool now = w->steps == w->at;

	if (scripted_relock(s, e))
		return -1;
	world_tick(w);
	if (now && w->event == EVENT_DIE_AFTER)
		_exit(DIED);
	return now && w->event == EVENT_FAIL_AFTER ? err_set(e, ERR_IO, "%s: the connection is lost", w->last_op) : 0;
}

struct world_disk *scripted_disk(struct scripted *s, const char *target)
{
	for (unsigned i = 0; i < s->w->disk_count; i++)
		if (strcmp(s->w->disks[i].target, target) == 0)
			return &s->w->disks[i];
	ck_abort_msg("no disk %s", target);
	return NULL;
}

static void unlock(struct scripted *s)
{
	while (s->lock_count)
		io_close(s->locks[--s->lock_count]);
}

static int lock(struct scripted *s, const char *path, bool write, struct error *e)
{
	struct io **io = &s->locks[s->lock_count];

	if (io_file_open(io, path, write ? IO_OPEN_WRITE : 0, e))
		return -1;
	s->lock_count++;
	return io_lock(*io, write ? IO_LOCK_WRITE : IO_LOCK_READ, e);
}

int scripted_relock(struct scripted *s, struct error *e)
{
	unlock(s);
	if (!world_active(s->w))
		return 0;
	for (unsigned i = 0; i < s->w->disk_count; i++) {
		const struct world_disk *d = &s->w->disks[i];

		if (d->network)
			continue;
		for (unsigned k = 0; k < d->in_use.count; k++)
			if (lock(s, d->in_use.images[k].path, !k || (k == 1 && d->job == DRIVER_COMMIT), e))
				return -1;
		if (d->job == DRIVER_COPY && lock(s, d->copy_to, true, e))
			return -1;
	}
	return 0;
}

/* ---- the guest ---- */

#define S ((struct scripted *)d)
#define BEGIN(op)                                                                                                      \
	if (scripted_begin(S, op, e))                                                                                  \
	return -1

static int wrong_state(struct scripted *s, struct error *e)
{
	return err_set(e, ERR_IO, "%s: not in state %d", s->w->last_op, s->w->state);
}

static int do_local(struct driver *d, struct error *e)
{
	return scripted_begin(S, "local", e);
}

static int do_list(struct driver *d, char ***uuids, unsigned *count, struct error *e)
{
	BEGIN("list");
	*uuids = malloc(sizeof **uuids);
	**uuids = strdup(WORLD_UUID);
	*count = 1;
	return 0;
}

static int do_suspend(struct driver *d, const char *uuid, struct error *e)
{
	(void)uuid;
	BEGIN("suspend");
	if (!world_active(S->w))
		return wrong_state(S, e);
	S->w->paused_by_user = S->w->paused_by_user || S->w->state == DRIVER_RUNNING;
	S->w->state = DRIVER_PAUSED;
	if (S->w->disks[0].job == DRIVER_COPY)
		world_instant(S->w);
	return scripted_end(S, e);
}

static int do_resume(struct driver *d, const char *uuid, struct error *e)
{
	(void)uuid;
	BEGIN("resume");
	if (S->w->state != DRIVER_PAUSED || S->w->memory == MEMORY_HELD)
		return wrong_state(S, e);
	scripted_run_on(S->w);
	return scripted_end(S, e);
}

static int do_save(struct driver *d, const char *uuid, struct error *e)
{
	struct world *w = S->w;

	(void)uuid;
	BEGIN("save");
	if (!world_active(w) || w->device_attached)
		return wrong_state(S, e);
	w->saved = true;
	w->saved_paused = w->state == DRIVER_PAUSED;
	w->state = DRIVER_SHUT_OFF;
	w->paused_by_user = false;
	world_instant(w);
	world_write_memory(w, WORLD_SAVED);
	for (unsigned i = 0; i < w->disk_count; i++)
		w->disks[i].in_use = w->disks[i].defined;
	return scripted_end(S, e);
}

static int do_saved_path(struct driver *d, const char *uuid, char **path, struct error *e)
{
	char folder[WORLD_PATH];

	(void)uuid;
	BEGIN("saved_path");
	if (!S->w->saved || !getcwd(folder, sizeof folder))
		return wrong_state(S, e);
	*path = mem_printf(e, "%s/%s", folder, WORLD_SAVED);
	return *path ? 0 : -1;
}

static int do_forget_save(struct driver *d, const char *uuid, bool active, struct error *e)
{
	(void)uuid;
	BEGIN("forget_save");
	if (world_active(S->w) != active)
		return wrong_state(S, e);
	S->w->saved = false;
	unlink(WORLD_SAVED);
	return scripted_end(S, e);
}

static int do_destroy(struct driver *d, const char *uuid, struct error *e)
{
	(void)uuid;
	BEGIN("destroy");
	if (!world_active(S->w))
		return wrong_state(S, e);
	S->w->instant_was = true;
	world_crash(S->w);
	return scripted_end(S, e);
}

static int do_define(struct driver *d, const char *uuid, const char *xml, struct error *e)
{
	(void)uuid;
	BEGIN("define");
	snprintf(S->w->xml, sizeof S->w->xml, "%s", xml);
	return scripted_end(S, e);
}

static int do_start(struct driver *d, const char *uuid, bool paused, struct error *e)
{
	struct world *w = S->w;

	(void)uuid;
	BEGIN("start");
	if (w->state != DRIVER_SHUT_OFF)
		return wrong_state(S, e);
	world_settle(w, "started");
	ck_assert_msg(!w->saved || !w->back, "a saved guest was started on other disks");
	w->state = paused || (w->saved && w->saved_paused) ? DRIVER_PAUSED : DRIVER_RUNNING;
	if (scripted_relock(S, e)) {
		w->state = DRIVER_SHUT_OFF;
		return -1;
	}
	if (w->saved)
		unlink(WORLD_SAVED);
	w->saved = w->restored = false;
	w->paused_by_user = w->state == DRIVER_PAUSED;
	return scripted_end(S, e);
}

static int do_restore(struct driver *d, const char *uuid, const char *path, bool paused, struct error *e)
{
	struct world *w = S->w;

	(void)uuid;
	BEGIN("restore");
	if (w->state != DRIVER_SHUT_OFF || w->saved || w->bad_memory)
		return wrong_state(S, e);
	world_settle(w, "restored");
	ck_assert_msg(world_memory_fits(w, path), "the memory of a guest does not fit its disks");
	w->state = paused ? DRIVER_PAUSED : DRIVER_RUNNING;
	if (scripted_relock(S, e)) {
		w->state = DRIVER_SHUT_OFF;
		return -1;
	}
	w->restored = true;
	w->device_attached = false; /* what is saved has none */
	w->paused_by_user = paused;
	return scripted_end(S, e);
}

static int do_device(struct driver *d, const char *uuid, const char *xml, bool attach, struct error *e)
{
	(void)uuid;
	BEGIN(attach ? "attach" : "detach");
	if (strcmp(xml, SCRIPTED_DEVICE) != 0 || S->w->device_attached == attach || !world_active(S->w))
		return wrong_state(S, e);
	S->w->device_attached = attach;
	return scripted_end(S, e);
}

static int do_freeze(struct driver *d, const char *uuid, unsigned seconds, struct error *e)
{
	(void)uuid;
	BEGIN("freeze");
	if (S->w->state != DRIVER_RUNNING || !S->w->agent || S->w->frozen || S->w->no_freeze || !seconds)
		return wrong_state(S, e);
	S->w->frozen = true;
	S->w->freezes++;
	return scripted_end(S, e);
}

static int do_thaw(struct driver *d, const char *uuid, unsigned seconds, struct error *e)
{
	(void)uuid;
	BEGIN("thaw");
	if (S->w->state != DRIVER_RUNNING || !S->w->agent || !seconds)
		return wrong_state(S, e);
	S->w->frozen = false;
	return scripted_end(S, e);
}

static int do_set_time(struct driver *d, const char *uuid, struct error *e)
{
	(void)uuid;
	BEGIN("set_time");
	if (S->w->state != DRIVER_RUNNING || !S->w->agent)
		return wrong_state(S, e);
	S->w->set_times++;
	return scripted_end(S, e);
}

static void do_close(struct driver *d)
{
	unlock(S);
	scripted_memory_close(S);
	free(d);
}

static const struct driver_ops ops = {
	.local = do_local,
	.look = scripted_look,
	.list = do_list,
	.suspend = do_suspend,
	.resume = do_resume,
	.save = do_save,
	.saved_path = do_saved_path,
	.forget_save = do_forget_save,
	.destroy = do_destroy,
	.start = do_start,
	.restore = do_restore,
	.device = do_device,
	.freeze = do_freeze,
	.thaw = do_thaw,
	.set_time = do_set_time,
	.internal_create = scripted_internal_create,
	.internal_delete = scripted_internal_delete,
	.memory_still = scripted_memory_still,
	.memory_begin = scripted_memory_begin,
	.memory_look = scripted_memory_look,
	.memory_patience = scripted_memory_patience,
	.memory_finish = scripted_memory_finish,
	.memory_end = scripted_memory_end,
	.overlay = scripted_overlay,
	.copy = scripted_copy,
	.commit = scripted_commit,
	.job = scripted_job,
	.end_job = scripted_end_job,
	.set_source = scripted_set_source,
	.define = do_define,
	.adapt = scripted_adapt,
	.adapt_memory = scripted_adapt_memory,
	.create = scripted_create,
	.records = scripted_records,
	.define_record = scripted_define_record,
	.forget_record = scripted_forget_record,
	.close = do_close,
};

struct driver *scripted_driver_new(struct world *w)
{
	struct scripted *s = calloc(1, sizeof *s);
	struct error e;

	ck_assert_ptr_nonnull(s);
	s->driver.ops = &ops;
	s->w = w;
	s->memory = -1;
	if (scripted_relock(s, &e))
		ck_abort_msg("%s", e.msg);
	return &s->driver;
}
