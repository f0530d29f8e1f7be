/* SPDX-License-Identifier: Apache-2.0
 *
 * A domain out of a bundle. Everything is checked; then disks are made in a folder of ours; then they get their names, and the catalog
 * is there; and when the hypervisor has the domain it is done (snapshot/import_settle.c).
 *
 * order: the import's trace; the folder's; all files of the bundle proven; disks whole and durable; their traces, which ones they are,
 * their names; memory; the catalog; the definition; all of these traces dropped in one line; the folder goes.
 */
#include "snapshot/import.h"
#include "snapshot/memory.h"

#include <errno.h>
#include <sys/stat.h>

void vm_imported_free(struct vm_imported *i)
{
	for (unsigned k = 0; k < i->disk_count; k++) {
		free((char *)i->disks[k].target);
		free((char *)i->disks[k].path);
	}
	free(i->disks);
	free(i->name);
	free(i->at);
	*i = (struct vm_imported){0};
}

/* ---- who it is ---- */

/* Of this name or UUID. */
static int refuse_domain(const struct import *x, const char *who, struct error *e)
{
	struct driver_domain d = {0};

	if (!x->vm.driver->ops->look(x->vm.driver, who, &d, e)) {
		err_fill(e, ERR_USAGE, "domain '%s' (%s) is there already%s", d.name, d.uuid,
			x->opts->name ? "" : ": --name gives the new one another name and UUID");
		driver_domain_free(&d);
		return -1;
	}
	return e->code == ERR_NOT_FOUND ? 0 : -1;
}

static int name_it(struct import *x, struct error *e)
{
	struct vm_imported *out = x->out;
	const char *name = x->opts->name ? x->opts->name : x->b.domain;

	if (!bundle_domain_fits(name))
		return err_set(e, ERR_USAGE,
			"'%s' cannot be a domain's name: 1 to %d characters without a slash, no dot in front", name,
			BUNDLE_MAX_NAME);
	out->name = mem_strdup(name, e);
	out->at = out->name ? mem_strdup(x->b.catalog.current, e) : NULL;
	out->points = x->b.catalog.count;
	if (!out->at || (x->opts->name && uuid_new(out->uuid, e)))
		return -1;
	if (!x->opts->name)
		snprintf(out->uuid, sizeof out->uuid, "%s", x->b.uuid);
	snprintf(x->vm.domain.uuid, sizeof x->vm.domain.uuid, "%s", out->uuid);
	x->vm.domain.name = mem_strdup(name, e);
	return !x->vm.domain.name || refuse_domain(x, name, e) || refuse_domain(x, out->uuid, e) ? -1 : 0;
}

/* What is left of an earlier import goes; what is left of an earlier domain may be worth something. */
static int take_turn(struct import *x, struct error *e)
{
	if (vm_take_turn(&x->vm, e))
		return -1;
	if (vm_left(&x->vm) && !trace_is_there(&x->vm, TRACE_IMPORT))
		return err_set(e, ERR_UNSUPPORTED,
			"an earlier domain of UUID %s has something left to be taken back: 'vm recover --undefined' "
			"does that",
			x->out->uuid);
	return vm_left(&x->vm) ? trace_take_back(&x->vm, e) : 0;
}

static int begin(struct import *x, struct error *e)
{
	const struct trace t = {.kind = TRACE_IMPORT, .name = x->out->name};
	unsigned folder;

	if (import_places(x, e) || take_turn(x, e) || import_space(x, e))
		return -1;
	x->work = mem_printf(e, "%s/.qsnap-import-%s", x->to, x->out->uuid);
	x->begun = true;
	return !x->work || trace_put(&x->vm, &t, NULL, e) || made_folder(&x->vm, x->work, &folder, e) ? -1 : 0;
}

/* ---- disks ---- */

static char *work_path(const struct import *x, const char *target, struct error *e)
{
	return mem_printf(e, "%s/.%s.qcow2", x->work, target); /* no file of a bundle begins with a dot */
}

