/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of a bundle, made of a domain's points: definitions, memory, and an image of each disk, as of a snapshot that was just
 * taken. With all points an image has what differs from the point before, and does not say so.
 */
#include "snapshot/export.h"

#include <errno.h>
#include <sys/stat.h>

int export_keep(struct export *x, unsigned trace, struct error *e)
{
	unsigned *more = realloc(x->ids, (x->id_count + 1) * sizeof *more);

	if (!more)
		return err_set(e, ERR_NO_MEMORY, "no memory for a list of files");
	x->ids = more;
	more[x->id_count++] = trace;
	return 0;
}

/* The file is in the folder under this name. */
static int add_file(struct export *x, unsigned point, const char *ending, const char *digest, unsigned *out,
	struct error *e)
{
	struct bundle *b = &x->b;
	struct bundle_file *more = realloc(b->files, (b->file_count + 1) * sizeof *more), *f;

	if (!more)
		return err_set(e, ERR_NO_MEMORY, "no memory for a list of files");
	b->files = more;
	f = &more[b->file_count];
	*f = (struct bundle_file){.name = mem_printf(e, "p%u%s", point, ending)};
	if (!f->name)
		return -1;
	*out = b->file_count++;
	AUTO_FREE char *path = mem_printf(e, "%s/%s", x->folder, f->name);
	struct stat st;

	if (!path)
		return -1;
	if (stat(path, &st))
		return err_sys(e, errno, "%s", path);
	f->bytes = (uint64_t)st.st_size;
	x->out->bytes += f->bytes;
	if (digest) {
		memcpy(f->digest, digest, sizeof f->digest);
		return 0;
	}
	return convert_digest(path, "sha256", x->vm->opts.voice.progress, f->digest, e);
}

static char *file_path(const struct export *x, unsigned point, const char *ending, struct error *e)
{
	return mem_printf(e, "%s/p%u%s", x->folder, point, ending);
}

static int put_definition(struct export *x, unsigned i, struct error *e)
{
	const char *xml = x->b.catalog.points[i].xml;
	AUTO_FREE char *path = file_path(x, i, ".xml", e);
	unsigned trace;

	if (!path || made_of_bytes(x->vm, path, xml, strlen(xml), &trace, e) || export_keep(x, trace, e))
		return -1;
	return add_file(x, i, ".xml", NULL, &x->b.points[i].definition, e);
}

/* `from` NULL: the point has none. `digest`: what it had when it was taken. */
static int put_copy(struct export *x, unsigned i, const char *from, const char *digest, const char *ending,
	unsigned *file, struct error *e)
{
	AUTO_FREE char *path = from ? file_path(x, i, ending, e) : NULL;
	AUTO_IO struct io *source = NULL;
	unsigned trace;

	*file = BUNDLE_NONE;
	if (!from)
		return 0;
	vm_step(x->vm, "copy", NULL);
	if (!path || io_file_open(&source, from, IO_OPEN_REGULAR, e) || made_copy(x->vm, path, source, &trace, e) ||
		export_keep(x, trace, e) || add_file(x, i, ending, NULL, file, e))
		return -1;
	return strcmp(x->b.files[*file].digest, digest) == 0
		       ? 0
		       : err_set(e, ERR_CHANGED, "%s is not what was taken: its SHA-256 is another", from);
}

/* ---- images ---- */

static int fill_part(struct export *x, struct take *t, unsigned i, unsigned k, struct error *e)
{
	const struct vm_point *p = &x->b.catalog.points[i];
	const struct bundle_image *image = &x->b.points[i].images[k];
	const struct driver_disk *d = driver_find_disk(&x->domain, p->disks[k].target);
	struct part *part = &t->parts[k];

	if (!d || !d->image_count || !d->images[0].path)
		return err_set(e, ERR_CHANGED, "disk %s is not there any more", p->disks[k].target);
	*part = (struct part){.disk = d,
		.path = mem_strdup(d->images[0].path, e),
		.format = DRIVER_QCOW2,
		.snapshot = p->name,
		.snapshot_id = p->disks[k].id,
		.below = d->images + 1,
		.below_count = d->image_count - 1,
		.whole_chain = d->whole_chain};
	t->out->disks[k].target = mem_strdup(d->target, e);
	t->out->disks[k].path = mem_printf(e, "%s/p%u-%s.qcow2", x->folder, i, d->target);
	if (!part->path || !t->out->disks[k].target || !t->out->disks[k].path)
		return -1;
	if (image->since == BUNDLE_NONE)
		return 0;
	const unsigned disk = bundle_disk(&x->b, image->since, d->target);
	const struct vm_point *since = &x->b.catalog.points[image->since];
	const struct vm_point_disk *then = &since->disks[disk];

	part->since_name = since->name;
	part->since = (struct vm_point_disk){.date_sec = then->date_sec, .date_nsec = then->date_nsec};
	part->since.id = mem_strdup(then->id, e);
	return part->since.id ? 0 : -1;
}

