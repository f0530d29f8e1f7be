/* SPDX-License-Identifier: Apache-2.0
 *
 * A command on a domain: its lock, what an earlier one left is taken back first, and what the hypervisor says of it.
 */
#include "snapshot/internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

void vm_step(const struct vm *vm, const char *step, const char *disk)
{
	if (vm->opts.voice.step)
		vm->opts.voice.step(vm->opts.voice.ctx, step, disk);
}

void vm_note(const struct vm *vm, const char *fmt, ...)
{
	char text[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (vm->opts.voice.note)
		vm->opts.voice.note(vm->opts.voice.ctx, text);
}

bool vm_cancelled(const struct vm *vm)
{
	return progress_cancelled(vm->opts.voice.progress);
}

int vm_go_on(const struct vm *vm, struct error *e)
{
	return vm_cancelled(vm) ? err_set(e, ERR_CANCELLED, "cancelled") : 0;
}

bool vm_sleep(const struct vm *vm, unsigned ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	nanosleep(&t, NULL); /* a signal ends it early */
	return !vm_cancelled(vm);
}

int vm_look(struct vm *vm, struct error *e)
{
	struct driver_domain now = {0};

	if (vm->undefined)
		return 0;
	if (vm->driver->ops->look(vm->driver, vm->domain.uuid, &now, e))
		return -1;
	driver_domain_free(&vm->domain);
	vm->domain = now;
	return 0;
}

const struct driver_domain *vm_domain(const struct vm *vm)
{
	return &vm->domain;
}

bool vm_active(const struct vm *vm)
{
	return vm->domain.state != DRIVER_SHUT_OFF;
}

const struct driver_disk *vm_disk(const struct vm *vm, const char *target)
{
	return driver_find_disk(&vm->domain, target);
}

void vm_record(const struct vm *vm, const char *name, int64_t created, const char *const *targets, unsigned count,
	struct error *e)
{
	if (!targets || vm->driver->ops->define_record(vm->driver, vm->domain.uuid, name, created, targets, count, e))
		vm_note(vm, "the hypervisor does not list the snapshot '%s': %s", name, e->msg);
}

unsigned vm_left(const struct vm *vm)
{
	unsigned count = 0;

	if (vm->journal)
		journal_traces(vm->journal, &count);
	return count;
}

static const atomic_bool *cancel_flag(const struct vm_opts *o)
{
	return o->voice.progress ? o->voice.progress->cancel : NULL;
}

int vm_take_turn(struct vm *vm, struct error *e)
{
	const struct vm_opts *o = &vm->opts;

	if (!journal_open(&vm->journal, o->state_dir, vm->domain.uuid, o->wait_seconds, cancel_flag(o), e))
		return 0;
	return e->code == ERR_BUSY ? err_prefix(e, "domain '%s'", vm->domain.name) : -1;
}

int vm_open(struct vm **out, const struct vm_opts *o, struct error *e)
{
	struct vm *vm = mem_calloc(1, sizeof *vm, "domain", e);

	if (!vm)
		return -1;
	vm->opts = *o;
	vm->driver = o->driver;
	int failed =
		vm->driver->ops->local(vm->driver, e) || vm->driver->ops->look(vm->driver, o->domain, &vm->domain, e);

	if (!failed && !o->read_only) {
		failed = vm_take_turn(vm, e) || vm_look(vm, e);
		if (!failed && vm_recover(vm, e)) {
			failed = -1;
			if (e->code == ERR_BUSY) /* what is busy is something else than the domain's lock */
				e->code = ERR_IO;
		}
	}
	if (failed) {
		vm_close(vm);
		return -1;
	}
	*out = vm;
	return 0;
}

void vm_close(struct vm *vm)
{
	if (!vm)
		return;
	vm_let_go(vm);
	journal_close(vm->journal);
	driver_domain_free(&vm->domain);
	free(vm);
}

char *vm_absolute(const char *path, struct error *e)
{
	AUTO_FREE char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);

	if (path[0] == '/')
		return mem_strdup(path, e);
	if (here)
		return mem_printf(e, "%s/%s", here, path);
	err_fill_sys(e, errno, "the current folder");
	return NULL;
}

char *vm_parent(const char *path, struct error *e)
{
	AUTO_FREE char *absolute = vm_absolute(path, e);
	char *slash = absolute ? strrchr(absolute, '/') : NULL;

	if (slash)
		slash[slash == absolute] = 0;
	return STEAL(absolute);
}

/* ---- journals that are there ---- */

static int add_uuid(char ***uuids, unsigned *count, const char *file, struct error *e)
{
	static const char ending[] = ".journal";
	size_t len = strlen(file);

	if (len != DRIVER_UUID_CHARS - 1 + sizeof ending - 1 || strcmp(file + DRIVER_UUID_CHARS - 1, ending) != 0)
		return 0;
	char **more = realloc(*uuids, (*count + 1) * sizeof *more);

	if (!more)
		return err_set(e, ERR_NO_MEMORY, "no memory for a list of journals");
	*uuids = more;
	more[*count] = mem_printf(e, "%.*s", DRIVER_UUID_CHARS - 1, file);
	if (!more[*count])
		return -1;
	++*count;
	return 0;
}

int vm_journals(const char *state_dir, char ***uuids, unsigned *count, struct error *e)
{
	DIR *dir = opendir(state_dir);
	struct dirent *d;
	int failed = 0;

	*uuids = NULL;
	*count = 0;
	if (!dir)
		return errno == ENOENT ? 0 : err_sys(e, errno, "%s", state_dir);
	while (!failed && (d = readdir(dir)))
		failed = add_uuid(uuids, count, d->d_name, e);
	closedir(dir);
	if (!failed)
		return 0;
	while (*count)
		free((*uuids)[--*count]);
	free(*uuids);
	*uuids = NULL;
	return -1;
}