/* Which snapshot it is, in the catalog of all points that have this disk. */
static int know_disk(struct import *x, const struct driver_new_file *disk, const char *path, struct error *e)
{
	for (unsigned i = 0; i < x->b.catalog.count; i++) {
		struct vm_point *p = &x->b.catalog.points[i];
		unsigned k = bundle_disk(&x->b, i, disk->target);
		int64_t date;

		if (k == BUNDLE_NONE)
			continue;
		if (disk_snapshot_find(path, p->name, &p->disks[k].id, &date, e) <= 0)
			return -1;
		p->disks[k].path = mem_strdup(disk->path, e);
		if (!p->disks[k].path)
			return -1;
	}
	return 0;
}

/* Only the owner may read it; the hypervisor gives it to whom it must. */
static int finish_file(const char *path, struct error *e)
{
	AUTO_IO struct io *file = NULL;

	if (io_file_open(&file, path, IO_OPEN_WRITE, e))
		return -1;
	if (fchmod(io_file_fd(file), 0600))
		return err_sys(e, errno, "%s", path);
	return io_flush(file, e);
}

static int make_disks(struct import *x, struct error *e)
{
	for (unsigned i = 0; i < x->out->disk_count; i++) {
		const struct driver_new_file *d = &x->out->disks[i];
		AUTO_FREE char *path = work_path(x, d->target, e);

		if (!path || bundle_make_disk(&x->source, &x->vm, &x->b, d->target, path, x->opts->threads, e) ||
			know_disk(x, d, path, e) || finish_file(path, e))
			return err_prefix(e, "disk %s", d->target);
	}
	return 0;
}

static int name_disks(struct import *x, struct error *e)
{
	for (unsigned i = 0; i < x->out->disk_count; i++) {
		const struct driver_new_file *d = &x->out->disks[i];
		AUTO_FREE char *path = work_path(x, d->target, e);

		if (!path || vm_go_on(&x->vm, e) || made_name(&x->vm, TRACE_FILE, path, d->path, NULL, e))
			return -1;
	}
	return 0;
}

/* ---- what else a point has ---- */

/* `head` NULL: as it is. */
static int copy_file(struct import *x, unsigned file, const struct driver_head *head, const char *to, struct error *e)
{
	AUTO_FREE char *from = bundle_path(&x->source, &x->b, file, e);
	const struct driver_head none = {0}, *h = head ? head : &none;
	AUTO_IO struct io *source = NULL;
	unsigned trace;

	vm_step(&x->vm, "copy", NULL);
	return !from || io_file_open(&source, from, IO_OPEN_REGULAR | IO_OPEN_NOFOLLOW, e) ||
			       made_with_head(&x->vm, to, h->bytes, h->len, source, h->from, &trace, e)
		       ? -1
		       : 0;
}

/* It has a definition inside, which is what the hypervisor goes by: the copy has that of the new domain. So it is another file, with a
 * digest of its own. */
static int adapt_memory(struct import *x, struct vm_point *p, unsigned file, struct error *e)
{
	AUTO_FREE char *from = bundle_path(&x->source, &x->b, file, e);
	struct driver_head head;

	if (!from || import_memory_head(x, from, &head, e))
		return err_prefix(e, "the memory of snapshot '%s'", p->name);
	p->memory_bytes = head.len + x->b.files[file].bytes - head.from;
	int failed = copy_file(x, file, &head, p->memory, e);

	free(head.bytes);
	vm_step(&x->vm, "digest", NULL);
	return failed || convert_digest(p->memory, "sha256", x->vm.opts.voice.progress, p->memory_digest, e) ? -1 : 0;
}

/* What QEMU has written of its devices only QEMU can read, and it believes it. */
static int copy_memory(struct import *x, struct vm_point *p, unsigned file, struct error *e)
{
	if (file == BUNDLE_NONE)
		return 0;
	if (!x->opts->trust) {
		vm_note(&x->vm, "the memory of snapshot '%s' is left out: --trust-definition lets it in", p->name);
		return 0;
	}
	p->memory = memory_name(&x->vm, "memory", e);
	return p->memory ? adapt_memory(x, p, file, e) : -1;
}

static int copy_nvram(struct import *x, struct vm_point *p, unsigned file, struct error *e)
{
	if (file == BUNDLE_NONE)
		return 0;
	p->nvram = memory_name(&x->vm, "nvram", e);
	memcpy(p->nvram_digest, x->b.files[file].digest, sizeof p->nvram_digest);
	return p->nvram ? copy_file(x, file, NULL, p->nvram, e) : -1;
}