static int add_images(struct export *x, struct take *t, unsigned i, struct error *e)
{
	struct vm_point *p = &x->b.catalog.points[i];

	for (unsigned k = 0; k < t->part_count; k++) {
		const struct vm_taken_disk *d = &t->out->disks[k];
		AUTO_FREE char *ending = mem_printf(e, "-%s.qcow2", d->target);

		if (!ending || export_keep(x, t->parts[k].output, e) ||
			add_file(x, i, ending, d->digest, &x->b.points[i].images[k].file, e))
			return -1;
		p->disks[k].size = d->size;
	}
	return 0;
}

static int extract(struct export *x, struct take *t, unsigned i, struct error *e)
{
	const unsigned count = x->b.catalog.points[i].disk_count;

	t->parts = mem_calloc(count, sizeof *t->parts, "disks", e);
	t->out->disks = t->parts ? mem_calloc(count, sizeof *t->out->disks, "disks", e) : NULL;
	if (!t->out->disks)
		return -1;
	while (t->part_count < count) {
		t->out->disk_count = ++t->part_count;
		if (fill_part(x, t, i, t->part_count - 1, e))
			return -1;
	}
	if (take_extract(t, e))
		return -1;
	return take_digests(t, e) || add_images(x, t, i, e) ? -1 : 0;
}

/* Which image is a difference to which, then the images, as of a snapshot that was just taken. */
static int put_images(struct export *x, unsigned i, struct error *e)
{
	const struct vm_point *p = &x->b.catalog.points[i];
	struct bundle_point *of = &x->b.points[i];
	const struct vm_take opts = {
		.to = x->folder, .create = x->opts->create, .compress = x->opts->compress, .threads = x->opts->threads};
	struct vm_taken taken = {.mode = VM_INSTANT, .via = VM_VIA_INTERNAL};
	struct take t = {.vm = x->vm, .opts = &opts, .out = &taken};

	of->images = mem_calloc(p->disk_count, sizeof *of->images, "images", e);
	if (!of->images)
		return -1;
	for (unsigned k = 0; k < p->disk_count; k++)
		of->images[k].since = bundle_ancestor(&x->b, i, p->disks[k].target);
	int failed = extract(x, &t, i, e);

	for (unsigned k = 0; k < t.part_count; k++) {
		free(t.parts[k].path);
		free(t.parts[k].since.id);
	}
	free(t.parts);
	vm_taken_free(&taken);
	return failed ? -1 : 0;
}

static int put_point(struct export *x, unsigned i, struct error *e)
{
	const struct vm_point *p = &x->b.catalog.points[i];
	struct bundle_point *of = &x->b.points[i];

	return vm_go_on(x->vm, e) || put_definition(x, i, e) || put_images(x, i, e) ||
			       put_copy(x, i, p->memory, p->memory_digest, ".memory", &of->memory, e) ||
			       put_copy(x, i, p->nvram, p->nvram_digest, ".nvram", &of->nvram, e)
		       ? -1
		       : 0;
}

int export_files(struct export *x, struct error *e)
{
	for (unsigned i = 0; i < x->b.catalog.count; i++)
		if (put_point(x, i, e))
			return err_prefix(e, "snapshot '%s'", x->b.catalog.points[i].name);
	x->out->points = x->b.catalog.count;
	x->out->files = x->b.file_count;
	return 0;
}