static int copy_others(struct import *x, struct error *e)
{
	for (unsigned i = 0; i < x->b.catalog.count; i++)
		if (copy_memory(x, &x->b.catalog.points[i], x->b.points[i].memory, e) ||
			copy_nvram(x, &x->b.catalog.points[i], x->b.points[i].nvram, e))
			return -1;
	const unsigned current = bundle_point(&x->b, x->b.catalog.current);

	return x->nvram ? copy_file(x, x->b.points[current].nvram, NULL, x->nvram, e) : 0;
}

/* ---- the domain ---- */

/* When the answer is lost, the hypervisor is asked again: it knows. */
static int create(struct import *x, struct error *e)
{
	struct vm *vm = &x->vm;
	const struct vm_point *at = vm_catalog_find(&x->b.catalog, x->b.catalog.current);
	struct error look;

	if (vm_go_on(&x->vm, e))
		return -1;
	vm_step(vm, "define", NULL);
	int failed = vm->driver->ops->create(vm->driver, x->out->uuid, at->xml, e);

	vm->undefined = false;
	if (!vm_look(vm, failed ? &look : e))
		return import_settle(vm, e) ? -1
		       : trace_is_there(vm, TRACE_IMPORT)
			       ? err_set(e, ERR_CHANGED, "domain '%s' was defined by somebody else meanwhile",
					 x->out->name)
			       : 0;
	vm->undefined = (failed ? look.code : e->code) == ERR_NOT_FOUND;
	return -1;
}

/* The hypervisor's list has them, too. It is not worth a failure. */
static void record(const struct import *x, const struct vm_point *p)
{
	const struct vm *vm = &x->vm;
	struct error e;
	AUTO_FREE const char **targets = mem_calloc(p->disk_count, sizeof *targets, "targets", &e);

	for (unsigned i = 0; targets && i < p->disk_count; i++)
		targets[i] = p->disks[i].target;
	vm_record(vm, p->name, p->created, targets, p->disk_count, &e);
}

static int run(struct import *x, struct error *e)
{
	struct vm *vm = &x->vm;

	return vm->driver->ops->local(vm->driver, e) ||
			       bundle_open(&x->source, vm, x->opts->from, x->opts->stream_fd, &x->b, e) ||
			       name_it(x, e) || begin(x, e) || bundle_take_files(&x->source, vm, &x->b, x->work, e) ||
			       bundle_check_files(&x->source, &x->b, e) || import_definitions(x, e) ||
			       make_disks(x, e) || name_disks(x, e) || copy_others(x, e) ||
			       import_catalog(vm, &x->b.catalog, e) || create(x, e)
		       ? -1
		       : 0;
}

int vm_import(const struct vm_opts *o, const struct vm_import *opts, struct vm_imported *out, struct error *e)
{
	struct import x = {
		.vm = {.opts = *o, .driver = o->driver, .domain = {.state = DRIVER_SHUT_OFF}, .undefined = true},
		.opts = opts,
		.out = out,
		.source = {.fd = -1}};
	struct error later;

	*out = (struct vm_imported){0};
	x.to = vm_absolute(opts->to, e);
	int failed = !x.to || run(&x, e);

	/* Nobody knows whether the domain is there: it is for recovery to find out. */
	const bool unknown = failed && !x.vm.undefined;

	if (x.begun && !unknown && trace_take_back(&x.vm, failed ? &later : e)) {
		if (failed)
			vm_note(&x.vm, "%s", later.msg);
		failed = -1;
	}
	for (unsigned i = 0; !failed && i < x.b.catalog.count; i++)
		record(&x, &x.b.catalog.points[i]);
	const bool left = x.vm.journal && vm_left(&x.vm);

	bundle_close(&x.source);
	bundle_free(&x.b);
	journal_close(x.vm.journal);
	driver_domain_free(&x.vm.domain);
	free(x.to);
	free(x.work);
	free(x.nvram);
	out->left = left;
	return failed ? -1 : 0;
}
